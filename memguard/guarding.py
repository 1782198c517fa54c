"""`guarded`: a decorator that makes every call of a function a guarded job."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from memguard.manager import MemoryManager, current_manager
from memguard.units import Size

__all__ = ["guarded"]

P = ParamSpec("P")
R = TypeVar("R")


def guarded(
    *, memory: str | int | Size | None = None, timeout: str | float | None = None, name: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make every call of a function a guarded job in a process of its own.

    Args:
        memory: bound of each call; ``None`` takes the whole of the enclosing or default budget.
        timeout: seconds, or ``"5m"``.
        name: for messages; else the function's name.

    Returns:
        A decorator; the function then returns its value, or raises as `MemoryManager.run` does.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = functools.partial(function, *args, **kwargs)
            label = name or getattr(function, "__name__", "job")
            return _shared_manager().run(bound, memory=memory, timeout=timeout, name=label).value

        return call

    return decorate


_shared: MemoryManager | None = None
_shared_lock = threading.Lock()


def _shared_manager() -> MemoryManager:
    """Return the enclosing manager, or one for the whole process that its cleanup manager ends at exit."""
    global _shared  # noqa: PLW0603 - one per process, as templates cost seconds to start
    current = current_manager()
    if current is not None:
        return current
    with _shared_lock:
        if _shared is None:
            _shared = MemoryManager(name="process")
        return _shared
