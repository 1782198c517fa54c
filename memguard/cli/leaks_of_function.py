"""A function, called again and again in a guarded child of its own; what its death says too."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from memguard.cli.exits import say
from memguard.config import Settings
from memguard.leaks.allocated import Allocation
from memguard.leaks.endings import report_of_death
from memguard.leaks.exercise import Exercise, Exercised, TargetError, exercise, read_trail, trace_exercise
from memguard.leaks.findings import Findings
from memguard.leaks.records import Kind, LeakReport
from memguard.manager import MemoryManager
from memguard.report import JobReport, Outcome
from memguard.units import format_bytes, format_duration
from memguard.worker.job import JobResult
from memguard.worker.recorder import JobProgress

__all__ = ["Wishes", "look_at_function"]

# Where Python allocates, so that tracemalloc can say at which line.
_TRACED: Final = frozenset({Kind.PYTHON, Kind.CYCLE, Kind.ARRAY, Kind.CACHE})
_DEFAULT_TIME_S: Final = 600.0
# Beyond the time to look an iteration may take as long again, and the censuses theirs.
_LEAST_TIMEOUT_S: Final = 60.0
_SAY_EVERY_S: Final = 5.0
_TUNABLES: Final = "GLIBC_TUNABLES"
_NO_THREAD_CACHE: Final = "glibc.malloc.tcache_count=0"


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to look.

    Attributes:
        iterations: calls.
        time_s: seconds after which no call is begun; ``None`` for ten minutes.
        memory: budget of the child, ``None`` for the setting.
        contents: whether keys and values may be shown.
        traced: whether a leak of Python's is looked for under tracemalloc too.
        quiet: whether nothing is said meanwhile.
    """

    iterations: int
    time_s: float | None
    memory: str | None
    contents: bool
    traced: bool
    quiet: bool


def look_at_function(target: str, wishes: Wishes, settings: Settings) -> Findings:
    """Call a function in a guarded child and say whether it leaks.

    Raises:
        click.UsageError: if it cannot be called at all.
        MemguardError: if no child can be started.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)  # a child sees the import path that its caller has
    time_s = _DEFAULT_TIME_S if wishes.time_s is None else wishes.time_s
    with (
        _exact_books(),
        tempfile.TemporaryDirectory(prefix="memguard-leaks-") as notes,
        MemoryManager(wishes.memory, name="memguard leaks", settings=settings) as manager,
    ):
        trail = Path(notes) / "trail"
        order = Exercise(target, wishes.iterations, folder, str(trail), time_s, wishes.contents)
        result = _run(manager, exercise, order, wishes, settings)
        found = _findings(target, result, trail)
        if wishes.traced and found.report.is_leaking and found.report.kind in _TRACED:
            if not wishes.quiet:
                say("it leaks; looking where it allocates")
            found = dataclasses.replace(found, allocated=_traced(manager, order, wishes, settings))
    return found


@contextlib.contextmanager
def _exact_books() -> Iterator[None]:
    """Have the child's malloc count as in use what is in use, and nothing else.

    glibc keeps up to seven freed pieces of each of 64 sizes for each thread, and its books have them as given out. The
    more work went before, the more there are: some ten KiB that grow for a hundred iterations, as a leak does.
    """
    had = os.environ.get(_TUNABLES)
    if had is None or _NO_THREAD_CACHE.partition("=")[0] not in had:
        os.environ[_TUNABLES] = f"{had}:{_NO_THREAD_CACHE}" if had else _NO_THREAD_CACHE
    try:
        yield
    finally:
        if had is None:
            del os.environ[_TUNABLES]
        else:
            os.environ[_TUNABLES] = had


def _run(
    manager: MemoryManager,
    work: Callable[[Exercise], object],
    order: Exercise,
    wishes: Wishes,
    settings: Settings,
) -> JobResult[object]:
    assert order.time_s is not None
    timeout_s = max(_LEAST_TIMEOUT_S, 2 * order.time_s) if settings.timeout_s is None else settings.timeout_s
    result = manager.run(
        work,
        order,
        name=order.target[:100],
        timeout=timeout_s,
        on_progress=None if wishes.quiet else _Teller(),
        check=False,
        retries=0,
    )
    if isinstance(result.error, TargetError):
        raise click.UsageError(str(result.error))
    return result


class _Teller:
    """Says now and then how far it is."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def __call__(self, progress: JobProgress) -> None:
        now_s = time.monotonic()
        if progress.detail and now_s - self._said_s >= _SAY_EVERY_S:
            self._said_s = now_s
            say(f"{progress.detail}, uses {format_bytes(progress.used_bytes)}")


def _findings(target: str, result: JobResult[object], trail: Path) -> Findings:
    job, value = result.report, result.value
    if job.outcome is Outcome.INTERRUPTED:
        result.raise_for_outcome()
    if not isinstance(value, Exercised):
        stopped = _why_dead(result, len(read_trail(trail)))
        return Findings(target, _report_of_death(job, trail, stopped), stopped=stopped)
    if value.report is None or value.ran_out:
        for_memory = value.ran_out
        report = _report_of_death(job, trail, value.stopped, for_memory=for_memory)
    else:
        report = value.report
    evidence = (*report.evidence, *(each for each in value.notes if each not in report.evidence))
    return Findings(target, dataclasses.replace(report, evidence=evidence), stopped=value.stopped)


def _report_of_death(job: JobReport, trail: Path, why: str, *, for_memory: bool | None = None) -> LeakReport:
    died_of_it = job.outcome.is_memory_death if for_memory is None else for_memory
    return report_of_death(read_trail(trail), job.budget.limit_bytes, why, for_memory=died_of_it)


def _why_dead(result: JobResult[object], steps: int) -> str:
    job = result.report
    where = f"on iteration {steps}" if steps else "before the first iteration"
    if job.outcome.is_memory_death:
        return f"it reached its budget of {format_bytes(job.budget.limit_bytes)} {where}"
    if job.outcome is Outcome.TIMEOUT:
        return f"it did not return {where}, and was stopped after {format_duration(job.duration_s)}"
    facts = "; ".join(each.fact for each in job.evidence)
    return f"{where}: {job.error or facts or job.reason.replace('_', ' ')}"


def _traced(
    manager: MemoryManager, order: Exercise, wishes: Wishes, settings: Settings
) -> tuple[Allocation, ...]:
    result = _run(manager, trace_exercise, order, wishes, settings)
    if isinstance(result.value, tuple):
        return result.value
    if not wishes.quiet:
        say(f"where it allocates could not be found: {result.report.error or result.report.reason}")
    return ()
