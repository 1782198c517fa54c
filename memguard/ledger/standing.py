"""How jobs stand: what each has, what is asked of it, and why who waits still waits. Pure: a snapshot in, records out.

Comes in: the leases and what stands on the board for them, whose owners are alive, and the room. Goes out: a `Standing`
a lease, with those inside a lease right after it, and the sums. It decides nothing: it says what
`memguard.ledger.admission` decides by.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from memguard.host.readings import ProcessIdentity
from memguard.ledger.admission import free_bytes, in_order
from memguard.ledger.board import Ask, Entry
from memguard.ledger.inside import room_inside
from memguard.ledger.records import Lease, Room
from memguard.units import MIB, format_bytes

__all__ = ["JobState", "Standing", "Standings", "counts_in", "free_for", "stand"]

# Who has most is named; a line that names all of a thousand is not read.
_MOST_NAMED: Final = 3
# What other programs use is worth a word from here on.
_WORTH_TELLING_BYTES: Final = 16 * MIB


class JobState(StrEnum):
    """What a job does, or is asked to do."""

    RUNNING = "running"
    WAITING = "waiting"
    ASKED_TO_SHED = "asked_to_shed"
    ASKED_TO_GO_LIGHT = "asked_to_go_light"
    ASKED_TO_STOP = "asked_to_stop"
    THROTTLED = "throttled"
    FROZEN = "frozen"
    BEING_KILLED = "being_killed"
    GONE = "gone"


_STATES: Final = {
    Ask.NOTHING: JobState.RUNNING,
    Ask.SHED: JobState.ASKED_TO_SHED,
    Ask.LIGHT: JobState.ASKED_TO_GO_LIGHT,
    Ask.STOP: JobState.ASKED_TO_STOP,
    Ask.WAIT: JobState.THROTTLED,
    Ask.FROZEN: JobState.FROZEN,
    Ask.KILL: JobState.BEING_KILLED,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How one job stands.

    Attributes:
        lease: its lease or wish.
        entry: what stands on the board for it.
        state: what it does; ``GONE`` when its owner is dead and nobody has struck its lease yet.
        depth: inside how many other leases it is.
        since_s: since when it runs or waits, in seconds since boot.
        waits_for: why it waits, in a sentence; ``""`` for who does not.
    """

    lease: Lease
    entry: Entry
    state: JobState
    depth: int
    since_s: float
    waits_for: str = ""

    @property
    def peak_bytes(self) -> int:
        """The most it was seen to use."""
        return max(self.entry.peak_bytes, self.lease.used_bytes)


@dataclass(frozen=True, slots=True)
class Standings:
    """How all of them stand.

    Attributes:
        jobs: in the order in which they asked, who is inside a lease after it; the gone last.
        reserved_bytes: what is promised to those who draw on this room.
        promised_bytes: the part of it that is not used yet.
        inside_bytes: the part of it that is used.
        used_bytes: what they use.
        free_bytes: what could be promised now; 0 while nothing is.
        running: how many of them hold memory.
        waiting: how many of all wait.
    """

    jobs: tuple[Standing, ...]
    reserved_bytes: int
    promised_bytes: int
    inside_bytes: int
    used_bytes: int
    free_bytes: int
    running: int
    waiting: int


