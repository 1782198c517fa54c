"""What crosses to a job and back: the same values, arrays without a copy, and memory that goes when its array goes."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import os
import pickle
import resource
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memguard import JobError, JobInterrupted, MemoryLimitExceeded, Outcome
from memguard.errors import TransferError
from memguard.host import private_bytes_now
from tests.support.guarded import (
    MIB,
    Guarded,
    by_value,
    descriptors,
    error_of,
    eventually,
    guarded,
    run_python,
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


def shared_pages() -> int:
    """Return the bytes of result segments that this process maps, as the kernel counts them."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = "memguard-result" in line
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


FRAME = pd.DataFrame(
    {
        "whole": np.arange(30_000),
        "real": np.linspace(0, 1, 30_000),
        "flag": np.arange(30_000) % 2 == 0,
        "text": [f"row {number}" for number in range(30_000)],
        "when": pd.date_range("2013-01-01", periods=30_000, freq="min", tz="UTC"),
        "kind": pd.Categorical(np.arange(30_000) % 7),
        "maybe": pd.array([None, *range(29_999)], dtype="Int64"),
    },
    index=pd.Index(np.arange(30_000) * 3, name="number"),
)

VALUES = {
    "no bytes": np.zeros((0, 5)),
    "one number": np.array(3.5),
    "a page less one": np.arange(65_535, dtype=np.uint8),
    "a page": np.arange(65_536, dtype=np.uint8),
    "fortran order": np.asfortranarray(np.arange(60_000.0).reshape(300, 200)),
    "a view with steps": np.arange(100_000.0)[::3],
    "a view backwards": np.arange(100_000.0)[::-1],
    "a transposed view": np.arange(60_000.0).reshape(300, 200).T,
    "big endian": np.arange(50_000, dtype=">i4"),
    "records": np.zeros(20_000, dtype=[("a", "i4"), ("b", "f8")]),
    "dates": np.arange("2000-01-01", "2060-01-01", dtype="datetime64[D]"),
    "objects": np.array([{"a": 1}, None, "text"], dtype=object),
    "masked": np.ma.masked_greater(np.arange(50_000), 40_000),
    "a frame": FRAME,
    "a series": FRAME["real"],
    "bytes": b"\x00\xff" * (3 * MIB),
    "text": "äöü𝄞" * 100_000,
    "a bytearray": bytearray(b"x" * MIB),
    "nested": {"a": [np.ones(40_000), (np.zeros(50_000), {"b": FRAME})]},
}


def check_equal(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right)
    elif isinstance(left, pd.Series):
        pd.testing.assert_series_equal(left, right)
    elif isinstance(left, np.ndarray):
        assert (left.dtype, left.flags.f_contiguous) == (right.dtype, right.flags.f_contiguous)
        np.testing.assert_array_equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            check_equal(left[name], right[name])
    elif isinstance(left, list | tuple):
        for one, other in zip(left, right, strict=True):
            check_equal(one, other)
    else:
        assert left == right


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_equal(jobs: Guarded, name: str) -> None:
    """There and back again: type, content, order in memory and index are the same."""
    given = VALUES[name]
    back = jobs.value(same, given)
    if name in ("a view with steps", "a view backwards"):
        np.testing.assert_array_equal(back, given)
    else:
        check_equal(back, given)


def test_what_may_be_written_to_stays_so(jobs: Guarded) -> None:
    """A writable array arrives writable, a read-only one read-only, on both ways."""
    fixed, free = np.ones(20_000), np.ones(20_000)
    fixed.flags.writeable = False

    def look(one: Any, other: Any) -> tuple[bool, bool, Any, Any]:
        return one.flags.writeable, other.flags.writeable, one, other

    there_fixed, there_free, back_fixed, back_free = jobs.value(look, fixed, free)
    assert (there_fixed, there_free) == (False, True)
    assert (back_fixed.flags.writeable, back_free.flags.writeable) == (False, True)
    back_free += 1
    assert back_free[0] == 2


def test_changes_stay_in_the_job(jobs: Guarded) -> None:
    """What a job does to its arguments reaches neither the caller nor the next job."""
    array, frame, numbers = np.zeros(50_000), pd.DataFrame({"a": np.zeros(50_000)}), [1, 2]

    def change(array: Any, frame: Any, numbers: list[int]) -> float:
        array += 1
        frame["a"] = 7
        frame["b"] = 8
        numbers.append(3)
        return float(array.sum())

    for _ in range(2):
        assert jobs.value(change, array, frame, numbers) == 50_000
    assert (array.sum(), list(frame.columns), frame["a"].sum(), numbers) == (0, ["a"], 0, [1, 2])


def test_a_result_lies_in_shared_pages(jobs: Guarded) -> None:
    """A large array arrives without a copy: the caller's private memory does not grow, and all of it goes with it."""
    before, mapped = private_bytes_now(), shared_pages()
    result = jobs.value(np.ones, 12 * MIB)  # 96 MiB
    assert result.sum() == 12 * MIB
    assert private_bytes_now() - before < 5 * MIB
    assert shared_pages() - mapped >= 96 * MIB
    with unchanged_caller():
        del result
    assert shared_pages() == mapped


