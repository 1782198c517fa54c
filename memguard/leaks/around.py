"""A detector around jobs: each job that ends in this process, or each call of a worker's function, is an iteration.

The cheap channels are read every time, some ten microseconds. Only when they give reason to are garbage collected and
censuses taken, so that a verdict of ``leaking`` comes after as many jobs again.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar

from memguard.events import Event, EventBus
from memguard.leaks.detector import LeakDetector
from memguard.leaks.records import LeakReport
from memguard.leaks.recycling import WorkerWatch, beside_jobs
from memguard.leaks.registry import ModelRegistry, Survivor
from memguard.leaks.suspects import with_suspects

__all__ = ["JobWatch", "WatchedFunction", "watched"]

_ENDS: Final = frozenset({"memguard.job_ended"})
# Of older jobs than these models are not looked for: a name is kept of each.
_MOST_JOBS: Final = 1000
_SEARCH_S: Final = 2.0

_P = ParamSpec("_P")
_T = TypeVar("_T")


class JobWatch:
    """Says whether the process that starts jobs leaks from job to job; a context manager.

    ``with JobWatch(manager.events, manager.models) as watch: ...; watch.report()``. Blocks of `managed_processing`,
    which run in this very process, count as well as jobs in processes of their own.

    Args:
        events: of a `MemoryManager`.
        models: of the same: those that are alive when the report is asked for, though their job is over, are among its
            culprits. ``None`` to leave them out.
    """

    def __init__(self, events: EventBus, models: ModelRegistry | None = None) -> None:
        self._lock = threading.Lock()
        self._models = models
        self._jobs: deque[str] = deque(maxlen=_MOST_JOBS)
        self._detector = LeakDetector(thorough=False)
        self._report: LeakReport | None = None
        self._unsubscribe = events.subscribe(self._take)

    def _take(self, event: Event) -> None:
        if event.name in _ENDS:
            # Jobs may end in several threads at once; the probe is for one.
            with self._lock:
                if self._models is not None and self._models.live_count(event.job_id):
                    self._jobs.append(event.job_id)
                self._detector.iteration()

    @property
    def is_suspicious(self) -> bool:
        """Whether the cheap channels gave reason to look closer."""
        return self._detector.is_thorough

    def report_now(self) -> LeakReport:
        """Return what the samples say so far; the watch goes on."""
        with self._lock:
            return self._detector.report_now()

    def report(self) -> LeakReport:
        """End the watch and return its report; the same again if it is called again."""
        own, jobs = self._end()
        if self._report is None:
            self._report = with_suspects(own, tuple(self._survivors(jobs)))
        return self._report

    def _end(self) -> tuple[LeakReport, tuple[str, ...]]:
        self._unsubscribe()
        with self._lock:
            return self._detector.finish(), tuple(self._jobs)

    def _survivors(self, jobs: tuple[str, ...]) -> Iterator[Survivor]:
        if self._models is None:
            return
        give_up_s = time.monotonic() + _SEARCH_S
        for job_id in jobs:
            yield from self._models.survivors(job_id, within_s=max(0.0, give_up_s - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Models are searched for only where the report is wanted: it takes up to two seconds.
        self._end()


class WatchedFunction(Generic[_P, _T]):
    """A function that a worker calls again and again, with a detector around it; made by `watched`."""

    def __init__(self, function: Callable[_P, _T], share: float) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._share = share
        # Begins at the first call: the process that is watched is the one that calls, and not one it is sent from.
        self._watch = WorkerWatch(share)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call it; a call that raises is an iteration too, and what the watch fails at is logged, not raised."""
        try:
            return self._function(*args, **kwargs)
        finally:
            with beside_jobs():
                self._watch.job_ended()

    @property
    def should_be_recycled(self) -> bool:
        """Whether its process leaks by now; once it does, what is found is in `report`."""
        return self._watch.found is not None

    def report(self) -> LeakReport | None:
        """End the watch in this process and return its report, with culprits; ``None`` if it was never called."""
        return self._watch.report() if self._watch.jobs else None

    def __reduce__(self) -> tuple[Any, ...]:
        return watched, (self._function, self._share)


def watched(function: Callable[_P, _T], share: float = 0.005) -> WatchedFunction[_P, _T]:
    """Put a detector around a function that a worker of a pool calls for each of its jobs.

    For joblib and Dask see `memguard.integrations.joblib` and `memguard.integrations.dask`, which also replace workers.

    Args:
        function: what is called.
        share: of the time that closer looks may take; see `LeakDetector`.
    """
    return WatchedFunction(function, share)