def stand(
    leases: Iterable[Lease],
    entry_of: Callable[[Lease], Entry],
    room: Room,
    now_s: float,
    alive: Callable[[ProcessIdentity], bool] = lambda _: True,
) -> Standings:
    """Tell how all jobs stand.

    Args:
        leases: all leases and wishes, in the order in which they were asked for.
        entry_of: what stands on the board for one.
        room: what the machine has for jobs of whoever asks.
        now_s: seconds since boot.
        alive: whether a process still runs; False on proof alone.
    """
    everyone = tuple(leases)
    is_alive = {owner: alive(owner) for owner in {lease.owner for lease in everyone}}
    living = _without(everyone, {each.lease_id for each in everyone if not is_alive[each.owner]})
    pools = _Pools(living, room, now_s)
    jobs = [
        _standing(lease, depth, entry_of(lease), "" if lease.is_granted else pools.why(lease))
        for lease, depth in _nested(living)
    ]
    gone = [
        Standing(each, entry_of(each), JobState.GONE, 0, each.granted_at_s or each.asked_at_s)
        for each in everyone
        if not is_alive[each.owner]
    ]
    mine = [each for each in living if not each.parent_id and each.is_granted and counts_in(room, each)]
    return Standings(
        jobs=(*jobs, *gone),
        reserved_bytes=sum(each.reserved_bytes for each in mine),
        promised_bytes=sum(each.outstanding_bytes for each in mine),
        inside_bytes=sum(each.inside_bytes for each in mine),
        used_bytes=sum(each.used_bytes for each in mine),
        free_bytes=0 if room.is_closed else pools.pool("").free_bytes,
        running=sum(not each.is_pool for each in mine),
        waiting=sum(not each.is_granted for each in living),
    )


def free_for(leases: Sequence[Lease], room: Room, now_s: float, parent_id: str) -> int:
    """Return what could be promised now to those who draw on a lease, or on the machine (``""``)."""
    return _Pools(leases, room, now_s).pool(parent_id).free_bytes


def _standing(lease: Lease, depth: int, entry: Entry, waits_for: str) -> Standing:
    if lease.granted_at_s is None:
        return Standing(lease, entry, JobState.WAITING, depth, lease.asked_at_s, waits_for)
    return Standing(lease, entry, _STATES[entry.asked], depth, lease.granted_at_s)


def counts_in(room: Room, lease: Lease) -> bool:
    """Whether what a lease has is taken from a room; of a share only its own leases are."""
    covered = any(bound.covers(lease.domain) for bound in room.bounds)
    return lease.domain == room.domain or (room.share_bytes is None and covered)


def _without(leases: Sequence[Lease], gone: set[str]) -> list[Lease]:
    """Return leases as they will stand when the gone are struck: who drew on one draws on what is around it."""
    by_id = {lease.lease_id: lease for lease in leases}

    def parent(lease: Lease) -> str:
        parent_id = lease.parent_id
        while parent_id in gone:
            parent_id = by_id[parent_id].parent_id
        return parent_id if parent_id in by_id else ""

    return [dataclasses.replace(each, parent_id=parent(each)) for each in leases if each.lease_id not in gone]


def _nested(leases: Sequence[Lease]) -> list[tuple[Lease, int]]:
    inside: dict[str, list[Lease]] = {}
    for lease in leases:
        inside.setdefault(lease.parent_id, []).append(lease)

    def below(parent_id: str, depth: int) -> list[tuple[Lease, int]]:
        return [
            each
            for lease in inside.get(parent_id, [])
            for each in ((lease, depth), *below(lease.lease_id, depth + 1))
        ]

    return below("", 0)


