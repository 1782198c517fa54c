"""A detector around jobs: each job that ends in this process, or each call of a worker's function, is an iteration.

The cheap channels are read every time, some ten microseconds. Only when they give reason to are garbage collected and
censuses taken, so that a verdict of ``leaking`` comes after as many jobs again.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar

from memguard.events import Event, EventBus
from memguard.leaks.detector import LeakDetector
from memguard.leaks.records import LeakReport, Verdict

__all__ = ["JobWatch", "WatchedFunction", "watched"]

_ENDS: Final = frozenset({"memguard.job_ended"})
# After so many more calls the verdict is formed anew; it takes some milliseconds.
_CALLS_PER_VERDICT: Final = 20

_P = ParamSpec("_P")
_T = TypeVar("_T")


class JobWatch:
    """Says whether the process that starts jobs leaks from job to job; a context manager.

    ``with JobWatch(manager.events) as watch: ...; watch.report()``. Blocks of `managed_processing`, which run in this
    very process, count as well as jobs in processes of their own.

    Args:
        events: of a `MemoryManager`.
    """

    def __init__(self, events: EventBus) -> None:
        self._lock = threading.Lock()
        self._detector = LeakDetector(thorough=False)
        self._unsubscribe = events.subscribe(self._take)

    def _take(self, event: Event) -> None:
        if event.name in _ENDS:
            # Jobs may end in several threads at once; the probe is for one.
            with self._lock:
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
        """End the watch and return its report."""
        self._unsubscribe()
        with self._lock:
            return self._detector.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.report()


class WatchedFunction(Generic[_P, _T]):
    """A function that a worker calls again and again, with a detector around it; made by `watched`."""

    def __init__(self, function: Callable[_P, _T]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._lock = threading.Lock()
        # Made at the first call: the process that is watched is the one that calls, and not one it is sent from.
        self._detector: LeakDetector | None = None
        self._verdict = Verdict.INCONCLUSIVE
        self._calls = 0

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call it; a call that raises is an iteration too."""
        try:
            return self._function(*args, **kwargs)
        finally:
            with self._lock:
                self._count()

    def _count(self) -> None:
        if self._detector is None:
            self._detector = LeakDetector(thorough=False)
        self._detector.iteration()
        self._calls += 1
        if self._calls % _CALLS_PER_VERDICT == 0:
            self._verdict = self._detector.report_now().verdict

    @property
    def should_be_recycled(self) -> bool:
        """Whether its process leaks by now, as far as samples tell, and has looked closer before it says so."""
        detector = self._detector
        return detector is not None and detector.is_thorough and self._verdict is Verdict.LEAKING

    def report(self) -> LeakReport | None:
        """End the watch in this process and return its report, with culprits; ``None`` if it was never called."""
        with self._lock:
            return None if self._detector is None else self._detector.finish()

    def __reduce__(self) -> tuple[Any, ...]:
        return watched, (self._function,)


def watched(function: Callable[_P, _T]) -> WatchedFunction[_P, _T]:
    """Put a detector around a function that a worker of joblib, Dask or a pool calls for each of its jobs."""
    return WatchedFunction(function)
