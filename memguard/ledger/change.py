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
from memguard.ledger.admission import admitted, can_grow, free_bytes
from memguard.ledger.board import SLOTS
from memguard.ledger.records import Lease, Room
from memguard.ledger.store import Transaction
from memguard.units import format_bytes

__all__ = ["Change", "LedgerFull"]

_MACHINE: Final = ""


class LedgerFull(LedgerError):  # noqa: N818 - it says what is so, as the whole tree of errors does
    """Each slot of the board is a lease's."""


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
            # Its bound is its guard's to check; here it can have no more than there is to be shared.
            lease = dataclasses.replace(
                lease, reserved_bytes=min(lease.reserved_bytes, parent.reserved_bytes)
            )
        self.restore(lease)

    def hold(self, lease: Lease) -> None:
        """Write a lease down that holds at once what it can have, up to its wish, and never waits."""
        pool = self._pool(lease.parent_id if lease.parent_id in self.leases else _MACHINE)
        waiting = any(not each.is_granted for each in pool)
        room = self.room_of(lease.parent_id)
        free = (
            0 if room.is_closed or waiting else free_bytes(room, (each for each in pool if each.is_granted))
        )
        had = max(0, min(lease.reserved_bytes, free))
        self.add(dataclasses.replace(lease, reserved_bytes=had, granted_at_s=self._now_s))

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
        pool = self._pool(lease.parent_id)
        granted = [each for each in pool if each.is_granted]
        waiting = [each for each in pool if not each.is_granted]
        if extra_bytes > 0 and not can_grow(self.room_of(lease.parent_id), granted, waiting, extra_bytes):
            return False
        grown = dataclasses.replace(lease, reserved_bytes=max(0, lease.reserved_bytes + extra_bytes))
        self._transaction.resize(lease_id, grown.reserved_bytes)
        self.leases[lease_id] = grown
        return True

    def admit(self) -> None:
        """Grant every wish whose turn it is, in all pools."""
        for parent_id in {lease.parent_id for lease in self.leases.values() if not lease.is_granted}:
            pool = self._pool(parent_id)
            holders = [lease for lease in pool if lease.is_granted]
            waiting = [lease for lease in pool if not lease.is_granted]
            for lease in admitted(self.room_of(parent_id), holders, waiting, self._now_s):
                granted = dataclasses.replace(lease, granted_at_s=self._now_s)
                self._transaction.grant(lease.lease_id, self._now_s)
                self.leases[lease.lease_id] = granted
                self.granted.append(granted)

    def room_of(self, parent_id: str) -> Room:
        """Return what the leases share that draw on a lease, or on the machine."""
        parent = self.leases.get(parent_id)
        if parent is None:
            used = sum(each.used_bytes for each in self._pool(_MACHINE))
            return self._room.beside_others(self._inside(_MACHINE)).beside(used)
        # What the parent uses itself is not taken off: who is inside waits for those beside him, and not for it.
        inside = sum(each.used_bytes for each in self._inside(parent_id))
        return Room(parent.reserved_bytes, parent.reserved_bytes - inside, f"the lease of {parent.name}")

    def _pool(self, parent_id: str) -> list[Lease]:
        """Return the leases that share one room: of the machine's, only those of this process's domain."""
        return [each for each in self._inside(parent_id) if parent_id or each.domain == self._room.domain]

    def _inside(self, parent_id: str) -> list[Lease]:
        return [lease for lease in self.leases.values() if lease.parent_id == parent_id]