class _Pools:
    """Those who share one room each, what is free for them and who is first in line; each is worked out once."""

    def __init__(self, leases: Sequence[Lease], room: Room, now_s: float) -> None:
        self._leases = leases
        self._by_id = {lease.lease_id: lease for lease in leases}
        self._room = room
        self._now_s = now_s
        self._pools: dict[str, _Pool] = {}

    def why(self, wish: Lease) -> str:
        """Say why a wish is not granted."""
        needs = f"needs {format_bytes(wish.reserved_bytes)}"
        if not wish.parent_id and wish.domain != self._room.domain:
            return (
                f"{needs} of other memory than this process's: a container's, or another share of the machine"
            )
        if not wish.parent_id and self._room.is_closed:
            return f"{needs}; nothing is given out while memory is short"
        return self.pool(wish.parent_id).why(wish)

    def pool(self, parent_id: str) -> _Pool:
        """Return those who draw on a lease, or on the machine."""
        if parent_id not in self._pools:
            inside = [each for each in self._leases if each.parent_id == parent_id]
            parent = self._by_id.get(parent_id)
            self._pools[parent_id] = (
                self._of_machine(inside) if parent is None else self._of_lease(parent, inside)
            )
        return self._pools[parent_id]

    def _of_machine(self, roots: Sequence[Lease]) -> _Pool:
        room = self._room
        own = [each for each in roots if each.domain == room.domain]
        used = sum(each.used_bytes for each in own if each.is_granted)
        holders = [each for each in roots if each.is_granted and counts_in(room, each)]
        free = free_bytes(room.beside_others(roots).beside(used), (each for each in own if each.is_granted))
        return _Pool(own, holders, free, room.capacity_bytes, self._now_s)

    def _of_lease(self, parent: Lease, inside: Sequence[Lease]) -> _Pool:
        holders = [each for each in inside if each.is_granted]
        room = room_inside(parent, inside, self._growable_bytes(parent))
        free = free_bytes(room, holders)
        place = f" inside {parent.name}"
        return _Pool(inside, holders, free, parent.reserved_bytes, self._now_s, place=place)

    def _growable_bytes(self, lease: Lease) -> int:
        if lease.parent_id in self._by_id:
            around = self.pool(lease.parent_id)
            return 0 if around.has_waiting else around.free_bytes
        room = self._room.of_domain(lease.domain)
        if room is None or room.is_closed:
            return 0
        around = _Pools(self._leases, room, self._now_s).pool("")
        return 0 if around.has_waiting else around.free_bytes


class _Pool:
    """Those who share one room.

    Attributes:
        free_bytes: what can be promised to them.
        has_waiting: whether somebody waits for it.
    """

    def __init__(
        self,
        leases: Sequence[Lease],
        holders: Sequence[Lease],
        free: int,
        capacity_bytes: int,
        now_s: float,
        *,
        place: str = "",
    ) -> None:
        self.free_bytes = max(0, free)
        self._place = place
        self._order = in_order((each for each in leases if not each.is_granted), now_s)
        self.has_waiting = bool(self._order)
        self._ranks = {each.lease_id: rank for rank, each in enumerate(self._order)}
        self._held = _held(holders, capacity_bytes - self.free_bytes)

    def why(self, wish: Lease) -> str:
        """Say why a wish is not granted."""
        before = self._ranks[wish.lease_id]
        lacking = wish.reserved_bytes > self.free_bytes
        parts = [
            f"needs {format_bytes(wish.reserved_bytes)}, {format_bytes(self.free_bytes)} are free{self._place}"
        ]
        if before:
            would = "" if lacking else " would wait longer"
            parts.append(f"{before} before it{would}: {_named(self._order[:before], _wanted)}")
        if lacking and self._held:
            parts.append(self._held)
        return "; ".join(parts) if lacking or before else f"{parts[0]}: it starts at its next look"


def _held(holders: Sequence[Lease], taken_bytes: int) -> str:
    """Say who has what: the jobs, the largest first, and other programs where they use what no job has."""
    elsewhere = taken_bytes - sum(each.held_bytes for each in holders)
    largest = sorted(holders, key=lambda each: -each.held_bytes)
    told = [f"held by {_named(largest, lambda each: each.held_bytes)}"] if holders else []
    if elsewhere >= _WORTH_TELLING_BYTES:
        told.append(f"other programs use {format_bytes(elsewhere)}")
    return "; ".join(told)


def _wanted(lease: Lease) -> int:
    return lease.reserved_bytes


def _named(leases: Sequence[Lease], size: Callable[[Lease], int]) -> str:
    told = [
        f"{each.name} (pid {each.owner.pid}): {format_bytes(size(each))}" for each in leases[:_MOST_NAMED]
    ]
    more = [f"{len(leases) - _MOST_NAMED} more"] if len(leases) > _MOST_NAMED else []
    return ", ".join([*told, *more])
