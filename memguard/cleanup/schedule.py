"""Work on a thread of its own, every so often."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["OnlySchedule", "Schedule", "StopEvent"]

# A handler that is in the middle of its work when the schedule is stopped gets this long to end.
_JOIN_S: Final = 5.0


class StopEvent(Protocol):
    """What a schedule waits on: `threading.Event`, or a test's stand-in."""

    def set(self) -> None:
        """Wake whoever waits."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait ``timeout`` seconds; return ``True`` at once when it is set."""


class Schedule:
    """Calls something every interval on a daemon thread, first after one interval, until it is stopped."""

    def __init__(
        self, work: Callable[[], object], make_event: Callable[[], StopEvent], interval_s: float
    ) -> None:
        """Begin.

        Raises:
            ValueError: for an interval that is not positive.
        """
        if not interval_s > 0:
            raise ValueError(f"an interval is more than 0 s, not {interval_s}")
        self._work = work
        self._interval_s = interval_s
        self._stop = make_event()
        self._thread = threading.Thread(target=self._keep, name="memguard-cleanup-schedule", daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """End it; tell whether its thread is gone. A thread in the middle of its work gets 5 s to end."""
        self._stop.set()
        if self._thread is threading.current_thread():
            return True  # called by the work itself: it ends when that returns
        self._thread.join(_JOIN_S)
        return not self._thread.is_alive()

    def _keep(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._work()
            except BaseException as error:  # noqa: BLE001 - told as Python tells of any thread; the schedule goes on
                _tell(error)


class OnlySchedule:
    """Room for one schedule, until it is closed; thread-safe."""

    def __init__(self, make_event: Callable[[], StopEvent]) -> None:
        self._make_event = make_event
        # Reentrant: a signal's handler may close in the midst of a call.
        self._lock = threading.RLock()
        self._schedule: Schedule | None = None
        self._closed = False

    def start(self, work: Callable[[], object], interval_s: float, *, or_keep: bool = False) -> None:
        """Begin a schedule; with ``or_keep`` one that runs already will do.

        Raises:
            RuntimeError: one runs already, or it is closed, or no thread can be started.
            ValueError: for an interval that is not positive.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("this cleanup manager is closed")
            if self._schedule is None:
                self._schedule = Schedule(work, self._make_event, interval_s)
            elif not or_keep:
                raise RuntimeError("this cleanup manager has a schedule already")

    def close(self) -> bool:
        """End it, and start no other; tell whether its thread is gone. Once or many times."""
        with self._lock:
            self._closed = True
            schedule, self._schedule = self._schedule, None
        return schedule is None or schedule.stop()

    def start_over(self) -> None:
        """Forget the schedule, as a forked child must: its thread is not there, and the lock may be held."""
        self._lock = threading.RLock()
        self._schedule = None


def _tell(error: BaseException) -> None:
    here = threading.current_thread()
    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, here)))
