"""The handlers that are registered: who is in, in which order they are due, and who may call one now."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from weakref import ref

from memguard.cleanup.handlers import CleanupHandle, Entry, Execution, in_order
from memguard.cleanup.reports import Occasion

__all__ = ["HandlerTable"]


class HandlerTable:
    """Holds the handlers of one manager; thread safe."""

    def __init__(self) -> None:
        # Reentrant: a signal may start a cleanup while this very thread registers a handler.
        self._lock = threading.RLock()
        self._tokens = itertools.count()
        self._entries: dict[int, Entry] = {}
        self._inherited: list[dict[int, Entry]] = []
        # Handlers whose owners died; filled in whatever thread and moment that is, without a lock.
        self._orphaned: deque[int] = deque()
        self.is_closed = False

    def add(
        self,
        name: str,
        call: Callable[[int], object],
        *,
        occasions: frozenset[Occasion],
        parent: Entry | None = None,
        deadline_s: float | None = None,
        once: bool = False,
        sheds: bool = False,
    ) -> Entry:
        """Register a handler.

        Raises:
            RuntimeError: the table is closed.
            ValueError: the parent is not in it, or is one that sheds and so runs first.
        """
        with self._lock:
            if self.is_closed:
                raise RuntimeError(f"{name} cannot be registered: this cleanup manager is closed")
            self._sweep()
            self._check_parent(parent, name)
            entry = Entry(next(self._tokens), name, call, parent, deadline_s, occasions, once, sheds)
            self._entries[entry.token] = entry
            return entry

    def _check_parent(self, parent: Entry | None, name: str) -> None:
        if parent is not None and parent not in self:
            raise ValueError(f"{name}: its parent {parent.name} has run, was taken out, or is not from here")
        if parent is not None and parent.sheds:
            raise ValueError(
                f"{name}: {parent.name} gives memory back first of all, so it cannot be a parent"
            )

    def drop_with(self, entry: Entry, owner: object) -> None:
        """Take a handler out when an object dies."""
        orphaned, token = self._orphaned, entry.token
        entry.owner = ref(owner, lambda _: orphaned.append(token))

    def _sweep(self) -> None:
        while self._orphaned:
            self._entries.pop(self._orphaned.popleft(), None)

    def __contains__(self, entry: Entry) -> bool:
        return self._entries.get(entry.token) is entry

    def remove(self, entry: Entry) -> bool:
        """Take a handler out and let go of what it holds; tell whether it was in."""
        with self._lock:
            if entry not in self:
                return False
            del self._entries[entry.token]
        entry.let_go()
        return True

    def due(self, occasion: Occasion) -> list[Entry]:
        """Return the handlers for an occasion in the order of their calls; those that shed come first.

        Once it is closed only those for the end are due: what the others work on may be gone.
        """
        if self.is_closed and occasion is not Occasion.NORMAL:
            return []
        with self._lock:
            self._sweep()
            due = [entry for entry in in_order(self._entries.values()) if occasion in entry.occasions]
        # Stable: each of the two groups stays in its own order.
        return sorted(due, key=lambda entry: not entry.sheds)

    def claim(self, entry: Entry) -> Execution | None:
        """Become the one who calls a handler; ``None`` when somebody else is at it, or it is out."""
        with self._lock:
            busy = entry.execution is not None and not entry.execution.finished.is_set()
            if busy or entry not in self:
                return None
            entry.execution = Execution()
            return entry.execution

    def handle(self, entry: Entry) -> CleanupHandle:
        """Return what the one who registered a handler gets."""
        return CleanupHandle(self, entry)

    def start_over(self) -> None:
        """Forget all handlers, as a forked child must: they are its parent's, and the lock may be held.

        They are kept, out of reach: to let go of them might release what the parent still uses.
        """
        self._lock = threading.RLock()
        self._inherited.append(self._entries)
        self._entries = {}
        self._orphaned = deque()
