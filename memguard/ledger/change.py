"""One change of the ledger, from what stood there to what stands there next, inside one transaction.

Comes in: a transaction, and the machine and the board as they were seen just before. Goes out: rows, and who was
granted his wish by it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from memguard.errors import CapacityExceeded, LedgerError
from memguard.host.readings import ProcessIdentity
from memguard.ledger.admission import admitted, can_grow, free_bytes, in_order
from memguard.ledger.board import SLOTS
from memguard.ledger.inside import fitted_bytes, room_inside
from memguard.ledger.records import Lease, Room
from memguard.ledger.store import Transaction
from memguard.units import format_bytes

__all__ = ["Change", "LedgerFull"]

_MACHINE: Final = ""


class LedgerFull(LedgerError):  # noqa: N818 - it says what is so, as the whole tree of errors does
    """Each slot of the board is a lease's."""


# Each time that so many leases more are there their owners are looked at: 10 us for each.
_MANY: Final = 32


class Change:
    """What happens inside one transaction.

    Attributes:
        leases: all leases, by id, as they stand now.
        granted: those that were granted, in order.
    """

    def __init__(
        self, transaction: Transaction, room: Room, used_of: Callable[[int, int], int], now_s: float
    ) -> None:
        self._transaction = transaction
        self._room = room
        self._now_s = now_s
        self.leases = {lease.lease_id: lease for lease in transaction.leases(used_of)}
        self.granted: list[Lease] = []

    @property
    def is_crowded(self) -> bool:
        """Whether it is time to look for the dead among the leases: no place is left, or so many came since.

        Else nobody would where no one waits: of what is killed and was granted at once the leases would stay.
        """
        count = len(self.leases)
        return count >= SLOTS or (count >= _MANY and count % _MANY == 0)

    def free_slot(self, wanted: int = 0) -> int:
        """Return a slot of the board that no lease has: the one that is wanted if it is free, else the lowest.

        Raises:
            LedgerFull: if there is none.
        """
        taken = {lease.slot for lease in self.leases.values()}
        if wanted not in taken:
            return wanted
        for slot in range(SLOTS):
            if slot not in taken:
                return slot
        raise LedgerFull(f"the ledger holds {SLOTS} leases, and no more", path="board")

    def add(self, lease: Lease) -> None:
        """Write a wish down.

        Raises:
            CapacityExceeded: if it could not be granted if nobody else had anything.
        """
        parent = self.leases.get(lease.parent_id)
        if parent is None:  # the machine, or what it would draw on has ended
            lease = dataclasses.replace(lease, parent_id=_MACHINE)
            self._check_size(lease)
        else:
            # Its bound is its guard's to check; here it can have no more than there can be to be shared.
            lease = _cut(lease, max(parent.reserved_bytes, parent.limit_bytes))
        self.restore(lease)
        self.refit()

    def hold(self, lease: Lease) -> None:
        """Write a lease down that holds at once what it can have, up to its wish, and never waits."""
        pool = self._pool(lease.parent_id if lease.parent_id in self.leases else _MACHINE)
        waiting = any(not each.is_granted for each in pool)
        room = self.room_of(lease.parent_id)
        free = (
            0 if room.is_closed or waiting else free_bytes(room, (each for each in pool if each.is_granted))
        )
        self.add(dataclasses.replace(_cut(lease, free), granted_at_s=self._now_s))

    def restore(self, lease: Lease) -> None:
        """Write a lease down as it is."""
        self._transaction.insert(lease)
        self.leases[lease.lease_id] = lease

    def _check_size(self, lease: Lease) -> None:
        room = self._room
        if lease.reserved_bytes > room.capacity_bytes:
            raise CapacityExceeded(
                f"{lease.name} asks for {format_bytes(lease.reserved_bytes)}, and there are never more than "
                f"{format_bytes(room.capacity_bytes)} for jobs ({room.limited_by}); ask for at most that",
                requested_bytes=lease.reserved_bytes,
                capacity_bytes=room.capacity_bytes,
                limited_by=room.limited_by,
            )

    def remove(self, lease_id: str) -> None:
        """Strike a lease; what draws on its memory draws on what is around it from now on."""
        gone = self.leases.pop(lease_id, None)
        if gone is None:
            return
        self._transaction.delete(lease_id)
        for each in self._inside(lease_id):
            self.leases[each.lease_id] = dataclasses.replace(each, parent_id=gone.parent_id)

    def remove_of(self, owner: ProcessIdentity, lease_id: str) -> None:
        """Strike a lease if it is the owner's: a forked copy of him has none of his."""
        lease = self.leases.get(lease_id)
        if lease is not None and lease.owner == owner:
            self.remove(lease_id)

    def reclaim(self, is_alive: Callable[[ProcessIdentity], bool]) -> tuple[Lease, ...]:
        """Strike the leases whose owner is proven dead; returns them."""
        alive = {owner: is_alive(owner) for owner in {lease.owner for lease in self.leases.values()}}
        gone = tuple(lease for lease in self.leases.values() if not alive[lease.owner])
        for lease in gone:
            self.remove(lease.lease_id)
        return gone

    def grow(self, lease_id: str, extra_bytes: int) -> bool:
        """Give a lease more if that is free and nobody waits for it; never waits."""
        lease = self.leases.get(lease_id)
        if lease is None or not lease.is_granted:
            return False
        grown = self._fitted(dataclasses.replace(lease, own_bytes=max(0, lease.own_bytes + extra_bytes)))
        lacking = grown.reserved_bytes - lease.reserved_bytes
        granted, waiting = self._parted(lease.parent_id)
        if lacking > 0 and not can_grow(self.room_of(lease.parent_id), granted, waiting, lacking):
            return False
        self._resize(grown)
        self.refit()
        return True

    def admit(self) -> None:
        """Grant every wish whose turn it is, in all pools."""
        for parent_id in {lease.parent_id for lease in self.leases.values() if not lease.is_granted}:
            for lease in self._due(parent_id):
                granted = dataclasses.replace(lease, granted_at_s=self._now_s)
                self._transaction.grant(lease.lease_id, self._now_s)
                self.leases[lease.lease_id] = granted
                self.granted.append(granted)
            self.refit()

    def _due(self, parent_id: str) -> list[Lease]:
        granted, waiting = self._parted(parent_id)
        room = self.room_of(parent_id)
        due = admitted(room, granted, waiting, self._now_s)
        if due or granted or parent_id not in self.leases:
            return due
        first = in_order(waiting, self._now_s)[0]
        if self._room.of_domain(self._outermost(first).domain) is None:
            return []  # by how much the lease around him could grow is not seen from here
        # Nobody beside him will make room, and the job around him holds memory: such a one never waits for others.
        had = _cut(first, free_bytes(room, ()))
        self._resize(had)
        return [had]

    def _outermost(self, lease: Lease) -> Lease:
        parent = self.leases.get(lease.parent_id)
        return lease if parent is None else self._outermost(parent)

    def refit(self) -> None:
        """See that what is promised to each lease is as much as those inside it were promised, the innermost first."""
        around = {lease.parent_id for lease in self.leases.values()}
        changing = [
            lease
            for lease in self.leases.values()
            if lease.lease_id in around or lease.reserved_bytes != lease.own_bytes
        ]
        for lease in sorted(changing, key=self._depth, reverse=True):
            fitted = self._fitted(lease)
            if fitted != lease:
                self._resize(fitted)

    def _fitted(self, lease: Lease) -> Lease:
        return dataclasses.replace(lease, reserved_bytes=fitted_bytes(lease, self._inside(lease.lease_id)))

    def _depth(self, lease: Lease) -> int:
        parent = self.leases.get(lease.parent_id)
        return 0 if parent is None else 1 + self._depth(parent)

    def _resize(self, lease: Lease) -> None:
        self._transaction.resize(lease.lease_id, lease.reserved_bytes, lease.own_bytes)
        self.leases[lease.lease_id] = lease

    def room_of(self, parent_id: str) -> Room:
        """Return what the leases share that draw on a lease, or on the machine."""
        parent = self.leases.get(parent_id)
        if parent is None:
            return self._beside_jobs(self._room)
        return room_inside(parent, self._inside(parent_id), self._growable_bytes(parent))

    def _beside_jobs(self, room: Room) -> Room:
        """Return a room of the machine's with what its own jobs use, and others were promised, taken off."""
        roots = self._inside(_MACHINE)
        used = sum(each.used_bytes for each in roots if each.domain == room.domain)
        return room.beside_others(roots).beside(used)

    def _growable_bytes(self, lease: Lease) -> int:
        """Return by how much a lease could grow now; never what others wait for."""
        if lease.parent_id in self.leases:
            room: Room | None = self.room_of(lease.parent_id)
        else:
            room = self._room.of_domain(lease.domain)
            room = None if room is None else self._beside_jobs(room)
        granted, waiting = self._parted(lease.parent_id, lease.domain)
        if room is None or room.is_closed or waiting or not lease.is_granted:
            return 0
        return max(0, free_bytes(room, granted))

    def _parted(self, parent_id: str, domain: str | None = None) -> tuple[list[Lease], list[Lease]]:
        """Return who of a pool holds some, and who waits."""
        pool = self._pool(parent_id, domain)
        return [each for each in pool if each.is_granted], [each for each in pool if not each.is_granted]

    def _pool(self, parent_id: str, domain: str | None = None) -> list[Lease]:
        """Return the leases that share one room: of the machine's, only those of one domain, else this process's."""
        domain = self._room.domain if domain is None else domain
        return [each for each in self._inside(parent_id) if parent_id or each.domain == domain]

    def _inside(self, parent_id: str) -> list[Lease]:
        return [lease for lease in self.leases.values() if lease.parent_id == parent_id]


def _cut(lease: Lease, most_bytes: int) -> Lease:
    had = max(0, min(lease.reserved_bytes, most_bytes))
    return dataclasses.replace(lease, reserved_bytes=had, own_bytes=had)
