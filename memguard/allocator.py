"""`ResourceAllocator`: a budget shared by jobs that do not know of each other: reserve, wait, grow, release.

Comes in: requests in bytes. Goes out: `Reservation`s whose sum never passes the budget. This one lives inside one
process; what it promises is what a book shared by the whole machine would promise. First come, first served; waiters
are woken, not polled. A reservation is a promise of room, not a measurement of use. Who gets what when is decided in
`memguard.admission`.

Ctrl-C comes between any two calls. So the books keep nobody alive: who asks and what he has count as long as somebody
holds the `Reservation` or waits for it, and what an interrupt tore out of all hands is free again by itself.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, Self, TypeVar
from weakref import WeakSet, ref

from memguard.admission import Account, Request, are_deadlocked, has_turn
from memguard.errors import CapacityExceeded, JobInterrupted, ReservationTimeout
from memguard.units import format_bytes

__all__ = ["AllocatorStatistics", "Reservation", "ResourceAllocator"]


@dataclass(frozen=True, slots=True)
class AllocatorStatistics:
    """A snapshot: bytes, counts and seconds since the allocator was made."""

    limit_bytes: int
    reserved_bytes: int
    reservations: int
    waiting: int
    granted: int
    waited_s: float


_T = TypeVar("_T")


class _Kept(Generic[_T]):
    """Members in the order in which they came, each as long as somebody else holds it. Change it under the lock."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        self._references: list[ref[_T]] = []
        self._on_loss = on_loss

    def add(self, member: _T) -> None:
        on_loss = self._on_loss
        self._references.append(ref(member, lambda _: on_loss()))

    def discard(self, member: _T) -> None:
        """Take a member out, and those who are gone; one that is not in is none."""
        for reference in tuple(self._references):
            if reference() in (None, member):
                with contextlib.suppress(ValueError):  # a signal's handler did the same meanwhile
                    self._references.remove(reference)

    def clear(self) -> None:
        self._references.clear()

    def __iter__(self) -> Iterator[_T]:
        found = (reference() for reference in tuple(self._references))
        return (member for member in found if member is not None)

    def __contains__(self, member: object) -> bool:
        return any(each is member for each in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Asker(Request):
    """One who asks, and the bell that wakes him: a ring is not lost when it comes before he listens."""

    def __init__(self, size_bytes: int, accounts: Iterable[Account], held: Iterable[Reservation]) -> None:
        super().__init__(size_bytes, accounts, held)
        # It may be rung from anywhere, even by the end of a reservation in the midst of a call of this very queue.
        self.bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wait(self, deadline_s: float | None) -> None:
        """Sleep until the bell rings, or the deadline."""
        with contextlib.suppress(queue.Empty):
            self.bell.get(timeout=_remaining(deadline_s))


class _Book:
    """All allocators of this process share one line of waiters: so nobody holds room in one while he waits in another.

    A request is granted in all accounts at once, and whether those who wait can ever be served is seen as a whole.
    """

    def __init__(self) -> None:
        self.line: _Kept[_Asker] = _Kept(self.ring)
        self.start_afresh()

    def start_afresh(self) -> None:
        # Reentrant: a signal's handler may give back in the midst of a call.
        self.lock = threading.RLock()
        self.line.clear()

    def ring(self) -> None:
        """Let all in line look again; without a lock, since the loss of the last hand on something calls it too."""
        for each in self.line:
            each.bell.put(None)

    def leave(self, asker: _Asker) -> None:
        """Take somebody out of the line; once or many times."""
        with self.lock:
            self.line.discard(asker)
        self.ring()


_book: Final = _Book()


class Reservation:
    """Room for one job; give it back with `release` or at the end of a ``with`` block.

    Who wants the room must hold the reservation: what nobody holds any more is given back.
    """

    def __init__(self, allocators: tuple[ResourceAllocator, ...], size_bytes: int, name: str) -> None:
        self._allocators = allocators
        self._released = False
        self.size_bytes = size_bytes
        self.name = name

    @property
    def is_released(self) -> bool:
        """Whether it was given back: nothing is reserved any more."""
        return self._released

    def grow_nowait(self, extra_bytes: int) -> bool:
        """Ask for more without waiting; False if there is no room, or somebody waits for it: then adapt.

        Raises:
            ValueError: for a negative amount.
        """
        _check_size(extra_bytes)
        accounts = tuple(each.account for each in self._allocators)
        with _book.lock:
            wanted = any(not request.accounts.isdisjoint(accounts) for request in _book.line)
            if self._released or wanted or any(each.free_bytes < extra_bytes for each in accounts):
                return False
            self.size_bytes += extra_bytes
            return True

    def release(self) -> None:
        """Give it back; once or many times."""
        with _book.lock:
            # Interrupted before the end, it is done again by whoever asks next, or when nobody holds this any more.
            for each in self._allocators:
                each.reservations.discard(self)
            self._released = True
        _book.ring()

    def lineage(self) -> Iterator[tuple[ResourceAllocator, int]]:
        """Give what it holds of each allocator, from its own one outwards."""
        for each in self._allocators:
            yield each, self.size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"Reservation({self.name!r}, {format_bytes(self.size_bytes)})"


class ResourceAllocator:
    """Shares ``limit_bytes`` among jobs of this process; thread-safe.

    Args:
        limit_bytes: the budget.
        name: what to call it in messages.
        parent: an allocator that encloses this one: what is reserved here is reserved there too, so that nested
            budgets share the outer one.
    """

    def __init__(
        self, limit_bytes: int, *, name: str = "memguard", parent: ResourceAllocator | None = None
    ) -> None:
        self.limit_bytes = limit_bytes
        self.name = name
        self.reservations: _Kept[Reservation] = _Kept(_book.ring)
        self.account = Account(limit_bytes, self.reservations)
        self._lineage: tuple[ResourceAllocator, ...] = (self, *(parent._lineage if parent else ()))
        self._granted = 0
        self._waited_s = 0.0
        _allocators.add(self)

    @property
    def free_bytes(self) -> int:
        """What is not reserved."""
        with _book.lock:
            return self.account.free_bytes

    def reserve(
        self,
        size_bytes: int,
        name: str,
        *,
        timeout_s: float | None = None,
        held: Iterable[Reservation] = (),
        withdrawn: Callable[[], bool] | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> Reservation:
        """Reserve room, waiting for it in turn.

        Args:
            size_bytes: how much.
            name: for whom, in messages.
            timeout_s: how long to wait; ``None`` for ever, 0 not at all.
            held: what the asker itself holds until it has this: it must not wait for its own. Whoever holds something
                is not kept waiting by those who hold nothing, since they may wait for him.
            withdrawn: says that the room is not wanted any more; asked at first and after `wake_waiters`.
            on_wait: called once, with who holds the room, before the asker begins to wait.

        Raises:
            CapacityExceeded: if it is more than the whole budget, or what is left beside ``held``; at once.
            ReservationTimeout: if it is not free in time, and as soon as it is clear that it never will be, because
                those who hold it wait for what the asker holds; says who holds what.
            JobInterrupted: if it was withdrawn.
            ValueError: for a negative size.
        """
        _check_size(size_bytes)
        held = frozenset(held)
        for each in reversed(self._lineage):
            each._check_room(size_bytes, name, held)
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        reservation = Reservation(self._lineage, size_bytes, name)
        asker = _Asker(size_bytes, (each.account for each in self._lineage), held)
        began_s = time.monotonic()
        # Twice, since an interrupt may come at the first line of what takes back.
        try:
            try:
                self._join_line(asker, on_wait)
                self._wait_in_line(asker, reservation, deadline_s, withdrawn)
            finally:
                self._leave_line(asker, time.monotonic() - began_s)
            return reservation
        except BaseException:
            _book.leave(asker)
            reservation.release()
            raise

    def _join_line(self, asker: _Asker, on_wait: Callable[[str], None] | None) -> None:
        with _book.lock:
            _book.line.add(asker)
            served = has_turn(asker, list(_book.line))
        if not served and on_wait is not None:
            on_wait(", ".join(self._holders(asker)) or "nobody: others wait before it")

    def _wait_in_line(
        self,
        asker: _Asker,
        reservation: Reservation,
        deadline_s: float | None,
        withdrawn: Callable[[], bool] | None,
    ) -> None:
        while not self._take(asker, reservation):
            if withdrawn is not None and withdrawn():
                raise JobInterrupted(f"{reservation.name} was stopped while it waited for memory")
            self._check_hope(asker, reservation.name)
            if _is_over(deadline_s):
                raise self._timeout(asker, reservation.name)
            asker.wait(deadline_s)

    def _take(self, asker: _Asker, reservation: Reservation) -> bool:
        """Grant what is asked for if it has its turn."""
        with _book.lock:
            granted = has_turn(asker, list(_book.line))
            for each in self._lineage if granted else ():
                each.reservations.add(reservation)
                each._granted += 1
            return granted

    def _leave_line(self, asker: _Asker, waited_s: float) -> None:
        with _book.lock:
            for each in self._lineage:
                each._waited_s += waited_s
        _book.leave(asker)

    def _check_room(self, size_bytes: int, name: str, held: frozenset[Reservation]) -> None:
        """Refuse what waiting could not help, before anybody waits for it."""
        own = [each for each in held if any(allocator is self for allocator, _ in each.lineage())]
        room = self.limit_bytes - sum(each.size_bytes for each in own)
        if size_bytes <= room:
            return
        holds = "".join(f"; {each.name} around it holds {format_bytes(each.size_bytes)}" for each in own)
        advice = "ask for less, or raise the budget"
        if own:
            advice = f"give what is around it less, or start {name} outside of it"
        raise CapacityExceeded(
            f"{name} asks for {format_bytes(size_bytes)} of a budget of {format_bytes(self.limit_bytes)} "
            f"({self.name}{holds}); {advice}",
            requested_bytes=size_bytes,
            capacity_bytes=room,
            limited_by=self.name,
        )

    def _check_hope(self, request: Request, name: str) -> None:
        """Refuse the last of those who wait for each other; the others go on waiting, for what he gives back."""
        with _book.lock:
            stuck = are_deadlocked(list(_book.line))
            full, holders = self._lacking(request), self._holders(request)
        if not stuck or stuck[-1] is not request:
            return
        raise ReservationTimeout(
            f"{name} would wait for ever for {format_bytes(request.size_bytes)}: those who hold it wait for memory "
            f"themselves ({', '.join(holders)}); start it outside of the block, or give the blocks less",
            requested_bytes=request.size_bytes,
            free_bytes=full.account.free_bytes,
            holders=holders,
        )

    def wake_waiters(self) -> None:
        """Let everybody who waits look whether his wish was withdrawn."""
        _book.ring()

    def _lacking(self, request: Request) -> ResourceAllocator:
        """Return the innermost allocator without room for a request; its own if all have room."""
        lacking = (each for each in self._lineage if each.account.free_bytes < request.size_bytes)
        return next(lacking, self)

    def _holders(self, request: Request) -> tuple[str, ...]:
        with _book.lock:
            held = self._lacking(request).reservations
            return tuple(f"{each.name}: {format_bytes(each.size_bytes)}" for each in held)

    def _timeout(self, request: Request, name: str) -> ReservationTimeout:
        full, holders = self._lacking(request), self._holders(request)
        free, held = full.account.free_bytes, ", ".join(holders) or "nobody: others wait before it"
        return ReservationTimeout(
            f"{name} waited for {format_bytes(request.size_bytes)}, and {format_bytes(free)} of "
            f"{format_bytes(full.limit_bytes)} are free; held by {held}",
            requested_bytes=request.size_bytes,
            free_bytes=free,
            holders=holders,
        )

    def statistics(self) -> AllocatorStatistics:
        """Return a snapshot."""
        with _book.lock:
            account = self.account
            return AllocatorStatistics(
                limit_bytes=self.limit_bytes,
                reserved_bytes=self.limit_bytes - account.free_bytes,
                reservations=len(self.reservations),
                waiting=sum(account in request.accounts for request in _book.line),
                granted=self._granted,
                waited_s=self._waited_s,
            )


def _remaining(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())


def _is_over(deadline_s: float | None) -> bool:
    return deadline_s is not None and time.monotonic() >= deadline_s


def _check_size(size_bytes: int) -> None:
    if size_bytes < 0:
        raise ValueError(f"a size is not negative: {size_bytes} bytes")


def _start_afresh_in_child() -> None:
    # The jobs are the parent's, and the thread that held the lock does not exist here.
    _book.start_afresh()
    for allocator in list(_allocators):
        for each in allocator.reservations:
            each._released = True
        allocator.reservations.clear()


_allocators: WeakSet[ResourceAllocator] = WeakSet()
os.register_at_fork(after_in_child=_start_afresh_in_child)
