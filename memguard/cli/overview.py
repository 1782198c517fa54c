"""One look at the machine and at what jobs were promised of it: what ``memguard status`` and ``memguard top`` show.

Comes in: settings. Goes out: an `Overview`. It reads the machine once and the ledger once, changes neither, starts
nobody, and tells what it could not read.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from memguard.config import Settings
from memguard.guard import Pressure, PressureGauge, PressureNow
from memguard.host import MachineReading, is_alive, read_machine, share_of
from memguard.ledger.beacon import Sight
from memguard.ledger.book import boot_seconds
from memguard.ledger.records import Room
from memguard.ledger.room import room_in
from memguard.ledger.snapshot import Snapshot, take_snapshot
from memguard.ledger.standing import Standings, stand

__all__ = ["Growth", "Overview", "Watch", "time_to_reach"]

# A rate over a few looks of a person; what the sentinel reckons with is shorter.
_GROWTH_OVER_S: Final = 5.0
_MACHINE: Final = ""
_KNOWN_STATES: Final = frozenset(int(each) for each in Pressure)


@dataclass(frozen=True, slots=True)
class Overview:
    """What a look found.

    Attributes:
        at_s: when, in seconds since boot.
        wall_time_s: when, in seconds since the epoch.
        machine: what memory there is, the jobs' share among the limits where they have one.
        room: what of it is for jobs.
        ledger: what stands in the ledger.
        standings: how the jobs stand.
        pressure: how short memory is: the sentinel's word, or where none looks, that of this look.
        sentinel: what the sentinel saw; ``None`` where none looks.
        growth: how fast each job grows in bytes a second, by the id of its lease; 0 at the first look.
    """

    at_s: float
    wall_time_s: float
    machine: MachineReading
    room: Room
    ledger: Snapshot
    standings: Standings
    pressure: PressureNow
    sentinel: Sight | None
    growth: dict[str, float]


class Watch:
    """Looks again and again; what one look cannot tell, such as how fast memory fills, it learns from several.

    Args:
        settings: whose share of the machine, and where the ledger is.
        with_actions: also read what the sentinel did.
    """

    def __init__(self, settings: Settings, *, with_actions: bool = True) -> None:
        self._settings = settings
        self._with_actions = with_actions
        self._gauge = PressureGauge()
        self._growth = Growth()

    def look(self) -> Overview:
        """Look once.

        Raises:
            ConfigError: for a share of the machine that leaves no room.
        """
        machine = read_machine()
        room = room_in(machine, self._settings)
        ledger = take_snapshot(self._settings.runtime_dir, room.domain, with_actions=self._with_actions)
        # Not before: a sentinel that looks a hundred times a second has seen more by now than at the start.
        now_s = boot_seconds()
        sight = ledger.sight if ledger.sight is not None and _is_told(ledger.sight, now_s) else None
        closed = sight is not None and bool(sight.is_shut)
        room = dataclasses.replace(room, is_closed=closed)
        standings = stand(ledger.leases, ledger.entry, room, now_s, is_alive)
        if self._settings.capacity is not None:
            share = self._settings.capacity.resolve(machine.capacity_bytes)
            machine = share_of(machine, share, standings.used_bytes)
        pressure = _seen_by(sight) if sight is not None else self._gauged(now_s, machine, standings)
        growth = {
            each.lease.lease_id: self._growth.observe(each.lease.lease_id, now_s, each.lease.used_bytes)
            for each in standings.jobs
        }
        self._growth.forget_all_but(growth.keys() | {_MACHINE})
        return Overview(now_s, time.time(), machine, room, ledger, standings, pressure, sight, growth)

    def _gauged(self, now_s: float, machine: MachineReading, standings: Standings) -> PressureNow:
        # Against the limit with the least left, which need not be the smallest.
        used = machine.capacity_bytes - min(machine.available_bytes, machine.capacity_bytes)
        promised, inside = standings.promised_bytes, standings.inside_bytes
        gauged = self._gauge.observe(now_s, used, promised, inside, machine.capacity_bytes)
        # The gauge looks back for a second at most, and people look less often.
        rate = max(gauged.fill_bytes_per_s, self._growth.observe(_MACHINE, now_s, used - inside), 0.0)
        return dataclasses.replace(
            gauged,
            fill_bytes_per_s=rate,
            time_to_full_s=time_to_reach(machine.capacity_bytes, used + promised, rate),
        )


class Growth:
    """How fast things grow, from the looks of the last seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def observe(self, key: str, at_s: float, used_bytes: int) -> float:
        """Take a reading; returns bytes a second, negative for what shrinks, 0 at the first."""
        seen = self._seen.setdefault(key, deque())
        while seen and at_s - seen[0][0] > _GROWTH_OVER_S:
            seen.popleft()
        seen.append((at_s, used_bytes))
        elapsed_s = at_s - seen[0][0]
        return (used_bytes - seen[0][1]) / elapsed_s if elapsed_s > 0 else 0.0

    def forget_all_but(self, keys: Set[str]) -> None:
        """Forget what is not there any more."""
        for key in self._seen.keys() - keys:
            del self._seen[key]


def time_to_reach(limit_bytes: int, used_bytes: int, bytes_per_s: float) -> float:
    """Return seconds until a limit is reached at a rate; infinite for what does not grow."""
    return max(0, limit_bytes - used_bytes) / bytes_per_s if bytes_per_s > 0 else math.inf


def _is_told(sight: Sight, now_s: float) -> bool:
    """Whether somebody looks, and says it in words that are known here."""
    return sight.is_fresh(now_s) and sight.state in _KNOWN_STATES


def _seen_by(sight: Sight) -> PressureNow:
    return PressureNow(
        Pressure(sight.state),
        sight.since_s,
        sight.used_fraction,
        sight.fill_bytes_per_s,
        sight.time_to_full_s,
        sight.next_look_s,
    )
