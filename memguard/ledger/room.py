"""What the machine has for jobs of this process: its limits, less a reserve, as leases share them.

Comes in: settings, and a reading of the machine. Goes out: a `Room`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final, Protocol

from memguard.host import MachineReading, read_machine
from memguard.host.readings import MemoryLimit
from memguard.ledger.records import Bound, Room, domain_of
from memguard.units import Size

__all__ = ["Shares", "room_for", "room_in", "scope_of_limit"]

_PHYSICAL: Final = "physical"
_SHARE: Final = "MEMGUARD_CAPACITY"
# Of the reserve: with the other half left, who is alone does not take the machine beyond 95 %.
_SPARE: Final = 0.5


class Shares(Protocol):
    """What of the settings says how much jobs may have."""

    @property
    def capacity(self) -> Size | None:
        """The share of all jobs together; ``None`` for no such bound."""

    @property
    def reserve(self) -> Size:
        """What is kept back."""


def room_for(settings: Shares) -> Room:
    """Read what the machine has for jobs, the reserve for emergencies left out."""
    return room_in(read_machine(), settings)


def room_in(machine: MachineReading, settings: Shares) -> Room:
    """Return what a machine has for jobs, the reserve for emergencies left out.

    The domain is told by the innermost cgroup with a limit and by the share that the settings give to jobs.
    """
    around = (_room_in(_without_inner(machine, count), settings) for count in range(1, len(machine.limits)))
    return replace(_room_in(machine, settings), around=tuple(around))


def _without_inner(machine: MachineReading, count: int) -> MachineReading:
    """Return the machine as it is seen from inside its outermost limits only."""
    limits = machine.limits[:count]
    binding = min(limits, key=lambda limit: limit.limit_bytes)
    available = min(limit.free_bytes for limit in limits)
    return replace(
        machine,
        capacity_bytes=binding.limit_bytes,
        available_bytes=available,
        binding=binding,
        limits=limits,
    )


def _room_in(machine: MachineReading, settings: Shares) -> Room:
    reserve = settings.reserve.resolve(machine.capacity_bytes)
    bounds = tuple(Bound(scope_of_limit(limit), limit.free_bytes - reserve) for limit in machine.limits)
    share = None if settings.capacity is None else settings.capacity.resolve(machine.capacity_bytes)
    room = Room(
        machine.capacity_bytes - reserve,
        machine.available_bytes - reserve,
        machine.binding.source,
        domain=domain_of(bounds[-1].scope, "" if settings.capacity is None else settings.capacity.canonical),
        bounds=bounds,
        spare_bytes=int(reserve * _SPARE),
    )
    if share is None:
        return room
    kept = settings.reserve.resolve(share)
    return replace(room, spare_bytes=int(min(reserve, kept) * _SPARE)).with_share(share - kept, _SHARE)


def scope_of_limit(limit: MemoryLimit) -> str:
    """Return the cgroup whose limit it is, ``""`` for the machine's own."""
    return "" if limit.source == _PHYSICAL else os.path.dirname(limit.path)
