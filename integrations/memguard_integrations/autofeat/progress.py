"""Where a job is, told to its guard when it has one; outside a guard the same calls do nothing."""

from __future__ import annotations

import sys

from memguard.events import JsonScalar
from memguard.worker import JobContext, current_job

__all__ = ["Progress"]


class Progress:
    """Phases, fractions, warnings, notes and batches of the current job."""

    def __init__(self, job: JobContext | None = None) -> None:
        self._job = job if job is not None else current_job()
        self._permille = -1

    @property
    def budget_bytes(self) -> int:
        """The job's bound; outside a guard a number that bounds nothing."""
        return self._job.budget_bytes if self._job is not None else sys.maxsize

    def phase(self, name: str) -> None:
        """Enter a part of the work."""
        self._permille = -1
        if self._job is not None:
            self._job.phase(name)

    def fraction(self, done: float) -> None:
        """Say how much of the current part is done, 0 to 1; told on only where it moved."""
        permille = int(done * 1000)
        if self._job is not None and permille != self._permille:
            self._permille = permille
            self._job.progress(done)

    def warn(self, text: str) -> None:
        """Put a sentence into the report."""
        if self._job is not None:
            self._job.warn(text)

    def note(self, key: str, value: JsonScalar) -> None:
        """Put a figure into the report."""
        if self._job is not None:
            self._job.note(key, value)

    def batch(self, rows: int) -> None:
        """Count a finished batch."""
        if self._job is not None:
            self._job.batch(rows)
