"""Runs one function again and again in this process, and says whether it leaks: the part inside the guarded child.

Comes in: an `Exercise`, which names the function. Goes out: an `Exercised`, whatever the function does, as long as its
process lives; what happens to the process is told by the trail that it leaves, a few bytes for each iteration.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import gc
import importlib
import inspect
import os
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memguard.host import private_bytes_now
from memguard.leaks.allocated import Allocation, allocations_of
from memguard.leaks.detector import LeakDetector
from memguard.leaks.endings import cautious
from memguard.leaks.records import LeakReport
from memguard.redact import redact_error
from memguard.units import format_duration
from memguard.worker.context import current_job

__all__ = [
    "Exercise",
    "Exercised",
    "TargetError",
    "exercise",
    "find_function",
    "read_trail",
    "trace_exercise",
]

_STEP: Final = struct.Struct("<dq")
_TELL_EVERY_S: Final = 0.5
# The first call imports and fills caches; the second tells how long the others will take.
_TIMED_ITERATIONS: Final = 2
_LEAST_PLANNED: Final = 12
# The rest of the time is for collections and censuses.
_SHARE_FOR_CALLS: Final = 0.8
# A traced run is up to ten times as slow; so few iterations tell a site that allocates in each of them.
_TRACED_ITERATIONS: Final = 20
_TRACED_WARM_UP: Final = 5
_forks = 0


class TargetError(ValueError):
    """A function that cannot be exercised; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """What to do.

    Attributes:
        target: ``package.module:function``; dots after the colon lead into classes and objects.
        iterations: how often to call it.
        folder: what the import path begins with.
        trail: file to append to after each iteration.
        time_s: seconds after which no further iteration is begun, or ``None``.
        contents: whether findings may show keys and values.
    """

    target: str
    iterations: int
    folder: str
    trail: str
    time_s: float | None = None
    contents: bool = False


@dataclass(frozen=True, slots=True)
class Exercised:
    """How it went.

    Attributes:
        report: what the detector says of the iterations that ended; ``None`` if none did.
        stopped: why it ended before its last iteration; ``""`` if it did not.
        ran_out: whether that was for want of memory.
        notes: what else the function did that matters: forks, settings of the collector.
    """

    report: LeakReport | None
    stopped: str = ""
    ran_out: bool = False
    notes: tuple[str, ...] = ()


def exercise(order: Exercise) -> Exercised:
    """Call the function again and again and say whether it leaks.

    Raises:
        TargetError: if there is nothing that can be called.
    """
    with _words_on_stderr():
        call = find_function(order.target, order.folder)
        return _Run(order, call).outcome()


def trace_exercise(order: Exercise) -> tuple[Allocation, ...]:
    """Call the function a few times under tracemalloc and say where what stays was allocated, most bytes first.

    Raises:
        TargetError: if there is nothing that can be called.
    """
    with _words_on_stderr():
        call = find_function(order.target, order.folder)
        return allocations_of(
            call, warm_up=_TRACED_WARM_UP, iterations=min(_TRACED_ITERATIONS, order.iterations)
        )


class _Run:
    """The loop, and what is seen beside the detector's channels."""

    def __init__(self, order: Exercise, call: Callable[[int], object]) -> None:
        self._order = order
        self._call = call
        self._planned = order.iterations
        self._short = ""
        self._last_s = 0.0
        self._pid = os.getpid()
        self._forks_before = _forks
        self._stopped = ""
        self._ran_out = self._failed = False
        self._told_s = 0.0
        self._began_s = time.monotonic()
        self._collector = _collector_settings()
        # Without a buffer: what was noted is there when the process dies.
        self._trail = open(order.trail, "ab", buffering=0)  # noqa: SIM115 - closed by `outcome`

    def outcome(self) -> Exercised:
        """Run to the end, or as far as the function lets."""
        detector = LeakDetector(self._order.iterations, contents=self._order.contents)
        self._note()
        done = 0
        with self._trail:
            while done < self._planned and self._may_begin(done) and self._iterate(done):
                detector.iteration()
                done += 1
                self._note()
                self._tell(done)
                if done == _TIMED_ITERATIONS and self._plans_fewer(done):
                    # Blocks are cut for what was planned: of a plan that is not kept, too few would be over.
                    detector.finish()
                    detector = LeakDetector(self._planned - done, contents=self._order.contents)
        report = cautious(detector.finish(), failed=self._failed) if done else None
        return Exercised(report, self._stopped or self._short, self._ran_out, tuple(self._notes()))

    def _plans_fewer(self, done: int) -> bool:
        """Plan for as many iterations as the time allows, if that is fewer, and enough to see something."""
        if self._order.time_s is None or self._stopped:
            return False
        each_s = self._last_s
        left_s = _SHARE_FOR_CALLS * (self._order.time_s - (time.monotonic() - self._began_s))
        affordable = int(left_s / max(each_s, 1e-6))
        if done + affordable >= self._order.iterations or affordable < _LEAST_PLANNED:
            return False
        self._planned = done + affordable
        planned = f"{self._planned} of {self._order.iterations} iterations"
        self._short = f"its time allows {planned}, {format_duration(each_s)} each"
        return True

    def _may_begin(self, done: int) -> bool:
        limit_s, took_s = self._order.time_s, time.monotonic() - self._began_s
        if limit_s is None or took_s < limit_s or not done:
            return True
        self._stopped = (
            f"its time was up after {done} of {self._order.iterations} iterations, "
            f"{format_duration(took_s / done)} each"
        )
        return False

    def _iterate(self, number: int) -> bool:
        """Call the function once; tell whether it returned."""
        began_s = time.monotonic()
        try:
            self._call(number)
            self._last_s = time.monotonic() - began_s
        except KeyboardInterrupt:
            raise  # whoever waits for this process wants it to end
        except MemoryError as error:
            self._ran_out = self._failed = True
            self._stopped = f"it ran out of memory on iteration {number + 1}: {redact_error(error)}"
        except SystemExit as error:
            self._failed = True
            self._stopped = f"it ended the interpreter on iteration {number + 1} (SystemExit: {error.code!r})"
        except BaseException as error:  # noqa: BLE001 - whatever it raises is what is to be told
            self._failed = True
            self._stopped = f"it raised on iteration {number + 1}: {redact_error(error)}"
        if os.getpid() != self._pid:
            os._exit(0)  # a copy that the function forked and let return: there is one loop only
        return not self._stopped

    def _note(self) -> None:
        self._trail.write(_STEP.pack(time.monotonic() - self._began_s, private_bytes_now()))

    def _tell(self, done: int) -> None:
        job, now_s = current_job(), time.monotonic()
        if job is not None and now_s - self._told_s >= _TELL_EVERY_S:
            self._told_s = now_s
            each_s = (now_s - self._began_s) / done
            job.phase(
                "iterations", f"{done} of {self._order.iterations} iterations, {format_duration(each_s)} each"
            )

    def _notes(self) -> Iterator[str]:
        if forks := _forks - self._forks_before:
            times = "once" if forks == 1 else f"{forks} times"
            yield f"it forked {times}; what its children hold is not looked at"
        if (now := _collector_settings()) != self._collector:
            yield f"it changed the garbage collector: {_told_collector(self._collector)}, then {_told_collector(now)}"


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - of the process
    _forks += 1


