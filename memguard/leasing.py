"""A job's share of the machine: asked for before it starts, told and grown while it runs, given back at its end.

Comes in: settings, and what a job is to have. Goes out: a `Tenure` for the length of a ``with`` block. Where the ledger
cannot be used the job runs all the same, inside its own budget, and its report says so: a guard that breaks stops
nobody's work.

Who holds memory never waits for more: a process with guarded blocks of its own takes what is free at once for the jobs
that it starts meanwhile, and these grow as memory becomes free. So no two processes can wait for each other.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from weakref import WeakSet

from memguard.config import LedgerChoice, Settings
from memguard.errors import LedgerError, ReservationTimeout
from memguard.guard.spawn import ensure_sentinel
from memguard.ledger.book import READING_LASTS_S, LedgerBook, Wish
from memguard.ledger.place import ledger_folder
from memguard.ledger.records import LEASE_VARIABLE, Action, Lease, Room
from memguard.ledger.room import room_for
from memguard.ledger.waiting import HeldLease, acquire, rivals_of, take
from memguard.ledger.wake import ring
from memguard.tenure import Tenure
from memguard.units import format_bytes

__all__ = [
    "Tenure",
    "actions_of",
    "leased",
    "most_reservable",
    "parent_lease",
    "reservation_for",
    "who_holds",
]


@dataclass(slots=True)
class _Used:
    """An open book, and how many use it."""

    book: LedgerBook
    count: int = 0


_lock = threading.Lock()
_books: dict[tuple[Path, Settings, int], _Used] = {}


@contextmanager
def leased(
    settings: Settings,
    wish: Wish,
    *,
    limit_bytes: int,
    is_block: bool = False,
    withdrawn: Callable[[], bool] = lambda: False,
    on_bell: Callable[[Callable[[], None]], None] = lambda _: None,
    on_wait: Callable[[tuple[Lease, ...]], None] | None = None,
    is_pool: bool = False,
) -> Iterator[Tenure]:
    """Reserve memory of the machine for a job, waiting for it in turn, and give it back at the end.

    Args:
        settings: whether there is a ledger, and where; how long to wait.
        wish: what is wanted; drawn on the lease that this process is part of, if there is one.
        limit_bytes: how far the reservation may grow, for the job itself or for jobs inside it.
        is_block: whether it is for work in this very process: while it lasts, nothing here waits for memory.
        withdrawn: as `memguard.ledger.waiting.acquire`.
        on_bell: given what wakes the waiter, to be called when ``withdrawn`` is to be asked again.
        on_wait: as `memguard.ledger.waiting.acquire`.
        is_pool: whether it is for a cache: it takes what is free at once, never waits, and starts nobody who watches.

    Raises:
        CapacityExceeded: for more than jobs can have at all.
        ReservationTimeout: if it was not free within the setting ``wait``.
        JobInterrupted: if it was withdrawn.
    """
    if settings.ledger is LedgerChoice.OFF:
        yield Tenure(None, None, limit_bytes)
        return
    with ExitStack() as open_ones:
        wish = replace(wish, limit_bytes=limit_bytes)
        try:
            book = open_ones.enter_context(_book_in_use(settings))
            if _blocks or is_pool:
                held = take(book, wish)
            else:
                on_bell(functools.partial(_ring, wish.lease_id))
                held = acquire(book, wish, timeout_s=settings.wait_s, withdrawn=withdrawn, on_wait=on_wait)
        except (LedgerError, OSError) as error:
            if isinstance(error, ReservationTimeout):
                raise
            open_ones.close()  # the job may need the descriptors
            tenure = Tenure(None, None, limit_bytes, f"the job runs without a reservation: {error}")
        else:
            tenure = _begin(settings, book, held, limit_bytes, is_watched=not is_pool)
            open_ones.callback(_end, tenure)
            if is_block:
                _blocks.add(tenure)
        yield tenure


def _begin(
    settings: Settings, book: LedgerBook, held: HeldLease, limit_bytes: int, *, is_watched: bool
) -> Tenure:
    watch = functools.partial(ensure_sentinel, settings, book.folder, book.domain)
    tenure = Tenure(book, held, limit_bytes, watch=watch if is_watched else lambda: "")
    tenure.follow(0)
    return tenure


def _end(tenure: Tenure) -> None:
    _blocks.discard(tenure)
    tenure.end()


def _ring(lease_id: str) -> None:
    ring(lease_id)  # whoever does not hear does not wait any more


# What this process holds for its own blocks.
_blocks: Final[WeakSet[Tenure]] = WeakSet()


def reservation_for(settings: Settings, limit_bytes: int, *, is_named: bool) -> int:
    """Return what to reserve at first: all of a budget that somebody named, else the setting ``first_reservation``.

    Never more than there is for jobs: whoever names all of the machine gets all but the reserve.
    """
    if settings.ledger is LedgerChoice.OFF:
        return limit_bytes
    most = _room_lately(settings).capacity_bytes
    return min(limit_bytes, most if is_named else settings.first_reservation.resolve(most))


def most_reservable(settings: Settings) -> int:
    """Return what there is for jobs in all, in bytes: more is promised to nobody."""
    if settings.ledger is LedgerChoice.OFF:
        return sys.maxsize
    return _room_lately(settings).capacity_bytes


def who_holds(leases: tuple[Lease, ...], wish: Wish, settings: Settings) -> str:
    """Return in words what keeps a wish waiting."""
    room = room_for(settings)
    others = rivals_of(leases, wish.lease_id, room)
    holders = [_told(each) for each in others if each.is_granted]
    waiting = len(others) - len(holders)
    held = f"held by {', '.join(holders)}" if holders else _other_programs(room)
    return f"{held}; {waiting} more waiting" if waiting else held


def _other_programs(room: Room) -> str:
    free, most = format_bytes(max(0, room.available_bytes)), format_bytes(room.capacity_bytes)
    return f"no job has it, but {free} of {most} are free: end other programs, or name less"


def _told(lease: Lease) -> str:
    return f"{lease.name} (pid {lease.owner.pid}): {format_bytes(lease.held_bytes)}"


def actions_of(settings: Settings, lease_id: str) -> tuple[Action, ...]:
    """Return what the sentinel did to a job of this process that has its lease still; nothing where nobody knows."""
    with _lock:
        used = _books.get((ledger_folder(settings.runtime_dir), settings, os.getpid())) if _books else None
    try:
        return () if used is None else tuple(used.book.actions(lease_id))
    except LedgerError:  # the job's report says that its ledger could not be used
        return ()


def parent_lease() -> str:
    """Return the lease that this process is part of, or ``""``."""
    return os.environ.get(LEASE_VARIABLE, "")


def _room_lately(settings: Settings) -> Room:
    """Return what the machine has for jobs, as it was a moment ago at most: a reading costs a millisecond."""
    now_s = time.monotonic()
    seen = _rooms.get(settings)
    if seen is None or now_s - seen[0] >= READING_LASTS_S:
        _rooms.clear()
        _rooms[settings] = seen = now_s, room_for(settings)
    return seen[1]


_rooms: Final[dict[Settings, tuple[float, Room]]] = {}


@contextmanager
def _book_in_use(settings: Settings) -> Iterator[LedgerBook]:
    """Give this process's access to the ledger, open as long as somebody here has a lease or wants one."""
    key = (ledger_folder(settings.runtime_dir), settings, os.getpid())
    with _lock:
        used = _books.get(key) or _Used(LedgerBook(key[0], lambda: _room_lately(settings)))
        used.count += 1
        _books[key] = used
    try:
        yield used.book
    finally:
        with _lock:
            used.count -= 1
            if not used.count:
                _books.pop(key, None)
                used.book.close()


def _start_over_in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread that does not exist here may hold it
    _lock = threading.Lock()
    _blocks.clear()


os.register_at_fork(after_in_child=_start_over_in_child)