@pytest.mark.requirement("R4.3")
def test_a_small_part_does_not_keep_the_rest(jobs: Guarded) -> None:
    """Of a result of many arrays the one that is kept is all that stays; its content too."""

    def many() -> list[Any]:
        return [np.full(50_000 + number, number + 1.0) for number in range(100)]

    mapped = shared_pages()
    for kept in (99, 50, 0):
        part = jobs.value(many)[kept]
        # A hundred arrays: the smallest third of them shares one mapping.
        assert shared_pages() - mapped <= (36 if kept == 0 else 1) * 0.5 * MIB
        assert (part == kept + 1.0).all()
        assert len(part) == 50_000 + kept
        del part
    assert shared_pages() == mapped


@pytest.mark.requirement("R4.3")
def test_parts_live_however_the_others_die(jobs: Guarded) -> None:
    """Giving back the pages of some arrays never empties another one."""

    def many() -> list[Any]:
        sizes = np.random.default_rng(7).permutation(np.arange(20_000, 20_200))
        return [np.full(size, size, dtype="f8") for size in sizes]

    arrays = jobs.value(many)
    order = np.random.default_rng(8).permutation(200)
    for index in order:
        arrays[index] = None
        alive = [each for each in arrays if each is not None]
        assert all(each[0] == each[-1] == len(each) for each in alive)


def test_ten_thousand_arrays_cross(jobs: Guarded) -> None:
    """Many small buffers, and many that are large enough to lie outside, take no descriptor each."""
    small = [np.full(10, number) for number in range(10_000)]
    back = jobs.value(same, small)
    assert all((each == number).all() for number, each in enumerate(back))
    large = [np.full(9_000, number, dtype="f8") for number in range(700)]
    with unchanged_caller():
        back = jobs.value(same, large)
    assert [each[5] for each in back] == list(range(700))


def test_many_results_can_be_kept() -> None:
    """A caller may hold more results with arrays than it has descriptors."""
    program = """
import resource
import numpy as np
from memguard import MemoryManager
resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
with MemoryManager("300MiB", preload=["numpy"]) as manager:
    kept = [manager.run(np.full, 9000, number, memory="100MiB").value for number in range(24)]
print([int(each[0]) for each in kept] == list(range(24)))
"""
    done = run_python(program)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_caller_without_descriptors_is_told(jobs: Guarded) -> None:
    """When there is none left for a result, that is said, and the result is not silently None."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def exhaust(progress: Any) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))

    def slowly() -> Any:
        time.sleep(0.2)
        return np.ones(20_000)

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 20, limits[1]))
    try:
        result = jobs.run(slowly, on_progress=exhaust)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for each in taken:
            os.close(each)
    assert result.report.outcome is Outcome.RAISED
    with pytest.raises(TransferError, match="no descriptor left"):
        result.raise_for_outcome()


def test_a_large_result_of_a_small_job(jobs: Guarded) -> None:
    """A result larger than the room that its budget leaves is handed over: its pages are not the job's."""
    result = jobs.run(np.zeros, 10 * MIB, memory="120MiB")  # 80 MiB, delivered beside the 80 of the job
    assert result.report.outcome is Outcome.COMPLETED
    assert result.value.nbytes == 80 * MIB
    assert result.report.peak_bytes < 120 * MIB


def test_large_bytes_cross_with_few_copies(jobs: Guarded) -> None:
    """A large ``bytes`` travels inside the pickle: one copy of it in the job, and none that stays in the caller."""
    before = private_bytes_now()
    given = b"x" * (40 * MIB)
    result = jobs.run(len, given, memory="100MiB")
    assert result.value == 40 * MIB
    assert result.report.peak_bytes < 60 * MIB
    produced = jobs.run(bytes, 40 * MIB, memory="100MiB")
    assert produced.value == bytes(40 * MIB)
    assert produced.report.peak_bytes < 95 * MIB
    del given, result, produced
    # What was freed may wait inside the allocator, between what other tests left; that is not held by anybody.
    ctypes.CDLL(None).malloc_trim(0)
    assert private_bytes_now() - before < 5 * MIB


@pytest.mark.heavy
def test_six_hundred_megabytes_cross(jobs: Guarded) -> None:
    """600 MiB there and 600 MiB back, in a job of 100 MiB that only looks at them."""
    given = np.ones(75 * MIB)
    before = private_bytes_now()
    result = jobs.run(same, given, memory="100MiB")
    assert result.value.sum() == 75 * MIB
    assert private_bytes_now() - before < 5 * MIB


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


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def plus(self, number: int) -> int:
        return self.start + number

    def __call__(self, number: int) -> int:
        return self.start * number

    @classmethod
    def named(cls) -> str:
        return cls.__name__


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def around(*args: Any) -> Any:
        return function(*args) * 10

    return around