def _collector_settings() -> tuple[bool, tuple[int, ...]]:
    return gc.isenabled(), gc.get_threshold()


def _told_collector(settings: tuple[bool, tuple[int, ...]]) -> str:
    return f"{'on' if settings[0] else 'off'} with thresholds {', '.join(map(str, settings[1]))}"


@contextlib.contextmanager
def _words_on_stderr() -> Iterator[None]:
    """Let what the function prints go to stderr: stdout has the report alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def read_trail(path: Path) -> list[tuple[float, int]]:
    """Return seconds and private bytes at the beginning and after each iteration, as far as the process came."""
    data = path.read_bytes() if path.exists() else b""
    return list(_STEP.iter_unpack(data[: len(data) - len(data) % _STEP.size]))


def find_function(target: str, folder: str) -> Callable[[int], object]:
    """Return what calls a function with the number of the iteration; its ``setup()`` was called.

    Args:
        target: ``module:function``.
        folder: what the import path is to begin with.

    Raises:
        TargetError: for a name that leads nowhere, a module that cannot be imported, arguments that nobody has.
    """
    name, colon, path = target.partition(":")
    if not (name and colon and path):
        raise TargetError(f"{target!r} is no MODULE:FUNCTION; write it as in app.jobs:train")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _imported(name, folder)
    call = _adapted(_resolved(module, path, target), target)
    setup = getattr(module, "setup", None)
    if callable(setup) and path != "setup":
        try:
            setup()
        except Exception as error:
            raise TargetError(f"{name}.setup() raised {redact_error(error)}") from error
    return call


def _imported(name: str, folder: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TargetError(
                f"there is no module {error.name} in {folder} nor among what is installed; "
                "run it in the folder that has it"
            ) from error
        raise TargetError(f"{name} cannot be imported: {redact_error(error)}") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise TargetError(f"{name} cannot be imported: {redact_error(error)}") from error


def _resolved(module: Any, path: str, target: str) -> Any:
    thing = module
    for step in path.split("."):
        try:
            thing = getattr(thing, step)
        except AttributeError as error:
            near = difflib.get_close_matches(
                step, [each for each in dir(thing) if not each.startswith("__")], 1
            )
            guess = f"; did you mean {near[0]}?" if near else ""
            raise TargetError(f"{target}: there is no {step} in it{guess}") from error
    if not callable(thing):
        raise TargetError(f"{target} is {type(thing).__name__} and cannot be called")
    return thing


def _adapted(function: Any, target: str) -> Callable[[int], object]:
    """Make a call with one number of whatever can be called with nothing or a number; see to coroutines."""
    call = _with_fitting_arguments(function, target)
    if inspect.iscoroutinefunction(function):
        return lambda number: asyncio.run(call(number))
    if inspect.isgeneratorfunction(function):
        return lambda number: deque(call(number), maxlen=0)
    return call


def _with_fitting_arguments(function: Any, target: str) -> Callable[[int], Any]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin that does not tell
        return lambda number: function()
    needed = [
        each.name
        for each in signature.parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if not needed:
        return lambda number: function()
    with contextlib.suppress(TypeError):
        signature.bind(0)
        return function  # type: ignore[no-any-return]
    raise TargetError(
        f"{target} needs arguments ({', '.join(needed)}); write a function that takes none, or the iteration's "
        "number, and calls it"
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_count_fork)
