"""A job's share of the machine: asked for before it starts, told and grown while it runs, given back at its end.

Comes in: settings, and what a job is to have. Goes out: a `Tenure` for the length of a ``with`` block. Where the ledger
cannot be used the job runs all the same, inside its own budget, and its report says so: a guard that breaks stops
nobody's work.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from memguard.config import LedgerChoice, Settings
from memguard.errors import LedgerError
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.place import ledger_folder
from memguard.ledger.records import LEASE_VARIABLE, Lease
from memguard.ledger.room import room_for
from memguard.ledger.waiting import HeldLease, acquire
from memguard.units import MIB, format_bytes

__all__ = ["LEASE_VARIABLE", "Tenure", "leased", "parent_lease", "reservation_for", "who_holds"]

# A job that outgrew its reservation asks for more in steps of this part of its use, and after a refusal not at once.
_STEP: Final = 0.25
_SMALLEST_STEP_BYTES: Final = 32 * MIB
_ASK_AGAIN_S: Final = 0.5

_lock = threading.Lock()
_books: dict[tuple[Path, Settings, int], LedgerBook] = {}


class Tenure:
    """What a job has of the machine while it runs.

    Attributes:
        lease_id: what is started inside draws on it; ``""`` where there is no ledger.
        degraded: why there is none, in a sentence, or ``""``.
    """

    def __init__(self, held: HeldLease | None, limit_bytes: int, degraded: str = "") -> None:
        self._held = held
        self._limit_bytes = limit_bytes
        self._reserved_bytes = held.lease.reserved_bytes if held is not None else limit_bytes
        self._asked_at_s = -_ASK_AGAIN_S
        self.lease_id = held.lease_id if held is not None else ""
        self.degraded = degraded

    @property
    def variables(self) -> dict[str, str]:
        """What the job's processes find in their environment."""
        return {LEASE_VARIABLE: self.lease_id} if self.lease_id else {}

    def follow(self, used_bytes: int) -> None:
        """Tell what the job uses now, and ask for more where it has outgrown what is reserved; never waits."""
        if self._held is None:
            return
        self._held.note_used(used_bytes)
        if used_bytes > self._reserved_bytes < self._limit_bytes:
            self._grow(used_bytes)

    def _grow(self, used_bytes: int) -> None:
        assert self._held is not None
        now_s = time.monotonic()
        if now_s - self._asked_at_s < _ASK_AGAIN_S:
            return
        wanted = min(self._limit_bytes, used_bytes + max(_SMALLEST_STEP_BYTES, int(used_bytes * _STEP)))
        try:
            if self._held.grow_nowait(wanted - self._reserved_bytes):
                self._reserved_bytes = wanted
            else:
                self._asked_at_s = now_s
        except LedgerError as error:
            self._asked_at_s, self.degraded = now_s, f"no more could be reserved: {error}"


@contextmanager
def leased(
    settings: Settings,
    wish: Wish,
    *,
    limit_bytes: int,
    withdrawn: Callable[[], bool] = lambda: False,
    on_wait: Callable[[tuple[Lease, ...]], None] | None = None,
) -> Iterator[Tenure]:
    """Reserve memory of the machine for a job, waiting for it in turn, and give it back at the end.

    Args:
        settings: whether there is a ledger, and where; how long to wait.
        wish: what is wanted; drawn on the lease that this process is part of, if there is one.
        limit_bytes: how far the reservation may grow.
        withdrawn: as `memguard.ledger.acquire`.
        on_wait: as `memguard.ledger.acquire`.

    Raises:
        CapacityExceeded: for more than jobs can have at all.
        ReservationTimeout: if it was not free within the setting ``wait``.
        JobInterrupted: if it was withdrawn.
    """
    if settings.ledger is LedgerChoice.OFF:
        yield Tenure(None, limit_bytes)
        return
    try:
        held = acquire(
            _book_for(settings), wish, timeout_s=settings.wait_s, withdrawn=withdrawn, on_wait=on_wait
        )
    except LedgerError as error:
        yield Tenure(None, limit_bytes, f"the job runs without a reservation: {error}")
        return
    tenure = Tenure(held, limit_bytes)
    try:
        yield tenure
    finally:
        try:
            held.release()
        except LedgerError as error:  # the lease ends with this process
            tenure.degraded = f"a reservation could not be given back: {error}"


def reservation_for(settings: Settings, limit_bytes: int, *, is_named: bool) -> int:
    """Return what to reserve at first: all of a budget that somebody named, else the setting ``first_reservation``."""
    if is_named:
        return limit_bytes
    return min(limit_bytes, settings.first_reservation.resolve(room_for(settings).capacity_bytes))


def who_holds(leases: tuple[Lease, ...], wish: Wish) -> str:
    """Return in words what keeps a wish waiting."""
    others = [each for each in leases if each.lease_id != wish.lease_id and each.parent_id == wish.parent_id]
    holders = [_told(each) for each in others if each.is_granted]
    waiting = len(others) - len(holders)
    held = f"held by {', '.join(holders)}" if holders else "other programs use the memory"
    return f"{held}; {waiting} more waiting" if waiting else held


def _told(lease: Lease) -> str:
    return f"{lease.name} (pid {lease.owner.pid}): {format_bytes(lease.held_bytes)}"


def parent_lease() -> str:
    """Return the lease that this process is part of, or ``""``."""
    return os.environ.get(LEASE_VARIABLE, "")


def _book_for(settings: Settings) -> LedgerBook:
    folder = ledger_folder(settings.runtime_dir)
    key = (folder, settings, os.getpid())
    with _lock:
        if key not in _books:
            _books[key] = LedgerBook(folder, lambda: room_for(settings))
        return _books[key]
