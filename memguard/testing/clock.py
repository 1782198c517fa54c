"""A clock that moves only when a test says so."""

from __future__ import annotations

import threading
from typing import Protocol

__all__ = ["FakeClock", "FakeEvent"]

# How long a test waits in real time for another thread to get somewhere before it is called stuck.
_PATIENCE_S = 10.0


class _Settable(Protocol):
    def is_set(self) -> bool: ...


class FakeClock:
    """Monotonic time under a test's control.

    A thread that sleeps moves the clock itself and goes on at once. A thread that waits on an event
    made by `event` is really blocked, until the event is set or `advance` moves the clock past its
    time. Does not promise an order among several threads that become due by the same `advance`.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s
        self._changed = threading.Condition()
        self._waiting = 0

    def monotonic(self) -> float:
        """Return the clock's seconds."""
        with self._changed:
            return self._now_s

    __call__ = monotonic

    def advance(self, seconds: float) -> None:
        """Move the clock and wake whoever is due.

        Args:
            seconds: how far, not negative.

        Raises:
            ValueError: for a negative step; a monotonic clock has none.
        """
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds} s")
        with self._changed:
            self._now_s += seconds
            self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Move the clock by ``seconds`` and return at once."""
        self.advance(seconds)

    def wait(self, event: _Settable, timeout_s: float) -> bool:
        """Stand in for ``event.wait(timeout_s)`` in one thread: time passes at once unless it is set.

        Returns:
            Whether ``event`` is set.
        """
        if not event.is_set():
            self.advance(timeout_s)
        return event.is_set()

    def event(self) -> FakeEvent:
        """Return an event whose timeouts run on this clock."""
        return FakeEvent(self)

    def wait_for_waiters(self, count: int = 1) -> None:
        """Block until ``count`` threads are blocked on events of this clock.

        Raises:
            TimeoutError: after ten real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting >= count, _PATIENCE_S):
                raise TimeoutError(f"{self._waiting} threads wait on the fake clock, expected {count}")


class FakeEvent:
    """A `threading.Event` whose timeouts run on a `FakeClock`."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._set = False

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it and wake everyone who waits for it."""
        with self._clock._changed:
            self._set = True
            self._clock._changed.notify_all()

    def clear(self) -> None:
        """Unset it."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is set or the clock has moved by ``timeout`` seconds (``None``: no limit).

        Returns:
            Whether it is set.
        """
        clock = self._clock
        with clock._changed:
            due_s = None if timeout is None else clock._now_s + timeout
            clock._waiting += 1
            clock._changed.notify_all()
            try:
                clock._changed.wait_for(lambda: self._set or (due_s is not None and clock._now_s >= due_s))
            finally:
                clock._waiting -= 1
            return self._set
