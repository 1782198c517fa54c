"""Looking again five seconds after a job: the last figure of a report that was handed over before it could be known.

Comes in: a `ReportSlot` whose report lacks the figure. Goes out: the same slot with the completed report. Only jobs
after which the caller's memory was not back at once need it, so mostly there is nothing to wait for and no thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections import deque
from typing import Final
from weakref import WeakSet

from memguard.host import private_bytes_now
from memguard.report import JobReport

__all__ = ["ReportSlot", "Settler"]

_LOOK_AGAIN_S: Final = 5.0
# The thread ends at once when it is told to; longer it takes only if the one who waits keeps it from that.
_END_WAIT_S: Final = 1.0


class ReportSlot:
    """Holds the current version of a job's report."""

    __slots__ = ("report",)

    def __init__(self, report: JobReport) -> None:
        self.report = report


class Settler:
    """Owns a thread, which is there while reports wait; `close` ends it, and what was not measured stays ``None``.

    No lock is held while anything is done: a signal handler may close in the midst of any of it. A forked copy begins
    without thread and reports.
    """

    def __init__(self, delay_s: float = _LOOK_AGAIN_S) -> None:
        self._delay_s = delay_s
        self._closed = False
        self.start_over()
        _settlers.add(self)

    def start_over(self) -> None:
        """Forget thread and reports, as a forked child must: it has not the one, and the others are its parent's."""
        self._waiting: deque[tuple[float, ReportSlot]] = deque()  # when to look, soonest first
        self._thread: threading.Thread | None = None
        # Held until the end; not an Event, which a signal handler could find half locked.
        self._until_closed = threading.Lock()
        self._until_closed.acquire()

    def settle(self, slot: ReportSlot) -> None:
        """Complete the slot's report in five seconds, if it needs that."""
        if slot.report.caller.after_5s_bytes is not None or self._closed:
            return
        self._waiting.append((time.monotonic() + self._delay_s, slot))
        thread = self._thread
        if thread is None or not thread.is_alive():
            self._begin()

    def _begin(self) -> None:
        # Two that come here at once start a thread each; they share the work.
        self._thread = threading.Thread(target=self._work, name="memguard-settler", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread can be had: the figure waits for one that can
            self._thread.start()

    def _work(self) -> None:
        while not self._closed:
            try:
                due_s, slot = self._waiting.popleft()
            except IndexError:
                self._thread = None
                if not self._waiting:  # else somebody came before he could see that nobody works
                    return
                continue
            if not self._is_closed_within(due_s - time.monotonic()):
                _look_again(slot)

    def _is_closed_within(self, wait_s: float) -> bool:
        if self._until_closed.acquire(timeout=max(0.0, wait_s)):
            self._until_closed.release()
        return self._closed

    def close(self) -> None:
        """End the waiting; once or many times."""
        self._closed = True
        self._waiting.clear()
        with contextlib.suppress(RuntimeError):  # it was closed before
            self._until_closed.release()
        thread = self._thread
        if thread is not None and thread.is_alive():
            thread.join(_END_WAIT_S)


def _look_again(slot: ReportSlot) -> None:
    with contextlib.suppress(OSError):  # no descriptor is left, say: then the figure stays unknown
        caller = dataclasses.replace(slot.report.caller, after_5s_bytes=private_bytes_now())
        slot.report = dataclasses.replace(slot.report, caller=caller)


def _start_over_in_child() -> None:
    for settler in list(_settlers):
        settler.start_over()


_settlers: WeakSet[Settler] = WeakSet()
os.register_at_fork(after_in_child=_start_over_in_child)
