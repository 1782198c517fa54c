"""The job's own view of its guard: say where it is, warn, note; read its budget.

`current_job()` gives a `JobContext` inside a guarded job and ``None`` outside. A library can so report progress
without depending on being guarded. Everything here is advice: a lost message never fails the job.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from typing import Any, Final

from memguard.events import JsonScalar
from memguard.ledger.seat import Seat, SeatView
from memguard.worker.asked import Asked
from memguard.worker.protocol import Channel, Message
from memguard.worker.threads import ThreadFollower

__all__ = ["JobContext", "current_job", "enter_job", "leave_job", "scalar_of", "text_of"]

# A message is cut here so that it stays one small packet.
_LONGEST_TEXT: Final = 4000
# Readers of JSON take whole numbers for 64 bits wide.
_LARGEST_INTEGER: Final = 2**63
_current: JobContext | None = None


class JobContext:
    """What a running job can tell its guard.

    Attributes:
        job_id: the job's id.
        name: the job's name.
        budget_bytes: its bound, for all its processes together.
        threads: what keeps its threads at their share of the processors, or ``None``.
    """

    def __init__(
        self, job_id: str, name: str, budget_bytes: int, channel: Channel, seat: Seat | None = None
    ) -> None:
        self.job_id = job_id
        self.name = name
        self.budget_bytes = budget_bytes
        self._channel = channel
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may count in the midst of it
        self._batches = [0, 0, 0, 0]
        self._asked = Asked(_view_of(seat))
        self.threads: ThreadFollower | None = None
        if seat is not None:
            self.threads = ThreadFollower(lambda: self._asked.running, warn=self.warn)

    @property
    def asked(self) -> Asked:
        """What is asked of the job because memory of the machine is short."""
        return self._asked

    @property
    def free_bytes(self) -> int | None:
        """What is left of its budget, as its guard saw it a moment ago; ``None`` where that is not known."""
        used = None if self._is_copy() else self._asked.used_bytes
        return None if used is None else max(0, self.budget_bytes - used)

    def checkpoint(self) -> None:
        """Give the guard a chance to slow the job down here: waits while memory of the machine is short.

        Pools that can give memory back are asked to. What else is asked tell `Asked.light` and `Asked.stop`.
        """
        if not self._is_copy():
            self.follow_threads()
            self._asked.heed()

    def phase(self, name: str, detail: str = "") -> None:
        """Enter a named part of the work; the one before it ends."""
        self.follow_threads()
        self._tell({"kind": "phase", "name": text_of(name, 100), "detail": text_of(detail)})

    def progress(self, fraction: float) -> None:
        """Say how much of the current phase is done, 0 to 1; what is no number says nothing."""
        self.follow_threads()
        told = scalar_of(fraction)
        if isinstance(told, int | float):
            self._tell({"kind": "progress", "fraction": min(1.0, max(0.0, float(told)))})

    def warn(self, text: str) -> None:
        """Put a warning into the report and the log."""
        self._tell({"kind": "warning", "text": text_of(text)})

    def note(self, key: str, value: Any) -> None:
        """Put a fact into the report's ``notes``, as `scalar_of` tells it; the last value of a key holds."""
        self._tell({"kind": "note", "key": text_of(key, 100), "value": scalar_of(value)})

    def batch(self, rows: int) -> None:
        """Count a finished batch of ``rows`` rows."""
        if self._is_copy():  # and the lock may be held there, by a thread that did not come along
            return
        self.follow_threads()
        with self._lock:
            count, total, smallest, largest = self._batches
            rows = int(rows)
            self._batches = [count + 1, total + rows, min(smallest or rows, rows), max(largest, rows)]
            self._tell({"kind": "batches", "figures": self._batches})

    def follow_threads(self) -> None:
        """Let the threads of this job follow the number of jobs; done at each phase, progress and batch."""
        if self.threads is not None:
            self.threads.apply()

    def _is_copy(self) -> bool:
        return os.getpid() != self._pid

    def _tell(self, message: Message) -> None:
        if not self._is_copy():  # a forked child of the job has no say
            with contextlib.suppress(OSError):  # the kernel has no room for it; it is advice
                self._channel.send(message)


def _view_of(seat: Seat | None) -> SeatView | None:
    try:
        return SeatView(seat) if seat is not None else None
    except OSError:  # its keeper, which opens the same file, reports it
        return None


def scalar_of(value: Any) -> JsonScalar:
    """Return what JSON has a word for: NumPy's numbers as Python's, anything else as text. Never raises."""
    try:
        if not isinstance(value, bool | int | float | str | None):
            with contextlib.suppress(Exception):  # an array of many has no single value, and is told as text
                value = value.item()
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int) and abs(value) < _LARGEST_INTEGER:
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        return str(value)[:_LONGEST_TEXT]
    except Exception as failure:  # noqa: BLE001 - the value's own code may raise anything
        return f"({type(value).__name__} that cannot be shown: {type(failure).__name__})"


def text_of(value: Any, longest: int = _LONGEST_TEXT) -> str:
    """Return a text as it is, anything else as text, cut to a length that a message can hold. Never raises."""
    return str(scalar_of(value))[:longest]


def current_job() -> JobContext | None:
    """Return the context of the guarded job that this process is, else ``None``."""
    return _current


def enter_job(context: JobContext) -> None:
    """Make ``context`` the current one; called once, by the worker."""
    global _current  # noqa: PLW0603 - a process is one job at most
    _current = context


def leave_job() -> None:
    """Forget the current job."""
    global _current  # noqa: PLW0603
    _current = None
