"""Waiting for memory in turn, and holding it for the length of a ``with`` block.

Comes in: a wish. Goes out: a `HeldLease`. A waiter sleeps until it is rung for, until somebody who holds memory dies,
or until a second has passed: memory that other programs give back rings nowhere.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from memguard.errors import JobInterrupted, ReservationTimeout
from memguard.host.readings import ProcessIdentity
from memguard.ledger.book import LedgerBook, Wish, boot_seconds
from memguard.ledger.change import LedgerFull
from memguard.ledger.records import Lease, Room
from memguard.ledger.standing import counts_in, free_for
from memguard.ledger.wake import Doorbell
from memguard.units import format_bytes

__all__ = ["HeldLease", "acquire", "rivals_of", "take"]

# Until somebody watches the machine for all who wait, each looks at it himself this often.
_LOOK_EVERY_S: Final = 1.0
# And where somebody does: each look locks the ledger, and of a hundred that wait one would do so every 10 ms.
_LOOK_SELDOM_S: Final = 5.0
# Of those who hold memory, so many are watched; the death of others is seen a second later.
_MOST_WATCHED: Final = 32


class HeldLease:
    """Memory that is promised to one job; give it back with `release` or at the end of a ``with`` block.

    Who wants it must hold this: what an interrupt tore out of all hands is given back by the process's next call.
    """

    def __init__(self, book: LedgerBook, lease: Lease) -> None:
        self._book = book
        self._lease = lease
        book.note_holder(lease.lease_id, self)

    @property
    def lease_id(self) -> str:
        """Its id; what draws on this lease names it."""
        return self._lease.lease_id

    @property
    def lease(self) -> Lease:
        """What was granted, where it stands now."""
        return self._book.as_it_stands(self._lease)

    def note_used(self, used_bytes: int) -> None:
        """Tell what the job's tree uses now."""
        self._book.note_used(self.lease, used_bytes)

    def grow_nowait(self, extra_bytes: int, *, unless_bytes: int | None = None) -> bool:
        """Ask for more without waiting; False if it is not to be had: then adapt. See `LedgerBook.grow`."""
        return self._book.grow(self._lease.lease_id, extra_bytes, unless_bytes=unless_bytes)

    def release(self) -> None:
        """Give it back; once or many times."""
        self._book.release(self._lease.lease_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def acquire(
    book: LedgerBook,
    wish: Wish,
    *,
    timeout_s: float | None = None,
    withdrawn: Callable[[], bool] = lambda: False,
    wake_descriptors: tuple[int, ...] = (),
    on_wait: Callable[[tuple[Lease, ...]], None] | None = None,
) -> HeldLease:
    """Reserve memory of the machine, waiting for it in turn.

    Args:
        book: the ledger.
        wish: what is wanted.
        timeout_s: how long to wait; ``None`` for ever, 0 not at all.
        withdrawn: says that it is not wanted any more; asked at first, and at each waking.
        wake_descriptors: waking when one of them is readable.
        on_wait: told who is before it and who holds memory, once, before it begins to wait.

    Raises:
        CapacityExceeded: if it is more than there is at all; at once.
        ReservationTimeout: if it was not free in time; says who holds what.
        JobInterrupted: if it was withdrawn.
        LedgerError: if the ledger cannot be used.
    """
    deadline_s = None if timeout_s is None else boot_seconds() + timeout_s
    with Doorbell(wish.lease_id) as bell:
        try:
            lease = _entered(book, wish, bell, deadline_s, withdrawn)
            others = () if lease.is_granted else book.leases()
            if not lease.is_granted and on_wait is not None:
                on_wait(others)
            while not lease.is_granted:
                left_s = _left_s(book, wish, deadline_s, withdrawn)
                with _deaths(others, wish.lease_id) as deaths:
                    pause_s = _pause_s(book)
                    bell.wait(min(pause_s, left_s or pause_s), (*wake_descriptors, *deaths))
                settled = book.settle()
                lease, others = settled[wish.lease_id], tuple(settled.values())
        except BaseException:
            book.release(wish.lease_id)
            raise
    return HeldLease(book, lease)


def _entered(
    book: LedgerBook, wish: Wish, bell: Doorbell, deadline_s: float | None, withdrawn: Callable[[], bool]
) -> Lease:
    """Write a wish down, and wait for a place where there is none: who ran instead would run before all who wait."""
    while True:
        try:
            return book.ask(wish)
        except LedgerFull:
            # Inside a lease nobody waits for a place: those who have one may wait for the lease around him.
            if wish.parent_id:
                raise
            left_s = _left_s(book, wish, deadline_s, withdrawn)
            bell.wait(min(_LOOK_EVERY_S, left_s or _LOOK_EVERY_S))


def _left_s(
    book: LedgerBook, wish: Wish, deadline_s: float | None, withdrawn: Callable[[], bool]
) -> float | None:
    """Return how long may be waited yet, ``None`` for ever; raises where that is over."""
    if withdrawn():
        raise JobInterrupted(f"{wish.name} was stopped while it waited for memory")
    left_s = None if deadline_s is None else deadline_s - boot_seconds()
    if left_s is not None and left_s <= 0:
        raise _timeout(book, wish)
    return left_s


def _pause_s(book: LedgerBook) -> float:
    """Return how long to wait for a ring: where a sentinel looks for all who wait, they need not all look."""
    sight = book.sight()
    return _LOOK_EVERY_S if sight is None or not sight.is_fresh() else _LOOK_SELDOM_S


def take(book: LedgerBook, wish: Wish) -> HeldLease:
    """Reserve what is free at once of a wish, perhaps nothing; never wait.

    Raises:
        CapacityExceeded: if it is more than there is at all.
        LedgerError: if the ledger cannot be used.
    """
    try:
        return HeldLease(book, book.hold(wish))
    except BaseException:
        book.release(wish.lease_id)
        raise


@contextmanager
def _deaths(leases: Iterable[Lease], own_id: str) -> Iterator[tuple[int, ...]]:
    """Give descriptors that become readable when an owner of another lease dies."""
    owners = {lease.owner for lease in leases if lease.lease_id != own_id and lease.owner.pid != os.getpid()}
    with contextlib.ExitStack() as open_ones:
        descriptors = []
        for owner in sorted(owners, key=lambda owner: owner.pid)[:_MOST_WATCHED]:
            descriptor = _pidfd(owner)
            if descriptor is not None:
                open_ones.callback(os.close, descriptor)
                descriptors.append(descriptor)
        yield tuple(descriptors)


def _pidfd(owner: ProcessIdentity) -> int | None:
    try:
        return os.pidfd_open(owner.pid)
    except (
        OSError
    ):  # it is gone, which the next look will see, or there is no descriptor left: then a second will do
        return None


def _timeout(book: LedgerBook, wish: Wish) -> ReservationTimeout:
    everyone, room = book.leases(), book.room()
    # By the lease: what it was to draw on may have ended, and it draws on what is around that.
    parent_id = next((each.parent_id for each in everyone if each.lease_id == wish.lease_id), "")
    parent = next((each for each in everyone if each.lease_id == parent_id), None)
    leases = rivals_of(everyone, wish.lease_id, room)
    holders = tuple(_told(lease) for lease in leases if lease.is_granted)
    before = tuple(_told(lease) for lease in leases if not lease.is_granted)
    free = 0 if parent is None and room.is_closed else free_for(everyone, room, boot_seconds(), parent_id)
    if parent is not None:
        nobody, told = "nobody inside it", f"{format_bytes(free)} are free inside {parent.name}"
    else:
        nobody = "no job of memguard's: other programs use it"
        closed = "nothing is given out while memory is short"
        told = closed if room.is_closed else f"{format_bytes(free)} are free"
    held = ", ".join(holders) or nobody
    waiting = f"; also waiting: {', '.join(before)}" if before else ""
    return ReservationTimeout(
        f"{wish.name} waited for {format_bytes(wish.reserved_bytes)}, and {told}; held by {held}{waiting}",
        requested_bytes=wish.reserved_bytes,
        free_bytes=free,
        holders=holders,
    )


def rivals_of(leases: Iterable[Lease], lease_id: str, room: Room) -> list[Lease]:
    """Return who has or wants of the memory that one waits for: of the lease he is inside of, or of the machine's."""
    everyone = list(leases)
    parent_id = next((each.parent_id for each in everyone if each.lease_id == lease_id), "")
    return [
        each
        for each in everyone
        if each.lease_id != lease_id and each.parent_id == parent_id and (parent_id or counts_in(room, each))
    ]


def _told(lease: Lease) -> str:
    return f"{lease.name} (pid {lease.owner.pid}): {format_bytes(lease.reserved_bytes)}"
