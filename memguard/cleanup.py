"""Cleanup: what has to be given back, in which order, by when, and whether it was.

Comes in: handlers that release something, and an occasion to run them. Goes out: a `CleanupReport` with one
result for each. It never swallows an error, never lets one handler keep another from running, and does not
know what the handlers release. Read `CleanupManager` first.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import inspect
import os
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from types import FrameType, TracebackType
from typing import Any, Final, Protocol, Self
from weakref import WeakSet, ref

from memguard.errors import CleanupFailed
from memguard.events import Event, EventBus
from memguard.host.tree import TreeSampler

__all__ = [
    "CleanupHandle",
    "CleanupManager",
    "CleanupReport",
    "HandlerOutcome",
    "HandlerResult",
    "Occasion",
    "Sheddable",
    "StopEvent",
]

_SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# A scheduled handler that is in the middle of its work at `close` gets this long to end.
_SCHEDULE_JOIN_S: Final = 5.0


class Occasion(StrEnum):
    """When handlers run.

    ``normal``: the end: `run`, `close`, the end of a ``with`` block, a signal, interpreter exit.
    ``scheduled``: every so often while work goes on. ``emergency``: memory is short while work goes on.
    """

    NORMAL = "normal"
    SCHEDULED = "scheduled"
    EMERGENCY = "emergency"


class HandlerOutcome(StrEnum):
    """How a handler ended: well, with an error, not within its deadline, or it was not called."""

    OK = "ok"
    FAILED = "failed"
    OVERRAN = "overran"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """One handler in one run.

    Attributes:
        name: as it was registered.
        outcome: how it ended.
        duration_s: seconds it took, or had taken when it was given up.
        detail: the error with its place, or why it was skipped or counts as overrun; ``""`` when it went well.
        freed_bytes: what it returned, when that was a whole number.
    """

    name: str
    outcome: HandlerOutcome
    duration_s: float = 0.0
    detail: str = ""
    freed_bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.outcome}: {self.detail}" if self.detail else f"{self.name} {self.outcome}"


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """One run of the handlers.

    Attributes:
        reason: why it was asked for, in words.
        occasion: which handlers were due.
        results: one for each, in the order in which they were called.
        duration_s: seconds for all.
        measured_bytes: by how much this process's private memory fell (less than 0: it grew meanwhile);
            ``None`` where it was not measured: only an emergency is.
    """

    reason: str
    occasion: Occasion
    results: tuple[HandlerResult, ...]
    duration_s: float
    measured_bytes: int | None = None

    @property
    def order(self) -> tuple[str, ...]:
        """The handlers' names, first called first."""
        return tuple(result.name for result in self.results)

    @property
    def freed_bytes(self) -> int:
        """What was measured, else the sum of what the handlers say they freed."""
        claimed = sum(result.freed_bytes or 0 for result in self.results)
        return claimed if self.measured_bytes is None else self.measured_bytes

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each handler that failed or overran."""
        bad = (HandlerOutcome.FAILED, HandlerOutcome.OVERRAN)
        return tuple(str(result) for result in self.results if result.outcome in bad)

    @property
    def ok(self) -> bool:
        """Whether there are no failures."""
        return not self.failures

    def raise_if_failed(self) -> None:
        """Turn failures into an error.

        Raises:
            CleanupFailed: with a line for each of them.
        """
        if failures := self.failures:
            counts = f"{len(failures)} of {len(self.results)}"
            raise CleanupFailed(
                f"cleanup ({self.reason}): {counts} handlers did not end well: {'; '.join(failures)}",
                failures=failures,
            )


class Sheddable(Protocol):
    """Something that can give memory back while it is in use: a cache, a pool."""

    def shed(self, target_bytes: int) -> int:
        """Give back up to ``target_bytes``, as far as that is possible; return the bytes given back."""


class StopEvent(Protocol):
    """What a schedule waits on: `threading.Event`, or a test's stand-in."""

    def set(self) -> None:
        """Wake whoever waits."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait ``timeout`` seconds; return ``True`` at once when it is set."""


class _Execution:
    """One call of a handler: begun when it is made, ended when ``finished`` is set."""

    def __init__(self) -> None:
        self.finished = threading.Event()
        self.started_s = time.monotonic()
        self.ended_s = 0.0
        self.freed_bytes: int | None = None
        self.error = ""
        self.interrupt: BaseException | None = None

    def note(self, error: BaseException) -> None:
        # Only the text is kept: a traceback would keep alive what the handler was to release.
        self.error = _error_text(error)
        self.interrupt = None if isinstance(error, Exception) else error

    def result(self, name: str, deadline_s: float | None) -> HandlerResult:
        done = self.finished.is_set()
        took_s = (self.ended_s if done else time.monotonic()) - self.started_s
        outcome, detail = HandlerOutcome.OK, self.error
        if done and self.error:
            outcome = HandlerOutcome.FAILED
        elif not done or (deadline_s is not None and took_s > deadline_s):
            state = "done, but late" if done else "not done, its thread goes on"
            outcome = HandlerOutcome.OVERRAN
            detail = f"{state}: {took_s:.3g} s of {'unlimited' if deadline_s is None else f'{deadline_s:g} s'}"
        return HandlerResult(name, outcome, took_s, detail, self.freed_bytes)


@dataclass(slots=True, eq=False)
class _Entry:
    token: int
    name: str
    call: Callable[[int], object]
    parent: _Entry | None
    deadline_s: float | None
    occasions: frozenset[Occasion]
    once: bool
    sheds: bool
    execution: _Execution | None = None


class CleanupHandle:
    """A registration. As a context manager it guards a block: the handler is taken out at its end, not called."""

    def __init__(self, manager: CleanupManager, entry: _Entry) -> None:
        self._manager = manager
        self._entry = entry

    @property
    def name(self) -> str:
        """As it was registered."""
        return self._entry.name

    def unregister(self) -> bool:
        """Take the handler out; tell whether it was still in. Its children stay, below its own parent."""
        return self._manager._remove(self._entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()
