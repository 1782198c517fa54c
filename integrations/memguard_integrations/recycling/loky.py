"""joblib and loky: a worker that leaks retires by loky's own way of doing so, between two tasks, and loses none.

loky replaces a worker that holds 300 MB more than after its first task. Its rule cannot be exchanged, but its figures
are variables of a module in the worker: set so that the rule holds, it applies after the task that is under way.
"""

from __future__ import annotations

import math
import os
import pickle
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar

from memguard.leaks.recycling import RecycledWorker, WorkerWatch, beside_jobs

__all__ = ["LeakRecycling"]

_LOKY: Final = ("joblib.externals.loky.process_executor", "loky.process_executor")
_NEEDED: Final = ("_MEMORY_LEAK_CHECK_DELAY", "_MAX_MEMORY_LEAK_SIZE", "_USE_PSUTIL")

_P = ParamSpec("_P")
_T = TypeVar("_T")


class LeakRecycling:
    """Watches functions that workers of joblib or loky call, and has workers replaced in which they leak.

    ``with LeakRecycling() as recycling: Parallel(n_jobs=4)(delayed(recycling(work))(each) for each in rows)``; what was
    found is in `recycled` and `leaking`. Where a call does not run in a worker of loky's (``n_jobs=1``, threads) it is
    only made.
    What goes wrong in watching, such as a full disk, is logged to ``memguard.leaks`` and costs no call its result.
    A worker that is replaced makes loky warn (`UserWarning`) that one stopped; results are complete all the same.

    Args:
        share: of a worker's time that closer looks may take; see `memguard.leaks.recycling.WorkerWatch`.
    """

    def __init__(self, *, share: float = 0.005) -> None:
        self._share = share
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._found: tuple[RecycledWorker, ...] = ()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="memguard-recycling-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._found = self.leaking
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __call__(self, function: Callable[_P, _T]) -> _Watched[_P, _T]:
        """Return the function with a watch around it, to be given to ``delayed`` or ``submit``.

        Raises:
            RuntimeError: outside of the ``with`` block.
        """
        if self._folder is None:
            raise RuntimeError(
                "LeakRecycling is used as: with LeakRecycling() as recycling: ... recycling(function)"
            )
        return _Watched(function, self._folder.name, self._share)

    @property
    def recycled(self) -> tuple[RecycledWorker, ...]:
        """Workers that were found to leak so far and are replaced, in the order in which they were found."""
        return tuple(each for each in self.leaking if each.is_replaced)

    @property
    def leaking(self) -> tuple[RecycledWorker, ...]:
        """Workers that were found to leak so far, also those that a version of loky cannot be told to replace."""
        if self._folder is None:
            return self._found
        notes = sorted(Path(self._folder.name).glob("*.worker"), key=lambda each: each.stat().st_mtime_ns)
        return tuple(pickle.loads(note.read_bytes()) for note in notes)


class _Watched(Generic[_P, _T]):
    """A function as it travels to workers."""

    def __init__(self, function: Callable[_P, _T], folder: str, share: float) -> None:
        self._function, self._folder, self._share = function, folder, share
        # joblib names tasks by it in its messages.
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return self._function(*args, **kwargs)
        finally:
            with beside_jobs():
                loky = _loky_of_this_worker()
                if loky is not None:
                    _count(loky, self._folder, self._share)


# The watch of this worker and what it was made for: joblib sends the function anew with each batch of tasks.
_watches: dict[str, WorkerWatch] = {}
_watches_lock: Final = threading.Lock()


def _count(loky: ModuleType, folder: str, share: float) -> None:
    found = _watch_for(folder, share).job_ended()
    if found is None:
        return
    is_replaced = _retire(loky)
    _leave_note(found.replaced() if is_replaced else found, Path(folder))
    if not is_replaced:
        warnings.warn(
            "this worker leaks, but this version of loky cannot be told to replace it", stacklevel=2
        )


def _watch_for(folder: str, share: float) -> WorkerWatch:
    with _watches_lock:
        if folder not in _watches:
            for former in _watches.values():
                former.close()
            _watches.clear()
            _watches[folder] = WorkerWatch(share)
        return _watches[folder]


def _loky_of_this_worker() -> ModuleType | None:
    """Return the module whose loop runs in this process; joblib has a loky of its own."""
    loaded = (sys.modules.get(name) for name in _LOKY)
    return next(
        (each for each in loaded if each is not None and getattr(each, "_CURRENT_DEPTH", 0) > 0), None
    )


def _retire(loky: Any) -> bool:
    """Have this worker replaced after the task under way; return whether that can be had."""
    if not all(hasattr(loky, name) for name in _NEEDED) or not loky._USE_PSUTIL:
        return False
    loky._MEMORY_LEAK_CHECK_DELAY = -math.inf
    loky._MAX_MEMORY_LEAK_SIZE = -math.inf
    return True


def _leave_note(found: RecycledWorker, folder: Path) -> None:
    beside = folder / f"{os.getpid()}.part"
    try:
        beside.write_bytes(pickle.dumps(found))
        beside.rename(folder / f"{os.getpid()}.worker")
    except FileNotFoundError:
        pass  # nobody waits for it any more: the block was left
    finally:
        beside.unlink(missing_ok=True)
