"""What a job has of the machine while it runs: its lease, which follows what it uses and the parts it comes through.

Comes in: what the job's tree uses, the parts that it tells, what is forecast for them. Goes out: more asked for, or
some given back, without ever waiting; what is asked of the job. `memguard.leasing` makes it and ends it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from memguard.errors import LedgerError
from memguard.guard.spawn import is_sentinel
from memguard.ledger.beacon import Sight
from memguard.ledger.board import Ask, Entry
from memguard.ledger.book import LedgerBook
from memguard.ledger.seat import Seat
from memguard.ledger.waiting import HeldLease
from memguard.units import MIB

__all__ = ["Tenure"]

# A job that outgrew its reservation asks for more in steps of this part of its use, and after a refusal not at once.
_STEP: Final = 0.25
_SMALLEST_STEP_BYTES: Final = 32 * MIB
_ASK_AGAIN_S: Final = 0.5
# To give back less is not worth a look of all who wait.
_LEAST_GIVEN_BYTES: Final = 16 * MIB
# A file that was damaged is replaced by whoever meets it; its owners' leases are written into the new one this soon.
_KEEP_EVERY_S: Final = 0.5


class Tenure:
    """What a job has of the machine while it runs.

    Attributes:
        degraded: what is amiss with it, in a sentence, or ``""``.
    """

    def __init__(
        self,
        book: LedgerBook | None,
        held: HeldLease | None,
        limit_bytes: int,
        degraded: str = "",
        watch: Callable[[], str] = lambda: "",
    ) -> None:
        self._book, self._held, self._watch = book, held, watch
        self._limit_bytes = limit_bytes
        self._reserved_bytes = held.lease.reserved_bytes if held is not None else limit_bytes
        self._asked_at_s = self._given_at_s = -_ASK_AGAIN_S
        self._keep_at_s = 0.0
        self._used_bytes, self._phase = 0, ""
        self._goal_bytes: int | None = None
        self._needed: Callable[[str], int | None] = lambda _: None
        self._on_change: Callable[[int, int, str], None] = lambda *_: None
        # A block is followed by the thread that watches it and by its own at checkpoints: one of them asks.
        self._growing = threading.Lock()
        self.degraded = degraded
        _tenures.add(self)

    @property
    def seat(self) -> Seat | None:
        """Where its figures stand; ``None`` where there is no ledger."""
        if self._book is None or self._held is None:
            return None
        return self._book.seat(self._held.lease)

    def is_helper(self, pid: int) -> bool:
        """Whether a process is the sentinel, which may have been started for this very job and is no part of it."""
        return is_sentinel(pid)

    @property
    def reserved_bytes(self) -> int:
        """What is promised to the job now."""
        return self._reserved_bytes

    def entry(self) -> Entry:
        """Return what stands on the board for it now; nothing where there is no ledger."""
        if self._book is None or self._held is None:
            return Entry()
        return self._book.entry(self._held.lease)

    def sight(self) -> Sight | None:
        """Return what the sentinel saw last."""
        return self._book.sight() if self._book is not None else None

    def room_bytes(self, used_bytes: int, free_bytes: int) -> int:
        """Return how much more the job can take: of ``free_bytes`` in its budget, what the machine can give now."""
        sight = self.sight()
        if sight is None or not sight.is_fresh():
            return free_bytes
        unpromised = max(0, sight.available_bytes - sight.promised_bytes)
        return min(free_bytes, max(0, self._reserved_bytes - used_bytes) + unpromised)

    def note(self, used_bytes: int) -> None:
        """Tell what the job uses now, for whom no guard of its own does; and `follow` it."""
        if self._held is not None:
            self._held.note_used(used_bytes)
        self.follow(used_bytes)

    def follow(self, used_bytes: int) -> None:
        """See that the machine is watched, and ask for more where the job has outgrown its reservation; never waits."""
        if self._book is None or self._held is None:
            return
        try:
            self.degraded = self._watch() or self.degraded
        except (OSError, LedgerError) as error:
            self.degraded = f"nobody watches the machine's memory: {error}"
        now_s = time.monotonic()
        self._keep(self._book, now_s)
        self._used_bytes = used_bytes
        self._adapt(self._held, now_s)

    def plan(self, needed: Callable[[str], int | None], on_change: Callable[[int, int, str], None]) -> None:
        """Have the reservation follow the job through its parts.

        Args:
            needed: the most that is forecast for a part and those behind it, in bytes; ``None`` where nobody knows.
            on_change: told what is reserved, what was before, and the part; called in the thread that follows the job.
        """
        self._needed, self._on_change = needed, on_change

    def enter(self, phase: str) -> None:
        """Have as much reserved as the part that begins and those behind it need, more or less than now; never waits.

        What the job still holds of the part before is given back as it lets go of it: see `follow`. What cannot be had
        at once is asked for when it is used.
        """
        goal = self._needed(phase)
        if goal is None or self._held is None:
            return
        self._phase, self._goal_bytes = phase, min(self._limit_bytes, goal)
        self._asked_at_s = self._given_at_s = -_ASK_AGAIN_S
        self._adapt(self._held, time.monotonic())

    def _adapt(self, held: HeldLease, now_s: float) -> None:
        # Whoever finds another thread at it leaves it to that one, or to the next look.
        if not self._growing.acquire(blocking=False):
            return
        try:
            wanted, reserved = self._wanted_bytes(), self._reserved_bytes
            if wanted > reserved and now_s - self._asked_at_s >= _ASK_AGAIN_S:
                self._grow(held, wanted, now_s)
            elif reserved - wanted >= _LEAST_GIVEN_BYTES and now_s - self._given_at_s >= _ASK_AGAIN_S:
                self._given_at_s = now_s
                self._change(held, wanted)
        finally:
            self._growing.release()

    def _wanted_bytes(self) -> int:
        """Return what is to be reserved by what the job uses now and what is forecast for the rest of it."""
        used, reserved = self._used_bytes, self._reserved_bytes
        goal = reserved if self._goal_bytes is None else self._goal_bytes
        beyond = min(self._limit_bytes, used + max(_SMALLEST_STEP_BYTES, int(used * _STEP)))
        if used > reserved:
            return max(goal, beyond)
        return goal if goal >= reserved else min(reserved, max(goal, beyond))

    def _grow(self, held: HeldLease, wanted: int, now_s: float) -> None:
        # More may be promised to it than it asked for itself, for jobs inside it.
        unless = self._used_bytes if self._used_bytes > self._reserved_bytes else None
        if not self._change(held, wanted, unless):
            self._asked_at_s = now_s

    def _change(self, held: HeldLease, wanted: int, unless_bytes: int | None = None) -> bool:
        before = self._reserved_bytes
        try:
            if not held.grow_nowait(wanted - before, unless_bytes=unless_bytes):
                return False
        except LedgerError as error:
            self.degraded = f"the reservation could not be changed: {error}"
            return False
        self._reserved_bytes = wanted
        self._on_change(wanted, before, self._phase)
        return True

    def _keep(self, book: LedgerBook, now_s: float) -> None:
        """See that the lease is still written down: others would be promised what the job has not used yet."""
        if now_s < self._keep_at_s:
            return
        self._keep_at_s = now_s + _KEEP_EVERY_S
        try:
            book.keep()
        except LedgerError as error:
            self.degraded = f"the reservation could not be written down again: {error}"

    def fit(self, used_bytes: int, wanted_bytes: int) -> bool:
        """Tell what a cache holds, and have so much promised to it, more or less than it was; never waits.

        Returns:
            Whether it has what it wants now.
        """
        if self._book is None or self._held is None:
            return True
        self._held.note_used(used_bytes)
        self._keep(self._book, time.monotonic())
        wanted_bytes = min(self._limit_bytes, wanted_bytes)
        return wanted_bytes == self._reserved_bytes or self._change(self._held, wanted_bytes)

    def abandon(self) -> None:
        """Let go of it without giving it back, as a forked copy must: it is its parent's."""
        self._held, self._book = None, None

    def end(self) -> None:
        """Give it back; from now on nothing is asked of anybody."""
        held, self._held, self._book = self._held, None, None
        try:
            if held is not None:
                held.release()
        except LedgerError as error:  # the lease ends with this process
            self.degraded = f"a reservation could not be given back: {error}"

    def why_ended(self) -> str:
        """Return why the sentinel ended the job, and it and not another; ``""`` if it wrote down nothing."""
        if self._book is None or self._held is None:
            return ""
        try:
            actions = self._book.actions(self._held.lease_id)
        except LedgerError as error:
            return f"what the sentinel wrote down could not be read: {error}"
        return next((each.why for each in reversed(actions) if each.rung == Ask.KILL.name.lower()), "")


_tenures: Final[WeakSet[Tenure]] = WeakSet()


def _abandon_in_child() -> None:
    for tenure in list(_tenures):
        tenure.abandon()


os.register_at_fork(after_in_child=_abandon_in_child)
