"""The machine's ledger of memory as one process sees it: ask, grow, release, and see who holds what.

Comes in: wishes, and readings of the machine. Goes out: leases, written down where every process of the user sees
them, and rings for those whose wish was granted. There is no server: whoever asks or releases decides for all who wait,
inside one transaction. A lease ends when it is released, or when its owner is proven dead. To wait:
`memguard.ledger.waiting`.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from memguard.host import identify, is_alive
from memguard.ledger.board import used_in
from memguard.ledger.change import Change
from memguard.ledger.files import LedgerFiles
from memguard.ledger.records import Lease, Room
from memguard.ledger.store import Transaction
from memguard.ledger.wake import ring

__all__ = ["LedgerBook", "Wish", "boot_seconds"]

# A reading of the machine costs a millisecond; in this time the fastest job takes 60 MiB, which the reserve covers.
_READING_LASTS_S: Final = 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; see `memguard.ledger.records.Lease`."""

    lease_id: str
    name: str
    reserved_bytes: int
    priority: int = 0
    parent_id: str = ""


def boot_seconds() -> float:
    """Return seconds since boot: the same for all processes, and untouched by whoever sets the clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LedgerBook:
    """This process's access to the ledger. Thread-safe; a forked copy begins without leases of its own.

    Args:
        folder: where it is; see `memguard.ledger.place.ledger_folder`.
        read_room: reads what the machine has for leases now.
        reading_lasts_s: for how long a reading is good enough for further decisions.

    Raises:
        LedgerError: if it cannot be opened. Every method raises it where the file stays locked or is full.
    """

    def __init__(
        self, folder: Path, read_room: Callable[[], Room], *, reading_lasts_s: float = _READING_LASTS_S
    ) -> None:
        self._folder = folder
        self._reading_lasts_s = reading_lasts_s
        self._read_room = read_room
        self._lock = threading.RLock()
        self._begin()
        _books.add(self)

    def _begin(self) -> None:
        self._me = identify()
        self._own: dict[str, Lease] = {}
        self._seen: tuple[float, bytes, Room] | None = None
        self._files = LedgerFiles(self._folder)

    def ask(self, wish: Wish) -> Lease:
        """Write a wish down; it is granted at once where its turn has come, else when somebody makes room.

        Raises:
            CapacityExceeded: if it is more than there is at all.
        """

        def add(change: Change) -> None:
            change.add(
                Lease(
                    wish.lease_id, self._me, wish.name, wish.reserved_bytes, 0, wish.priority, boot_seconds(), None,
                    wish.parent_id, change.free_slot(), secrets.randbits(63),
                )
            )  # fmt: skip

        with self._lock:
            lease = self._change(add).leases[wish.lease_id]
            self._own[lease.lease_id] = lease
            self._files.board.claim(lease.slot, lease.token)
        return lease if lease.is_granted else self.settle()[lease.lease_id]

    def release(self, lease_id: str) -> None:
        """End a lease or a wish; once or many times."""
        with self._lock:
            self._own.pop(lease_id, None)
        self._change(lambda change: change.remove(lease_id))

    def grow(self, lease_id: str, extra_bytes: int) -> bool:
        """Ask for more, or give a part back (a negative amount), without waiting; False where it is not to be had."""
        grown: list[bool] = []
        self._change(lambda change: grown.append(change.grow(lease_id, extra_bytes)))
        return grown[-1]

    def settle(self) -> dict[str, Lease]:
        """Strike the leases of the dead and grant what can be granted; returns all leases, by id."""
        return self._change(lambda change: change.reclaim(is_alive)).leases

    def note_used(self, lease: Lease, used_bytes: int) -> None:
        """Tell what a lease's tree uses now; costs a microsecond."""
        self._files.board.write_used(lease.slot, used_bytes)

    def leases(self) -> tuple[Lease, ...]:
        """Return all leases and wishes, in the order in which they were asked for."""
        return tuple(sorted(self._change(lambda _: None).leases.values(), key=lambda lease: lease.asked_at_s))

    def room(self) -> Room:
        """Return what the machine has for leases now."""
        with self._lock:
            return self._look()[0]

    def _change(self, act: Callable[[Change], object]) -> Change:
        """Make one change, grant what it makes room for, and wake those who were granted."""
        with self._lock:
            self._begin_in_copy()
            room, used_of = self._look()

            def change_it(transaction: Transaction) -> Change:
                change = Change(transaction, room, used_of, boot_seconds())
                self._write_again(change)
                act(change)
                change.admit()
                return change

            change = self._files.run(change_it)
            self._own.update({lease.lease_id: change.leases[lease.lease_id] for lease in self._own.values()})
        heard = [ring(lease.lease_id) or lease.owner == self._me for lease in change.granted]
        # Whoever does not hear is dead, or gives up at this moment: he must not keep what others wait for.
        return change if all(heard) else self._change(lambda change: change.reclaim(is_alive))

    def _write_again(self, change: Change) -> None:
        """Write down what this process holds and the file does not know: it was damaged or removed, and is new."""
        for lease in self._own.values():
            if lease.lease_id not in change.leases:
                moved = dataclasses.replace(lease, slot=change.free_slot())
                change.restore(moved)
                self._files.board.claim(moved.slot, moved.token)

    def _look(self) -> tuple[Room, Callable[[int, int], int]]:
        """Return the machine and the board, seen together a moment ago at most.

        The board first: what a job takes in between is then counted twice for a moment, and never left out.
        """
        now_s = time.monotonic()
        if self._seen is None or now_s - self._seen[0] >= self._reading_lasts_s:
            self._seen = now_s, self._files.board.copy(), self._read_room()
        _, figures, room = self._seen
        return room, lambda slot, token: used_in(figures, slot, token)

    def _begin_in_copy(self) -> None:
        if self._me.pid != os.getpid():
            self._files.close()
            self._begin()

    def close(self) -> None:
        """Close the files; the leases go on until their owner releases them or ends."""
        with self._lock:
            self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()


_books: weakref.WeakSet[LedgerBook] = weakref.WeakSet()


def _renew_locks() -> None:
    for book in list(_books):
        book._renew_lock()


# The thread that held a lock does not exist in the copy.
os.register_at_fork(after_in_child=_renew_locks)