@decorated
def doubled(number: int) -> int:
    return number * 2


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda number: number + 1, 6),
        (functools.partial(pow, 2), 32),
        (functools.partial(functools.partial(pow), 3), 243),
        (Counter(3).plus, 8),
        (Counter(3), 15),
        (doubled, 100),
        (abs, 5),
        ([1, 2].__contains__, False),
        (np.sqrt, np.sqrt(5)),
    ],
)
def test_every_kind_of_callable_runs(jobs: Guarded, function: Any, expected: Any) -> None:
    """Lambdas, partials, bound methods, instances, decorated functions, builtins and ufuncs are jobs."""
    result = jobs.run(function, 5)
    assert result.value == expected
    assert result.report.name


def test_a_closure_takes_its_variables_along(jobs: Guarded) -> None:
    """Variables of the enclosing function cross by value, and a recursive inner function works."""
    base = np.ones(20_000)

    def outer() -> Any:
        def factorial(number: int) -> int:
            return 1 if number < 2 else number * factorial(number - 1)

        return lambda: (factorial(5), float(base.sum()), Counter.named())

    assert jobs.value(outer()) == (120, 20_000.0, "Counter")


def test_classes_of_the_caller_come_back_as_themselves(jobs: Guarded) -> None:
    """An instance of a class that crossed by value is, on its return, one of the caller's own class."""
    assert isinstance(jobs.value(Counter, 3), Counter)


def test_a_notebook_cell_runs(jobs: Guarded) -> None:
    """Functions and classes of cells, made by exec in ``__main__``, run as they are now."""
    program = """
import sys
from memguard import MemoryManager
cells = ["factor = 3", "class Model:\\n    def predict(self, x):\\n        return x * factor",
         "def train(x):\\n    return Model().predict(x), Model()", "factor = 4"]
with MemoryManager("200MiB") as manager:
    for cell in cells:
        exec(compile(cell, f"<cell>", "exec"), vars(sys.modules["__main__"]))
    value, model = manager.run(train, 5).value
    print(value, type(model) is Model, train.__module__)
"""
    done = run_python(program)
    assert (done.stdout, done.stderr) == ("20 True __main__\n", "")


def test_a_module_in_the_working_directory_is_used(tmp_path: Path) -> None:
    """A function of a module that is not installed runs, and after a change of its file the new one runs."""
    program = """
import sys
sys.path.insert(0, "")
import mine
from memguard import MemoryManager
with MemoryManager("200MiB") as manager:
    print(manager.run(mine.work, 4).value, manager.run(mine.Thing, 4).value.number)
    with open("mine.py") as file:
        text = file.read()
    with open("mine.py", "w") as file:
        file.write(text.replace("* 2", "* 3000000000"))
    print(manager.run(mine.work, 4).value)
"""
    (tmp_path / "mine.py").write_text(
        "import helper\n\ndef work(n):\n    return helper.base + n * 2\n\n"
        "class Thing:\n    def __init__(self, number):\n        self.number = number\n"
    )
    (tmp_path / "helper.py").write_text("base = 100\n")
    done = run_python(program, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("108 4\n12000000100\n", "")


class Answers:
    """Answers every name with itself, as lazy proxies do."""

    def __getattr__(self, name: str) -> Answers:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self) -> Answers:
        return self


class Raises:
    """Raises whatever is asked of it, as proxies outside of their context do."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("__reduce_ex__", "__class__"):
            return object.__getattribute__(self, name)
        raise RuntimeError("outside of its context")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return int, ()


answers, raises = Answers(), Raises()


def test_odd_globals_do_no_harm(jobs: Guarded) -> None:
    """A function may name lazy proxies, modules and missing things: looking for its imports stumbles over none."""

    def uses() -> str:
        return (
            f"{answers.x is answers} {raises} {types.ModuleType} {pickle.__name__} {missing if False else ''}"  # type: ignore[name-defined]  # noqa: F821
        )

    assert jobs.value(uses).startswith("True 0 ")


def test_a_forked_child_does_not_empty_its_parents_arrays(jobs: Guarded) -> None:
    """A copy of the caller that ends, or drops a result, leaves the caller's own result as it is."""
    kept = jobs.value(np.ones, 100_000)
    pid = os.fork()
    if pid == 0:
        del kept
        gc.collect()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert kept.sum() == 100_000


def test_a_result_kept_until_exit_is_silent() -> None:
    """An interpreter that ends while it holds results says nothing on its way out."""
    program = """
import numpy as np
from memguard import MemoryManager
manager = MemoryManager("300MiB")
kept = manager.run(np.ones, 100000, memory="100MiB").value
cycle = [kept]
cycle.append(cycle)
sum(kept)
"""
    done = run_python(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_idle_again(jobs: Guarded) -> None:
    """After all these jobs, template and waiting keeper are all that is there."""
    assert eventually(jobs.is_idle), jobs.processes()
