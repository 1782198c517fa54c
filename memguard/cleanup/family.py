"""Managers inside managers: whose handlers an emergency reaches, in which order."""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

from memguard.cleanup.runner import Runner

__all__ = ["Family"]


class Family:
    """A runner with those of the managers inside its own, which it does not keep alive; thread safe."""

    def __init__(self, runner: Runner, outer: Family | None) -> None:
        self._runner = runner
        # Reentrant: a signal may start a cleanup while this very thread adds one.
        self._lock = threading.RLock()
        self._inside: WeakValueDictionary[int, Family] = WeakValueDictionary()
        self._made = 0
        if outer is not None:
            outer._add(self)

    def _add(self, inner: Family) -> None:
        with self._lock:
            self._made += 1
            self._inside[self._made] = inner

    def runners(self) -> list[Runner]:
        """Return all, children before their parents, the last made first."""
        with self._lock:
            inside = [inner for _, inner in sorted(self._inside.items(), reverse=True)]
        return [*(runner for inner in inside for runner in inner.runners()), self._runner]

    def start_over(self) -> None:
        """Forget the others, as a forked child must: the lock may be held."""
        self._lock = threading.RLock()
        self._inside = WeakValueDictionary()
