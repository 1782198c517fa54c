"""Looking again five seconds after a job: the last figure of a report that was handed over before it could be known.

Comes in: a `ReportSlot` whose report lacks the figure. Goes out: the same slot with the completed report. Only jobs
after which the caller's memory was not back at once need it, so mostly there is nothing to wait for and no thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from typing import Final

from memguard.host import private_bytes_now
from memguard.report import JobReport

__all__ = ["ReportSlot", "Settler"]

_LOOK_AGAIN_S: Final = 5.0


class ReportSlot:
    """Holds the current version of a job's report."""

    __slots__ = ("report",)

    def __init__(self, report: JobReport) -> None:
        self.report = report


class Settler:
    """Owns one thread, which is there while reports wait; `close` ends it, and what was not measured stays ``None``."""

    def __init__(self, delay_s: float = _LOOK_AGAIN_S) -> None:
        self._delay_s = delay_s
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, ReportSlot]] = deque()  # when to look, soonest first
        self._thread: threading.Thread | None = None
        self._closed = False

    def settle(self, slot: ReportSlot) -> None:
        """Complete the slot's report in five seconds, if it needs that."""
        if slot.report.caller.after_5s_bytes is not None:
            return
        with self._changed:
            if self._closed:
                return
            self._waiting.append((time.monotonic() + self._delay_s, slot))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="memguard-settler", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        with self._changed:
            while self._waiting and not self._closed:
                due_s, slot = self._waiting[0]
                if not self._changed.wait_for(lambda: self._closed, due_s - time.monotonic()):
                    self._waiting.popleft()
                    _look_again(slot)
            self._thread = None

    def close(self) -> None:
        """End the waiting; once or many times."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join()


def _look_again(slot: ReportSlot) -> None:
    with contextlib.suppress(OSError):  # no descriptor is left, say: then the figure stays unknown
        caller = dataclasses.replace(slot.report.caller, after_5s_bytes=private_bytes_now())
        slot.report = dataclasses.replace(slot.report, caller=caller)
