"""`ResourceAllocator`: a budget shared by jobs that do not know of each other: reserve, wait, grow, release.

Comes in: requests in bytes. Goes out: `Reservation`s whose sum never passes the budget. This one lives inside one
process; what it promises is what a book shared by the whole machine would promise. First come, first served: a waiter
is never overtaken, and waiters are woken, not polled. A reservation is a promise of room, not a measurement of use.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from weakref import WeakSet

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


class Reservation:
    """Room for one job; give it back with `release` or at the end of a ``with`` block."""

    def __init__(
        self, allocator: ResourceAllocator, size_bytes: int, name: str, outer: Reservation | None
    ) -> None:
        self._allocator = allocator
        self._outer = outer
        self._released = False
        self.size_bytes = size_bytes
        self.name = name

    def grow_nowait(self, extra_bytes: int) -> bool:
        """Ask for more without waiting; False if there is no room: then adapt.

        Raises:
            ValueError: for a negative amount.
        """
        _check_size(extra_bytes)
        return self._allocator._grow(self, extra_bytes)

    def release(self) -> None:
        """Give it back; once or many times."""
        self._allocator._release(self)

    def lineage(self) -> Iterator[tuple[ResourceAllocator, int]]:
        """Give what it holds of each allocator, from its own one outwards."""
        each: Reservation | None = self
        while each is not None:
            yield each._allocator, each.size_bytes
            each = each._outer

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
        self._parent = parent
        self._changed = threading.Condition()
        self._held: list[Reservation] = []
        self._queue: deque[object] = deque()
        self._granted = 0
        self._waited_s = 0.0
        _allocators.add(self)

    @property
    def free_bytes(self) -> int:
        """What is not reserved."""
        with self._changed:
            return self._free()

    def _free(self) -> int:
        return self.limit_bytes - sum(each.size_bytes for each in self._held)

    def reserve(
        self,
        size_bytes: int,
        name: str,
        *,
        timeout_s: float | None = None,
        held: Iterable[Reservation] = (),
        withdrawn: Callable[[], bool] | None = None,
    ) -> Reservation:
        """Reserve room, waiting for it in turn.

        Args:
            size_bytes: how much.
            name: for whom, in messages.
            timeout_s: how long to wait; ``None`` for ever, 0 not at all.
            held: what the asker itself holds until it has this: it must not wait for its own.
            withdrawn: says that the room is not wanted any more; asked at first and after `wake_waiters`.

        Raises:
            CapacityExceeded: if it is more than the whole budget, or what is left beside ``held``; at once.
            ReservationTimeout: if it is not free in time; says who holds what.
            JobInterrupted: if it was withdrawn.
            ValueError: for a negative size.
        """
        _check_size(size_bytes)
        held = tuple(held)
        self._check_room(size_bytes, name, held)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        reservation = self._reserve_here(size_bytes, name, deadline, withdrawn)
        if self._parent is not None:
            self._reserve_outside(reservation, deadline, held, withdrawn)
        return reservation

    def _check_room(self, size_bytes: int, name: str, held: tuple[Reservation, ...]) -> None:
        """Refuse what waiting could not help, here or outside, before anybody waits for it."""
        if self._parent is not None:
            self._parent._check_room(size_bytes, name, held)
        own = {each: part for each in held for allocator, part in each.lineage() if allocator is self}
        room = self.limit_bytes - sum(own.values())
        if size_bytes <= room:
            return
        holds = "".join(f"; {each.name} around it holds {format_bytes(part)}" for each, part in own.items())
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

    def _reserve_here(
        self, size_bytes: int, name: str, deadline_s: float | None, withdrawn: Callable[[], bool] | None
    ) -> Reservation:
        ticket, began = object(), time.monotonic()
        with self._changed:
            self._queue.append(ticket)
            try:
                while self._queue[0] is not ticket or self._free() < size_bytes:
                    if withdrawn is not None and withdrawn():
                        raise JobInterrupted(f"{name} was stopped while it waited for memory")
                    if not self._changed.wait(_remaining(deadline_s)) and _is_over(deadline_s):
                        raise self._timeout(size_bytes, name)
                reservation = Reservation(self, size_bytes, name, None)
                self._held.append(reservation)
                self._granted += 1
                return reservation
            finally:
                self._queue.remove(ticket)
                self._waited_s += time.monotonic() - began
                self._changed.notify_all()

    def _reserve_outside(
        self,
        reservation: Reservation,
        deadline_s: float | None,
        held: tuple[Reservation, ...],
        withdrawn: Callable[[], bool] | None,
    ) -> None:
        assert self._parent is not None
        try:
            reservation._outer = self._parent.reserve(
                reservation.size_bytes,
                reservation.name,
                timeout_s=_remaining(deadline_s),
                held=held,
                withdrawn=withdrawn,
            )
        except BaseException:
            self._release(reservation)
            raise

    def wake_waiters(self) -> None:
        """Let everybody who waits look whether his wish was withdrawn, here and outside."""
        with self._changed:
            self._changed.notify_all()
        if self._parent is not None:
            self._parent.wake_waiters()

    def _timeout(self, size_bytes: int, name: str) -> ReservationTimeout:
        holders = tuple(f"{each.name}: {format_bytes(each.size_bytes)}" for each in self._held)
        free, held = self._free(), ", ".join(holders) or "nobody: others wait before it"
        return ReservationTimeout(
            f"{name} waited for {format_bytes(size_bytes)}, and {format_bytes(free)} of "
            f"{format_bytes(self.limit_bytes)} are free; held by {held}",
            requested_bytes=size_bytes,
            free_bytes=free,
            holders=holders,
        )

    def _grow(self, reservation: Reservation, extra_bytes: int) -> bool:
        with self._changed:
            if reservation._released or self._queue or self._free() < extra_bytes:
                return False
            if reservation._outer is not None and not reservation._outer.grow_nowait(extra_bytes):
                return False
            reservation.size_bytes += extra_bytes
            return True

    def _release(self, reservation: Reservation) -> None:
        with self._changed:
            if reservation._released:
                return
            reservation._released = True
            if reservation in self._held:  # not in a forked copy, where nothing is held
                self._held.remove(reservation)
            self._changed.notify_all()
        if reservation._outer is not None:
            reservation._outer.release()

    def _start_afresh(self) -> None:
        # In a forked child: the jobs are the parent's, and the thread that held the lock does not exist.
        self._changed = threading.Condition()
        self._held, self._queue = [], deque()

    def statistics(self) -> AllocatorStatistics:
        """Return a snapshot."""
        with self._changed:
            reserved = self.limit_bytes - self._free()
            return AllocatorStatistics(
                self.limit_bytes, reserved, len(self._held), len(self._queue), self._granted, self._waited_s
            )


def _remaining(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())


def _is_over(deadline_s: float | None) -> bool:
    return deadline_s is not None and time.monotonic() >= deadline_s


def _check_size(size_bytes: int) -> None:
    if size_bytes < 0:
        raise ValueError(f"a size is not negative: {size_bytes} bytes")


def _start_afresh_in_child() -> None:
    for allocator in list(_allocators):
        allocator._start_afresh()


_allocators: WeakSet[ResourceAllocator] = WeakSet()
os.register_at_fork(after_in_child=_start_afresh_in_child)
