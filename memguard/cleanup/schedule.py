"""Work on a thread of its own: every so often, or for a coroutine that waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from memguard.aside import start_aside

__all__ = ["Schedule", "StopEvent", "in_thread"]

_T = TypeVar("_T")

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


def _tell(error: BaseException) -> None:
    here = threading.current_thread()
    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, here)))


async def in_thread(work: Callable[[], _T]) -> _T:
    """Do something without blocking the event loop; a cancellation waits until it is done, and then goes on."""
    task = start_aside(work, "memguard-cleanup")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
