"""What the machine has for jobs of this process: its limits, less a reserve, as leases share them.

Comes in: settings, and a reading of the machine. Goes out: a `Room`.
"""

from __future__ import annotations

import os

from memguard.config import Settings
from memguard.host import MachineReading, read_machine
from memguard.host.readings import MemoryLimit
from memguard.ledger.records import Bound, Room, domain_of

__all__ = ["room_for", "room_in"]

_PHYSICAL = "physical"


def room_for(settings: Settings) -> Room:
    """Read what the machine has for jobs, the reserve for emergencies left out."""
    return room_in(read_machine(), settings)


def room_in(machine: MachineReading, settings: Settings) -> Room:
    """Return what a machine has for jobs, the reserve for emergencies left out.

    The domain is told by the innermost cgroup with a limit and by the share that the settings give to jobs.
    """
    reserve = settings.reserve.resolve(machine.capacity_bytes)
    bounds = tuple(Bound(_scope(limit), limit.free_bytes - reserve) for limit in machine.limits)
    share = None if settings.capacity is None else settings.capacity.resolve(machine.capacity_bytes)
    room = Room(
        machine.capacity_bytes - reserve,
        machine.available_bytes - reserve,
        machine.binding.source,
        domain=domain_of(bounds[-1].scope, "" if settings.capacity is None else settings.capacity.text),
        bounds=bounds,
    )
    return (
        room
        if share is None
        else room.with_share(share - settings.reserve.resolve(share), "MEMGUARD_CAPACITY")
    )


def _scope(limit: MemoryLimit) -> str:
    return "" if limit.source == _PHYSICAL else os.path.dirname(limit.path)
