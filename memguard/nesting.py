"""Which block encloses this code: managers entered in this context, and what to believe in a thread without one.

Comes in: who is entered and left. Goes out: the one whose block is around the code that asks.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import os
import threading
from typing import Generic, Protocol, TypeVar

__all__ = ["Nested", "Nesting"]


class Nested(Protocol):
    """What can be entered inside another one of its kind."""

    @property
    def enclosing(self) -> Nested | None:
        """The one it was made in."""

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""


_N = TypeVar("_N", bound=Nested)


class Nesting(Generic[_N]):
    """Keeps who is entered where; thread-safe."""

    def __init__(self, name: str) -> None:
        self._here: contextvars.ContextVar[_N | None] = contextvars.ContextVar(name, default=None)
        # In the order in which they were entered, whichever thread did it.
        self._entered: list[_N] = []
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def enter(self, each: _N) -> contextvars.Token[_N | None]:
        """Note that a block begins; returns what `leave` needs."""
        with self._lock:
            self._entered.append(each)
        return self._here.set(each)

    def leave(self, each: _N, token: contextvars.Token[_N | None]) -> None:
        """Note that a block ends."""
        with self._lock:
            if each in self._entered:
                self._entered.remove(each)
        # Left in another context than it was entered in, as fixtures do, there is nothing to take back.
        with contextlib.suppress(ValueError):
            self._here.reset(token)

    def current(self) -> _N | None:
        """Return whose block encloses this code.

        A thread that was started inside a block knows nothing of it. There those in use count, if each of them
        encloses the next: the innermost one. Where independent ones are in use, nothing tells which is meant.
        """
        here = self._here.get()
        while here is not None and here.is_closed:  # its block was left in another context
            here = here.enclosing  # type: ignore[assignment]  # of the same kind
        return here or self._innermost_of_all()

    def _innermost_of_all(self) -> _N | None:
        with self._lock:
            entered = tuple(self._entered)
        nested = all(inner.enclosing is outer for outer, inner in itertools.pairwise(entered))
        return entered[-1] if entered and nested else None
