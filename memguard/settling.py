"""Looking again five seconds after a job: the last figure of a report that was handed over before it could be known.

Comes in: a `ReportSlot` whose report lacks the figure. Goes out: the same slot with the completed report. Only jobs
after which the caller's memory was not back at once need it, so most jobs start no timer at all.
"""

from __future__ import annotations

import dataclasses
import threading
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
    """Owns the timers; `close` ends them, and what was not measured by then stays ``None``."""

    def __init__(self, delay_s: float = _LOOK_AGAIN_S) -> None:
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self._timers: dict[int, threading.Timer] = {}

    def settle(self, slot: ReportSlot) -> None:
        """Complete the slot's report in five seconds, if it needs that."""
        if slot.report.caller.after_5s_bytes is not None:
            return
        timer = threading.Timer(self._delay_s, self._look, (slot,))
        timer.daemon = True
        with self._lock:
            self._timers[id(slot)] = timer
            timer.start()

    def _look(self, slot: ReportSlot) -> None:
        caller = dataclasses.replace(slot.report.caller, after_5s_bytes=private_bytes_now())
        slot.report = dataclasses.replace(slot.report, caller=caller)
        with self._lock:
            self._timers.pop(id(slot), None)

    def close(self) -> None:
        """End all timers; once or many times."""
        with self._lock:
            timers = tuple(self._timers.values())
            self._timers.clear()
        for timer in timers:
            timer.cancel()
            timer.join()
