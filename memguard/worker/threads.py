"""Threads of BLAS, OpenMP and numba in a job follow the number of jobs that run on the machine.

Comes in: how many jobs run. Goes out: calls that set the numbers of threads of the libraries that are loaded. Each
library takes all processors by itself, so two jobs beside each other would have twice as many threads as processors,
and both would be slower than one after the other. What the user set (``OMP_NUM_THREADS`` and its kin, a call of his
own) is an upper bound and never raised.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from memguard.host import allowed_cpus, usable_cpus
from memguard.redact import redact_error

__all__ = ["ThreadFollower", "threads_for"]

# Packages that bring a library with threads of its own; where none is loaded, there is nothing to look for.
_BRINGERS: Final = frozenset({"lightgbm", "numba", "numpy", "scipy", "sklearn", "torch", "xgboost"})
_NUMBA_THREADS: Final = "numba.np.ufunc.parallel"
# A checkpoint may come for every row: how many jobs run is asked four times a second at most.
_INTERVAL_S: Final = 0.25
# What failed may be a book that somebody else had locked; what fails again must not cost the job its time.
_AFTER_FAILURE_S: Final = 30.0


def threads_for(cpus: int, running_jobs: int, wanted: int | None = None) -> int:
    """Return how many threads a job should have: its share of the processors, at least 1.

    Args:
        cpus: processors that all jobs have together.
        running_jobs: how many jobs share them; less than 1 counts as 1.
        wanted: what the job would take at most, ``None`` for all.
    """
    share = max(1, cpus // max(1, running_jobs))
    return share if wanted is None else max(1, min(share, wanted))


@dataclass(frozen=True, slots=True)
class _Library:
    """A library whose threads can be counted and set.

    Attributes:
        key: what tells it from others.
        count: how many it would use now; nothing or 0 if it cannot tell.
        limit: sets that.
    """

    key: str
    count: Callable[[], int | None]
    limit: Callable[[int], object]


@dataclass(frozen=True, slots=True)
class _Limited:
    """What is known of a library: the number it had by itself or by its user, and the one it was given last."""

    own: int
    given: int


def _ignore(_: str) -> None:
    """Hear a warning, and do nothing."""


class ThreadFollower:
    """Keeps the threads of this process at its share of the processors.

    OpenMP and numba count by thread: what is set holds for the main thread and whoever it starts work for. numba is
    followed from the first checkpoint after it launched its threads. Does not reach child processes.

    Args:
        count_running: how many jobs run on the machine now, this one included.
        cpus: how many processors they share.
        warn: told of the first failure; it is tried again after a while.
        interval_s: how often ``count_running`` is asked at most.
        clock: in seconds; does not go back.
    """

    def __init__(
        self,
        count_running: Callable[[], int],
        *,
        cpus: Callable[[], int] = usable_cpus,
        warn: Callable[[str], None] = _ignore,
        interval_s: float = _INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count_running, self._cpus, self._warn = count_running, cpus, warn
        self._interval_s, self._clock = interval_s, clock
        self._pid = os.getpid()
        self._due_s = -math.inf
        self._applied: object = None
        self._limited: dict[str, _Limited] = {}
        self._has_failed = False

    def apply(self) -> None:
        """Follow, at the job's start and at its checkpoints; never raises, and acts in the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            return
        if os.getpid() != self._pid:  # a child of the job has the numbers of the fork
            return
        try:
            self._follow()
        except Exception as error:  # noqa: BLE001 - a job must not fail of its guard; it is told once
            self._due_s = self._clock() + _AFTER_FAILURE_S
            if not self._has_failed:
                self._has_failed = True
                self._warn(f"threads do not follow the number of jobs for now: {redact_error(error)}")

    def _follow(self) -> None:
        loaded = _bringers_loaded()
        if not loaded or not self._is_due():
            return
        share = threads_for(self._cpus(), self._count_running())
        wanted = (share, loaded)
        if wanted == self._applied:
            return
        # Who may use all processors needs nothing done, and the library that would do it is not even imported.
        needs_nothing = share >= allowed_cpus() and not self._limited
        taken = [] if needs_nothing else [self._give(library, share) for library in _libraries()]
        if all(taken):
            self._applied = wanted

    def _is_due(self) -> bool:
        now_s = self._clock()
        if now_s < self._due_s:
            return False
        self._due_s = now_s + self._interval_s
        return True

    def _give(self, library: _Library, share: int) -> bool:
        """Give a library its share; ``False`` if it did not take it, as while a thread of the job limits it itself."""
        now = library.count()
        if not now or now < 1:
            return True
        known = self._limited.get(library.key)
        if known is not None and now != known.given and now <= share:
            return True  # set by the job since then, to less than it may have
        own = known.own if known is not None and now == known.given else now
        number = threads_for(share, 1, own)
        if number != now:
            library.limit(number)
        self._limited[library.key] = _Limited(own, number)
        return number == now or library.count() == number


def _bringers_loaded() -> frozenset[str]:
    """Name the loaded packages that bring threads; numba's count once it has launched them."""
    loaded = _BRINGERS & sys.modules.keys()
    return loaded | {_NUMBA_THREADS} if _launched_numba() is not None else loaded


def _launched_numba() -> Any:
    """Return the module of numba that holds its threads, if they run: merely to ask it for a number starts them."""
    module = sys.modules.get(_NUMBA_THREADS)
    return module if getattr(module, "_is_initialized", False) else None


def _libraries() -> Iterator[_Library]:
    # Imported here: 10 ms that only those pay whose threads are to be changed.
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415

    for each in ThreadpoolController().lib_controllers:
        yield _Library(f"{each.user_api} {each.filepath}", each.get_num_threads, _limiting(each))
    numba = _launched_numba()
    if numba is not None:
        yield _Library("numba", numba.get_num_threads, numba.set_num_threads)


def _limiting(controller: Any) -> Callable[[int], None]:
    """Return what sets a library's number without keeping the control of it."""

    def limit(number: int) -> None:
        controller.set_num_threads(number)
        # OpenBLAS lets one thread set its number until it lets go; the job's own threads must be able to.
        let_go = getattr(controller, "clear_controlling_thread", None)
        if let_go is not None:
            let_go()

    return limit
