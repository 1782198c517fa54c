"""Who of those who wait gets memory now. Pure: records in, decisions out; `memguard.ledger.book` carries them out.

Comes in: the room of one pool, the leases that hold some of it and those that wait for it. Goes out: the waiting ones
to grant, in order. Never more is promised than is there: what is free is what nobody uses, less what is promised to
somebody and not yet used. Begin with `admitted`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from memguard.ledger.records import Lease, Room
from memguard.units import MIB

__all__ = ["AGING_S", "admitted", "can_grow", "free_bytes", "in_order", "slack_bytes"]

# Whoever has waited this long counts as one priority higher, and so on: in the end everybody is first.
AGING_S: Final = 60.0


def free_bytes(room: Room, granted: Iterable[Lease]) -> int:
    """Return what can be promised: what is available, less what was promised and is not used yet.

    Nor more than there is beside all that is held: memory that a job gave back a moment ago is available at once, while
    its guard still tells that it is used. It was promised to that job, which may take it again.
    """
    holders = list(granted)
    unused = room.available_bytes - sum(lease.outstanding_bytes for lease in holders)
    # Of caches only the use counts: a job may have all that there is for jobs, and a cache never ends.
    return min(unused, room.capacity_bytes - sum(each.held_bytes for each in holders if not each.is_pool))


def in_order(waiting: Iterable[Lease], now_s: float) -> list[Lease]:
    """Return those who wait, the first to be served first: by priority and age, then first come, first served."""

    def rank(lease: Lease) -> tuple[int, float, str]:
        aged = int(max(0.0, now_s - lease.asked_at_s) / AGING_S)
        return -(lease.priority + aged), lease.asked_at_s, lease.lease_id

    return sorted(waiting, key=rank)


def admitted(room: Room, granted: Iterable[Lease], waiting: Iterable[Lease], now_s: float) -> list[Lease]:
    """Return the leases to grant now.

    Args:
        room: what there is.
        granted: the leases that hold some of it.
        waiting: those that wait.
        now_s: seconds since boot.

    The first in line gets what is free as soon as it is enough. Where nobody holds anything he may have a part of
    the reserve as well: no end of a job would make more room for him, and those who wait use some memory
    themselves. Behind one who must wait, others may start only where that cannot make him wait longer
    (`slack_bytes`).
    """
    holders, chosen = list(granted), list[Lease]()
    if room.is_closed:
        return chosen
    free = free_bytes(room, holders)
    blocked: Lease | None = None
    sums: _Sums | None = None
    for lease in in_order(waiting, now_s):
        if all(each.is_pool for each in holders) and free < lease.reserved_bytes <= free + room.spare_bytes:
            chosen.append(lease)
            break
        most = free
        if blocked is not None and lease.reserved_bytes <= free:
            sums = sums or _Sums(holders)
            most = min(free, sums.slack_bytes(blocked.reserved_bytes, free))
        if lease.reserved_bytes > most:
            blocked = blocked or lease
            continue
        chosen.append(lease)
        holders.append(lease)
        free -= lease.reserved_bytes
        if sums is not None:
            sums.add(lease)
    return chosen


class _Sums:
    """What sets of holders give back, in whole MiB; made once for all who wait: there may be hundreds of both."""

    def __init__(self, holders: Iterable[Lease]) -> None:
        self._reachable, self._count = (
            1,
            0,
        )  # bit n: some set gives back n MiB and less than one MiB a holder more
        for lease in holders:
            if not lease.is_pool:
                self.add(lease)

    def add(self, lease: Lease) -> None:
        self._reachable |= self._reachable << (lease.held_bytes // MIB)
        self._count += 1

    def slack_bytes(self, wanted_bytes: int, free: int) -> int:
        lacking_mib = -((free - wanted_bytes) // MIB)
        from_mib = max(0, lacking_mib - self._count)
        enough = self._reachable >> from_mib
        if not enough:
            return 0  # not even all of them would do: something else must end first, and every byte may matter then
        least_mib = from_mib + (enough & -enough).bit_length() - 1
        return max(0, least_mib - lacking_mib) * MIB


def slack_bytes(wanted_bytes: int, free: int, holders: Sequence[Lease]) -> int:
    """Return how much may be given away without making somebody wait longer who wants ``wanted_bytes``.

    Nobody knows which holder ends when. He can start as soon as a set of them has ended that leaves enough; the one
    that leaves the least to spare tells what others may take. Sums are kept in whole MiB, rounded so that the answer
    errs towards him.

    Args:
        wanted_bytes: what he waits for; more than is free.
        free: what is free now.
        holders: who holds memory.
    """
    return _Sums(holders).slack_bytes(wanted_bytes, free)


def can_grow(room: Room, granted: Iterable[Lease], waiting: Iterable[Lease], extra_bytes: int) -> bool:
    """Whether a lease may have more at once: there is room, and nobody waits for it."""
    return not room.is_closed and not any(True for _ in waiting) and extra_bytes <= free_bytes(room, granted)
