"""`ResourceAllocator`: a budget shared by jobs that do not know of each other: reserve, wait, grow, release.

Comes in: requests in bytes. Goes out: `Reservation`s whose sum never passes the budget. This one lives inside one
process; what it promises is what a book shared by the whole machine would promise. First come, first served; waiters
are woken, not polled. A reservation is a promise of room, not a measurement of use. Who gets what when is decided in
`memguard.admission`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from weakref import WeakSet

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


class _Book:
    """All allocators of this process share one line of waiters: so nobody holds room in one while he waits in another.

    A request is granted in all accounts at once, and whether those who wait can ever be served is seen as a whole.
    """

    def __init__(self) -> None:
        self.start_afresh()

    def start_afresh(self) -> None:
        self.changed = threading.Condition()
        self.line: list[Request] = []


_book: Final = _Book()


class Reservation:
    """Room for one job; give it back with `release` or at the end of a ``with`` block."""

    def __init__(self, allocators: tuple[ResourceAllocator, ...], size_bytes: int, name: str) -> None:
        self._allocators = allocators
        self._released = False
        self.size_bytes = size_bytes
        self.name = name

    def grow_nowait(self, extra_bytes: int) -> bool:
        """Ask for more without waiting; False if there is no room, or somebody waits for it: then adapt.

        Raises:
            ValueError: for a negative amount.
        """
        _check_size(extra_bytes)
        accounts = tuple(each.account for each in self._allocators)
        with _book.changed:
            wanted = any(not request.accounts.isdisjoint(accounts) for request in _book.line)
            if self._released or wanted or any(each.free_bytes < extra_bytes for each in accounts):
                return False
            self.size_bytes += extra_bytes
            return True

    def release(self) -> None:
        """Give it back; once or many times."""
        with _book.changed:
            if self._released:
                return
            self._released = True
            for each in self._allocators:
                if self in each.account.held:  # not in a forked copy, where nothing is held
                    each.account.held.remove(self)
            _book.changed.notify_all()

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
        self.account = Account(limit_bytes)
        self._lineage: tuple[ResourceAllocator, ...] = (self, *(parent._lineage if parent else ()))
        self._granted = 0
        self._waited_s = 0.0
        _allocators.add(self)

    @property
    def free_bytes(self) -> int:
        """What is not reserved."""
        with _book.changed:
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
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        request = Request(size_bytes, tuple(each.account for each in self._lineage), held)
        began = time.monotonic()
        with _book.changed:
            _book.line.append(request)
        try:
            if not self._is_served(request) and on_wait is not None:
                on_wait(", ".join(self._holders(request)) or "nobody: others wait before it")
            return self._wait_in_line(request, name, deadline, withdrawn)
        finally:
            self._leave_line(request, time.monotonic() - began)

    def _is_served(self, request: Request) -> bool:
        with _book.changed:
            return has_turn(request, _book.line)

    def _wait_in_line(
        self, request: Request, name: str, deadline_s: float | None, withdrawn: Callable[[], bool] | None
    ) -> Reservation:
        with _book.changed:
            while not has_turn(request, _book.line):
                if withdrawn is not None and withdrawn():
                    raise JobInterrupted(f"{name} was stopped while it waited for memory")
                self._check_hope(request, name)
                if not _book.changed.wait(_remaining(deadline_s)) and _is_over(deadline_s):
                    raise self._timeout(request, name)
            reservation = Reservation(self._lineage, request.size_bytes, name)
            for each in self._lineage:
                each.account.held.append(reservation)
                each._granted += 1
            return reservation

    def _leave_line(self, request: Request, waited_s: float) -> None:
        with _book.changed:
            if request in _book.line:  # not in a forked copy
                _book.line.remove(request)
            for each in self._lineage:
                each._waited_s += waited_s
            _book.changed.notify_all()

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
        stuck = are_deadlocked(_book.line)
        if not stuck or stuck[-1] is not request:
            return
        full, holders = self._lacking(request), self._holders(request)
        raise ReservationTimeout(
            f"{name} would wait for ever for {format_bytes(request.size_bytes)}: those who hold it wait for memory "
            f"themselves ({', '.join(holders)}); start it outside of the block, or give the blocks less",
            requested_bytes=request.size_bytes,
            free_bytes=full.account.free_bytes,
            holders=holders,
        )

    def wake_waiters(self) -> None:
        """Let everybody who waits look whether his wish was withdrawn."""
        with _book.changed:
            _book.changed.notify_all()

    def _lacking(self, request: Request) -> ResourceAllocator:
        """Return the innermost allocator without room for a request; its own if all have room."""
        lacking = (each for each in self._lineage if each.account.free_bytes < request.size_bytes)
        return next(lacking, self)

    def _holders(self, request: Request) -> tuple[str, ...]:
        with _book.changed:
            held = self._lacking(request).account.held
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
        with _book.changed:
            account = self.account
            return AllocatorStatistics(
                limit_bytes=self.limit_bytes,
                reserved_bytes=self.limit_bytes - account.free_bytes,
                reservations=len(account.held),
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
        allocator.account.held.clear()


_allocators: WeakSet[ResourceAllocator] = WeakSet()
os.register_at_fork(after_in_child=_start_afresh_in_child)
