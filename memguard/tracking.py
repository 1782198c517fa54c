"""`AllocationTracker`: what this process says it holds, by name, forgotten when it dies.

Comes in: objects with a size, or sizes. Goes out: totals by name. Weak: tracking keeps nothing alive. It knows what
it is told, not what the allocator does; measured memory is `memguard.host`'s.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import Counter, deque
from typing import Any

__all__ = ["AllocationTracker", "size_of"]


def size_of(value: Any) -> int:
    """Return the bytes an object says it holds: ``nbytes``, ``memory_usage``, else its shallow size."""
    usage = getattr(value, "memory_usage", None)
    if callable(usage):
        weights = usage(index=True)
        return int(weights.sum()) if hasattr(weights, "sum") else int(weights)
    nbytes = getattr(value, "nbytes", None)
    return nbytes if isinstance(nbytes, int) else sys.getsizeof(value)


class AllocationTracker:
    """Adds up tracked objects by name; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()
        # A finalizer may run inside the lock, when an allocation in it starts a collection: it only leaves word.
        self._gone: deque[tuple[str, int]] = deque()

    def track(self, value: Any, name: str) -> Any:
        """Count an object until it dies; returns it.

        Raises:
            TypeError: if it cannot be referenced weakly.
        """
        size_bytes = size_of(value)
        weakref.finalize(value, self._gone.append, (name, size_bytes)).atexit = False
        with self._lock:
            self._bytes[name] += size_bytes
        return value

    def _settled(self) -> Counter[str]:
        while self._gone:
            name, size_bytes = self._gone.popleft()
            self._bytes[name] -= size_bytes
        return +self._bytes

    def by_name(self) -> dict[str, int]:
        """Return bytes held by each name, largest first."""
        with self._lock:
            return dict(self._settled().most_common())

    @property
    def total_bytes(self) -> int:
        """Bytes held in all."""
        with self._lock:
            return sum(self._settled().values())
