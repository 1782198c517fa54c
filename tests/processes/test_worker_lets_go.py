"""What a caller keeps of a job that failed: nothing, once the exception is dropped, and without a collector."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard import JobCrashed, MemoryLimitExceeded
from memguard.errors import TransferError, WorkerStartError
from tests.support.guarded import Guarded, by_value, guarded

by_value(__name__)


class Argument:
    """Something that can be watched, and that a job may be given."""

    def __init__(self, content: Any = None) -> None:
        self.content = content


class OddError(Exception):
    """An error that brings something along."""

    def __init__(self, argument: Argument) -> None:
        super().__init__("odd")
        self.argument = argument


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("1GiB", grace="500ms") as manager:
        yield manager


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Cycles that others left are no business of these tests, and no collection helps them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def odd(argument: Argument) -> None:
    raise OddError(argument)


def runs_out(argument: Argument) -> None:
    raise MemoryError(f"no room beside {argument}")


def kills_itself(argument: Argument) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_and_drop(run: Callable[..., Any], job: Callable[..., Any], error: type[BaseException]) -> Any:
    """Run a failing job; returns a weak reference to its argument, which nobody here holds any more."""
    argument = Argument()
    watched = weakref.ref(argument)
    try:
        run(job, argument, memory="100MiB")
    except error:
        return watched
    raise AssertionError("it did not fail")


KINDS = [(odd, OddError), (runs_out, MemoryLimitExceeded), (kills_itself, JobCrashed)]


@pytest.mark.parametrize(("job", "error"), KINDS, ids=lambda each: each.__name__)
def test_the_arguments_go_with_the_exception(
    jobs: Guarded, job: Callable[..., Any], error: type[BaseException]
) -> None:
    """Whatever a job ended with, its arguments are gone as soon as its caller has dropped the error."""
    assert run_and_drop(jobs.manager.run, job, error)() is None


@pytest.mark.parametrize(("job", "error"), KINDS[:2], ids=lambda each: each.__name__)
def test_the_arguments_go_from_a_loop_too(
    jobs: Guarded, job: Callable[..., Any], error: type[BaseException]
) -> None:
    """The same where the job was awaited, once the loop has turned."""

    async def main() -> bool:
        argument = Argument()
        watched = weakref.ref(argument)
        with pytest.raises(error):
            await jobs.manager.arun(job, argument, memory="100MiB")
        del argument
        await asyncio.sleep(0)
        return watched() is None

    assert asyncio.run(main())


def test_what_cannot_cross_goes_as_well(jobs: Guarded) -> None:
    """A call that could not be pickled leaves nothing of its arguments."""

    def run(job: Callable[..., Any], argument: Argument, **options: Any) -> None:
        argument.content = threading.Lock()
        jobs.manager.run(job, argument, **options)

    assert run_and_drop(run, odd, TransferError)() is None


def test_a_start_that_failed_keeps_nobodys_arguments(jobs: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that dies over its imports: the error is the caller's alone."""
    monkeypatch.setattr("memguard.worker.templates._BOOTSTRAP", "import sys; sys.exit(3)")

    def run(job: Callable[..., Any], argument: Argument, **options: Any) -> None:
        jobs.manager.run(job, argument, preload={"wave"}, **options)

    assert run_and_drop(run, odd, WorkerStartError)() is None


def test_a_result_that_raises_keeps_nothing_either(jobs: Guarded) -> None:
    """A result that is asked to raise, and is then dropped with its error, is gone with all it had."""

    def fail() -> Any:
        try:
            jobs.manager.run(odd, Argument(), memory="100MiB", check=False).raise_for_outcome()
        except OddError as error:
            return weakref.ref(error.argument)

    watched = fail()
    assert watched is not None
    assert watched() is None
