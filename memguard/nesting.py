"""Which blocks enclose this code: those entered in this context, and what to believe in a thread without one.

Comes in: who is entered and left. Goes out: whose block is around the code that asks (`Nesting`, for managers), and
what all blocks around it hold (`Surroundings`).
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import threading
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from memguard.aside import thread_of_this_code

__all__ = ["Nested", "Nesting", "Releasable", "Surroundings"]


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
        # Left in another context than it was entered in, or before one inside of it, there is nothing to take back:
        # what has ended encloses nobody.
        if self._here.get() is each:
            former = token.old_value
            self._here.set(None if former is contextvars.Token.MISSING else former)

    def current(self) -> _N | None:
        """Return whose block encloses this code.

        A thread that was started inside a block knows nothing of it. There those in use count, if each of them
        encloses the next: the innermost one. Where independent ones are in use, nothing tells which is meant.
        """
        return _innermost_open(self._here.get()) or self._innermost_of_all()

    def _innermost_of_all(self) -> _N | None:
        with self._lock:
            entered = tuple(each for each in self._entered if not each.is_closed)
        pairs = itertools.pairwise(entered)
        nested = all(_innermost_open(inner.enclosing) is outer for outer, inner in pairs)
        return entered[-1] if entered and nested else None


def _innermost_open(each: _N | None) -> _N | None:
    """Return it, or the next one around it that has not ended: a block may be left in another context."""
    while each is not None and each.is_closed:
        each = each.enclosing  # type: ignore[assignment]  # of the same kind
    return each


class Releasable(Protocol):
    """What a block holds, until it gives it back."""

    @property
    def is_released(self) -> bool:
        """Whether it was given back."""


_R = TypeVar("_R", bound=Releasable)


class Surroundings(Generic[_R]):
    """Keeps what the blocks around each piece of code hold; thread-safe.

    A thread that somebody started inside a block knows nothing of it. It counts as inside if it was started while the
    main thread was in the block, outside of any event loop: then most likely the block waits for it, and what it asks
    for must not wait for the block. Blocks of other threads, and of coroutines, tell nothing of who starts a thread.
    """

    def __init__(self, name: str) -> None:
        self._around: contextvars.ContextVar[tuple[_R, ...] | None] = contextvars.ContextVar(
            name, default=None
        )
        # Of the main thread, outermost first, each with the threads that were there before it.
        self._of_main: list[tuple[_R, WeakSet[threading.Thread]]] = []

    def enter(self, each: _R) -> None:
        """Note that a block begins."""
        self._around.set((*self.current(), each))
        if _is_plainly_main():
            self._of_main.append((each, WeakSet(threading.enumerate())))

    def leave(self, each: _R) -> None:
        """Note that a block ends; in whatever order and context they do, those that were not left are still around."""
        self._around.set(tuple(other for other in self.current() if other is not each))
        for entry in tuple(self._of_main):
            if entry[0] is each:
                self._of_main.remove(entry)

    def current(self) -> tuple[_R, ...]:
        """Return what the blocks around this code hold and have not given back, outermost first."""
        around = self._around.get()
        if around is None:
            thread = thread_of_this_code()
            around = tuple(each for each, before in tuple(self._of_main) if thread not in before)
        return tuple(each for each in around if not each.is_released)


def _is_plainly_main() -> bool:
    if threading.current_thread() is not threading.main_thread():
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False
