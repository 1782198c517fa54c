"""When a worker that serves many jobs should be replaced: once, for a verdict of ``leaking`` that a census stands by.

Comes in: the end of each job in this process. Goes out: a `LeakReport`, once, that says which process is recycled. Who
ends the process is the library that started it; see `memguard.integrations.joblib` and `memguard.integrations.dask`.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from typing import Final

from memguard.leaks.detector import LeakDetector
from memguard.leaks.records import LeakReport, Verdict

__all__ = ["RecycledWorker", "WorkerWatch"]

# After so many more jobs the verdict is formed anew; it takes some milliseconds.
_JOBS_PER_VERDICT: Final = 20


@dataclass(frozen=True, slots=True)
class RecycledWorker:
    """One worker that was found to leak.

    Attributes:
        pid: its process.
        jobs: how many it had ended when it was found out.
        report: what leaks, how much, who holds it; its evidence says that the worker is recycled.
    """

    pid: int
    jobs: int
    report: LeakReport


class WorkerWatch:
    """Counts the jobs that end in this process and says once that it leaks.

    Promises no time: it looks closer only when what is cheap to read gives reason to, and only as often as `share` of
    the time allows, or once 64 MiB have grown; then it takes some 60 jobs more.

    Args:
        share: of the time that closer looks may take; see `LeakDetector`.
    """

    def __init__(self, share: float = 0.005) -> None:
        self._share = share
        self._lock = threading.Lock()
        self._detector = LeakDetector(thorough=False, share=share)
        self._found: RecycledWorker | None = None
        self.jobs = 0

    def job_ended(self) -> RecycledWorker | None:
        """Count a job; return what is to be told of this worker if it should be recycled now, and only once."""
        with self._lock:
            if self._found is not None:
                return None
            self.jobs += 1
            self._detector.iteration()
            if self.jobs % _JOBS_PER_VERDICT or not self._is_suspected():
                return None
            return self._concluded()

    def _is_suspected(self) -> bool:
        return self._detector.is_thorough and self._detector.report_now().verdict is Verdict.LEAKING

    def _concluded(self) -> RecycledWorker | None:
        """Ask the census too: what fills a bounded cache grows like a leak, and is none."""
        report = self._detector.finish()
        if not report.is_leaking:
            self._detector = LeakDetector(thorough=False, share=self._share)
            return None
        told = f"this worker, process {os.getpid()}, is recycled for it after {self.jobs} jobs"
        self._found = RecycledWorker(
            os.getpid(), self.jobs, replace(report, evidence=(*report.evidence, told))
        )
        return self._found

    def report(self) -> LeakReport:
        """End the watch and return its report, that of the recycled worker if it is one."""
        with self._lock:
            return self._detector.finish() if self._found is None else self._found.report
