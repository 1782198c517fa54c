"""A cache by bytes and by entries: what was longest unused goes first; thread-safe.

Comes in: values with their weights. Goes out: the same, while they are there, and how often they were.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["ByteCache"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class ByteCache(Generic[_K, _V]):
    """The cache.

    Args:
        most_entries: how many values at the most.
        most_bytes: what they may weigh together; a value heavier than that is not kept.
    """

    def __init__(self, most_entries: int, most_bytes: int) -> None:
        if most_entries < 0 or most_bytes < 0:
            raise ValueError("a cache has room for no negative number of entries or bytes")
        self._most_entries, self._most_bytes = most_entries, most_bytes
        self._lock = threading.RLock()  # a signal handler may shed while this very thread is in it
        self._values: OrderedDict[_K, tuple[_V, int]] = OrderedDict()
        self.held_bytes = self.hits = self.misses = 0

    def get(self, key: _K) -> _V | None:
        """Return a value and make it the one used last; ``None`` if it is not there."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: _K, value: _V, weight_bytes: int) -> None:
        """Keep a value, in place of those longest unused."""
        with self._lock:
            self.drop(key)
            if weight_bytes > self._most_bytes or not self._most_entries:
                return
            self._values[key] = value, weight_bytes
            self.held_bytes += weight_bytes
            while len(self._values) > self._most_entries or self.held_bytes > self._most_bytes:
                self.drop(next(iter(self._values)))

    def drop(self, key: _K) -> None:
        """Let go of a value, if it is there."""
        with self._lock:
            found = self._values.pop(key, None)
            if found is not None:
                self.held_bytes -= found[1]

    def renew_lock(self) -> None:
        """Take a new lock, as a forked copy must."""
        self._lock = threading.RLock()

    def clear(self) -> int:
        """Let go of everything; return the bytes that were held."""
        with self._lock:
            held, self.held_bytes = self.held_bytes, 0
            self._values.clear()
            return held
