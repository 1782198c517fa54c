"""What cannot cross between processes is told of, and harms nothing."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memguard import JobError, JobInterrupted, MemoryLimitExceeded, Outcome
from memguard.errors import TransferError
from tests.support.guarded import (
    Guarded,
    by_value,
    error_of,
    guarded,
    unchanged_caller,
)

by_value(__name__)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("4GiB", grace="1s") as manager:
        manager.value(np.zeros, 1)
        manager.value(pd.DataFrame)
        yield manager


def same(value: Any) -> Any:
    return value


class NeverPickled:
    def __reduce__(self) -> Any:
        raise ValueError("mine alone")


class OnlyThere:
    """Pickles anywhere, and comes to life again in its own process only."""

    def __reduce__(self) -> Any:
        return _only_there, (os.getpid(),)


def _only_there(pid: int) -> int:
    if os.getpid() != pid:
        raise LookupError("not at home")
    return pid


class BadError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")  # one argument where two are needed again


class LockedError(Exception):
    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()


def test_arguments_that_cannot_cross(jobs: Guarded) -> None:
    """A lock as an argument is refused before anything starts, with the cause."""
    with unchanged_caller(), pytest.raises(TransferError, match=r"cannot cross .* pass plain data") as caught:
        jobs.run(same, threading.Lock())
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(TransferError, match="mine alone"):
        jobs.run(same, NeverPickled())


def test_a_result_that_cannot_cross(jobs: Guarded) -> None:
    """A generator as a result is an error of the job's, that names what and why."""
    result = jobs.run(lambda: (number for number in range(3)))
    assert result.report.outcome is Outcome.RAISED
    with pytest.raises(TransferError, match=r"the result cannot cross .*generator"):
        result.raise_for_outcome()
    jobs.check_nothing_left(result)


def test_a_result_that_cannot_be_rebuilt(jobs: Guarded) -> None:
    """A result whose rebuilding fails in the caller is told with its cause, and nothing is left of it."""
    with unchanged_caller():
        result = jobs.run(OnlyThere)
        assert result.report.outcome is Outcome.RAISED
        error = error_of(result)
        assert isinstance(error, TransferError)
        assert isinstance(error.__cause__, LookupError)
        assert "not at home" in str(error)
        del result, error
    assert jobs.value(same, 1) == 1


@pytest.mark.parametrize("kind", [BadError, LockedError])
def test_an_error_that_cannot_cross_is_told_of(jobs: Guarded, kind: type[Exception]) -> None:
    """An exception that cannot be pickled, or not be rebuilt, arrives as one that names it, traceback and all."""

    def fail() -> None:
        raise BadError(1, 2) if kind is BadError else LockedError()

    result = jobs.run(fail)
    error = error_of(result)
    assert type(error) is JobError
    assert kind.__name__ in str(error)
    assert "raise BadError" in str(error.__cause__)


@pytest.mark.parametrize(
    ("base", "outcome", "raised"),
    [
        ("Exception", Outcome.RAISED, JobError),
        ("MemoryError", Outcome.MEMORY_ERROR, MemoryLimitExceeded),
        ("KeyboardInterrupt", Outcome.INTERRUPTED, JobInterrupted),
    ],
)
def test_an_error_of_a_class_that_only_the_job_can_import(
    jobs: Guarded, tmp_path: Path, base: str, outcome: Outcome, raised: type[JobError]
) -> None:
    """It arrives as what kind of end it was, with its class, its words and its traceback; nothing is lost."""
    (tmp_path / f"only_there_{base.lower()}.py").write_text(f"class DiskError({base}): pass\n")

    def fail() -> None:
        sys.path.insert(0, str(tmp_path))
        module = importlib.import_module(f"only_there_{base.lower()}")
        raise module.DiskError("the disk of node 7 is broken")

    with unchanged_caller():
        result = jobs.run(fail)
    assert result.report.outcome is outcome
    assert type(error_of(result)) is raised
    error = result.error
    assert type(error) is JobError
    assert "DiskError: the disk of node 7 is broken" in str(error)
    assert f"cannot be rebuilt here: ModuleNotFoundError: No module named 'only_there_{base.lower()}'" in str(
        error
    )
    assert 'raise module.DiskError("the disk of node 7 is broken")' in str(error.__cause__)
    assert "the disk of node 7 is broken" in str(result.report.error)


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("not now")


@pytest.mark.parametrize(
    ("code", "shown"), [("over", "'over'"), (None, "None"), (Unshowable(), "an object that cannot be shown")]
)
def test_an_exit_is_told_with_its_code(jobs: Guarded, code: Any, shown: str) -> None:
    """``sys.exit`` in a job ends the job only, whatever it was given."""
    result = jobs.run(sys.exit, code)
    error = error_of(result)
    assert type(error) is JobError
    assert f"the job called sys.exit({shown}" in str(error)
    assert "SystemExit" in str(error.__cause__)


class Chameleon(Exception):  # noqa: N818 - it is none, once it has crossed
    def __reduce__(self) -> Any:
        return int, ()


def test_an_error_that_comes_back_as_something_else(jobs: Guarded) -> None:
    """What is no exception after it crossed is not raised; what was raised is told."""

    def fail() -> None:
        raise Chameleon("blue")

    error = error_of(jobs.run(fail))
    assert type(error) is JobError
    assert "Chameleon: blue" in str(error)
    assert "it comes back as int" in str(error)


def test_an_error_with_an_array_in_it(jobs: Guarded) -> None:
    """An exception keeps what it carries, large arrays too."""

    def fail() -> None:
        raise ValueError("bad rows", np.arange(50_000))

    error = jobs.run(fail).error
    assert isinstance(error, ValueError)
    np.testing.assert_array_equal(error.args[1], np.arange(50_000))
