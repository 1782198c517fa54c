"""When a worker that serves many jobs should be replaced: once, for a verdict of ``leaking`` that a census stands by.

Comes in: the end of each job in this process. Goes out: a `LeakReport`, once. Who ends the process is the library that
started it, and only where it does does the report say so; see `memguard.integrations.joblib` and
`memguard.integrations.dask`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from memguard.leaks.detector import LeakDetector
from memguard.leaks.records import LeakReport, Verdict

__all__ = ["RecycledWorker", "WorkerWatch", "beside_jobs"]

_log: Final = logging.getLogger("memguard.leaks")
# After so many more jobs the verdict is formed anew; it takes some milliseconds.
_JOBS_PER_VERDICT: Final = 20


@contextmanager
def beside_jobs() -> Iterator[None]:
    """Log what fails within, and go on: what is done beside a job must never cost the job its result."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever it is, the job is worth more
        _log.warning("a watch for leaks failed; the jobs of process %d go on", os.getpid(), exc_info=True)


@dataclass(frozen=True, slots=True)
class RecycledWorker:
    """One worker that was found to leak.

    Attributes:
        pid: its process.
        jobs: how many it had ended when it was found out.
        report: what leaks, how much, who holds it; of a worker that is replaced, its evidence says so.
        is_replaced: whether another process takes its place.
    """

    pid: int
    jobs: int
    report: LeakReport
    is_replaced: bool = False

    def replaced(self) -> RecycledWorker:
        """Return the same of a worker whose replacement is under way."""
        told = f"this worker, process {self.pid}, is recycled for it after {self.jobs} jobs"
        report = replace(self.report, evidence=(*self.report.evidence, told))
        return replace(self, report=report, is_replaced=True)


class WorkerWatch:
    """Counts the jobs that end in this process and says once that it leaks.

    Promises no time: it looks closer only when what is cheap to read gives reason to, and only as often as `share` of
    the time allows, or once 64 MiB have grown; then it takes some 60 jobs more. Begins at the end of the first job, or
    at `begin`, in the process that is watched; jobs may end in several threads.

    Args:
        share: of the time that closer looks may take; see `LeakDetector`.
    """

    def __init__(self, share: float = 0.005) -> None:
        self._share = share
        self._lock = threading.Lock()
        self._detector: LeakDetector | None = None
        self._found: RecycledWorker | None = None
        self._is_over = False
        self.jobs = 0

    @property
    def found(self) -> RecycledWorker | None:
        """What is told of this worker since it was found to leak."""
        return self._found

    def begin(self) -> None:
        """Begin now, before the first job.

        Raises:
            OSError: as `job_ended`.
        """
        with self._lock:
            self._begun()

    def job_ended(self) -> RecycledWorker | None:
        """Count a job; return what is to be told of this worker if it should be recycled now, and only once.

        Raises:
            OSError: what the detector reads cannot be read, as on a system without /proc. The watch is over then, so
                that an error is raised once and not at the end of each job.
        """
        with self._lock:
            if self._is_over:
                return None
            try:
                self._found = self._count()
            except BaseException:
                self._end()
                raise
            self._is_over = self._found is not None
            return self._found

    def _count(self) -> RecycledWorker | None:
        self.jobs += 1
        detector = self._begun()
        detector.iteration()
        if self.jobs % _JOBS_PER_VERDICT or not _is_suspected(detector):
            return None
        return self._concluded(detector)

    def _begun(self) -> LeakDetector:
        if self._detector is None:
            self._detector = LeakDetector(thorough=False, share=self._share)
        return self._detector

    def _concluded(self, detector: LeakDetector) -> RecycledWorker | None:
        """Ask the census too: what fills a bounded cache grows like a leak, and is none."""
        report = detector.finish()
        if report.is_leaking:
            return RecycledWorker(os.getpid(), self.jobs, report)
        self._detector = None
        self._begun()
        return None

    def report(self) -> LeakReport:
        """End the watch and return its report, that of the worker's leak if there is one."""
        with self._lock:
            self._is_over = True
            return self._begun().finish() if self._found is None else self._found.report

    def close(self) -> None:
        """End the watch without a last look; what it found stays."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._is_over = True
        if self._detector is not None:
            self._detector.close()


def _is_suspected(detector: LeakDetector) -> bool:
    return detector.is_thorough and detector.report_now().verdict is Verdict.LEAKING
