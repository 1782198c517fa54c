"""One handler: its registration, its place in the hierarchy, and one call of it."""

from __future__ import annotations

import inspect
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol, Self
from weakref import ref

from memguard.cleanup.reports import HandlerOutcome, HandlerResult, Occasion

__all__ = [
    "CleanupHandle",
    "Entry",
    "Execution",
    "check_handler",
    "check_registration",
    "in_order",
    "weak_call",
]


class Execution:
    """One call of a handler: begun when it is made, over when ``finished`` is set."""

    def __init__(self) -> None:
        self.finished = threading.Event()
        self._begun = threading.Lock()
        self.started_s = time.monotonic()
        self.ended_s = 0.0
        self.freed_bytes: int | None = None
        self.error = ""
        self.interrupt: BaseException | None = None

    def begin(self) -> bool:
        """Become the thread that makes the call; ``False`` for all but the first to ask."""
        return self._begun.acquire(blocking=False)

    def perform(self, call: Callable[[int], object], target_bytes: int) -> None:
        """Call the handler and note how it ended; nothing that it raises comes out of here."""
        try:
            returned = call(target_bytes)
            if isinstance(returned, int) and not isinstance(returned, bool):
                self.freed_bytes = returned
        except BaseException as error:  # noqa: BLE001 - told in the result; what is no Exception is raised later
            # Only the text of it is kept: a traceback would keep alive what was to be released.
            self.error = _error_text(error)
            self.interrupt = None if isinstance(error, Exception) else error
        self.ended_s = time.monotonic()

    def result(self, name: str, deadline_s: float | None) -> HandlerResult:
        """Tell how it stands now."""
        done = self.finished.is_set()
        took_s = (self.ended_s if done else time.monotonic()) - self.started_s
        outcome, detail = HandlerOutcome.OK, self.error
        if done and self.error:
            outcome = HandlerOutcome.FAILED
        elif not done or (deadline_s is not None and took_s > deadline_s):
            state = "done, but late" if done else "not done, its thread goes on"
            allowed = "no deadline" if deadline_s is None else f"{deadline_s:g} s allowed"
            outcome, detail = HandlerOutcome.OVERRAN, f"{state}: {took_s:.3g} s, {allowed}"
        return HandlerResult(name, outcome, took_s, detail, self.freed_bytes)


def _error_text(error: BaseException) -> str:
    # Not str(error), which may raise itself.
    text = "".join(traceback.format_exception_only(error)).strip()
    places = list(traceback.walk_tb(error.__traceback__))
    frame, line = places[-1]
    return f"{text} (in {frame.f_code.co_qualname}, {PurePath(frame.f_code.co_filename).name}:{line})"


@dataclass(slots=True, eq=False)
class Entry:
    """A registered handler.

    Attributes:
        token: its number; later registrations have higher ones.
        name: what reports call it.
        call: the handler; it is given the bytes to free, which most ignore.
        parent: the handler that runs after it.
        deadline_s: seconds it may take; ``None`` for no limit.
        occasions: when it runs.
        once: whether its first call is its only one.
        sheds: whether it runs before all others in an emergency.
        execution: its last call, which may still go on.
        owner: what it goes with, or ``None``.
    """

    token: int
    name: str
    call: Callable[[int], object]
    parent: Entry | None
    deadline_s: float | None
    occasions: frozenset[Occasion]
    once: bool
    sheds: bool
    execution: Execution | None = None
    owner: ref[object] | None = None

    def let_go(self) -> None:
        """Drop the handler and whatever it holds."""
        self.call = _nothing


def _nothing(target_bytes: int) -> None:
    """Stand in for a handler that was taken out."""


def in_order(entries: Collection[Entry]) -> list[Entry]:
    """Return the order of calls: children before parents, siblings last registered first.

    The whole of a later sibling's family comes before the earlier sibling's. A child whose parent is gone
    belongs to the nearest ancestor that is not.
    """
    known = {entry.token for entry in entries}
    children: dict[int | None, list[Entry]] = defaultdict(list)
    for entry in entries:
        children[_nearest_parent(entry, known)].append(entry)
    # Parents first and siblings in order of registration, as a stack yields it; the reverse is wanted.
    forward, stack = [], children[None][::-1]
    while stack:
        forward.append(entry := stack.pop())
        stack.extend(children[entry.token][::-1])
    return forward[::-1]


def _nearest_parent(entry: Entry, known: set[int]) -> int | None:
    parent = entry.parent
    while parent is not None and parent.token not in known:
        parent = parent.parent
    return None if parent is None else parent.token


def check_registration(
    name: str, deadline_s: float | None, on: Iterable[Occasion | str]
) -> frozenset[Occasion]:
    """Return the occasions to run a handler on.

    Raises:
        ValueError: the deadline is not positive, an occasion is not known, or there is none.
    """
    occasions = frozenset(map(Occasion, on))
    if deadline_s is not None and not deadline_s > 0:
        raise ValueError(f"{name}: a deadline is more than 0 s, not {deadline_s}")
    if not occasions:
        raise ValueError(f"{name}: name at least one occasion of {', '.join(Occasion)}")
    return occasions


def check_handler(name: str, handler: object) -> None:
    """Refuse what cannot be a handler.

    Raises:
        TypeError: it cannot be called, or is a coroutine function.
    """
    if not callable(handler):
        raise TypeError(f"{name}: a handler is called without arguments; {type(handler).__name__} cannot be")
    if inspect.iscoroutinefunction(handler):
        raise TypeError(
            f"{name}: a coroutine function would only be created, never run; wrap it in asyncio.run"
        )


def weak_call(owner: ref[object], method_name: str) -> Callable[[], object]:
    """Return a handler that calls a method of an object as long as there is one, without keeping it alive."""

    def call() -> object:
        alive = owner()
        return None if alive is None else getattr(alive, method_name)()

    return call


class Registrar(Protocol):
    """Where a handle takes its entry out again."""

    def remove(self, entry: Entry) -> bool:
        """Take it out; tell whether it was in."""


class CleanupHandle:
    """A registration. As a context manager it guards a block, at whose end it is taken out, not called."""

    def __init__(self, registrar: Registrar, entry: Entry) -> None:
        self._registrar = registrar
        self.entry = entry

    @property
    def name(self) -> str:
        """As it was registered."""
        return self.entry.name

    def unregister(self) -> bool:
        """Take the handler out; tell whether it was still in. Its children go to its own parent."""
        return self._registrar.remove(self.entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()
