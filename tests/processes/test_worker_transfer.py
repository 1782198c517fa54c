"""Values and arguments cross between processes: equal, large, many, and without copies where that can be."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memguard import Outcome
from memguard.errors import TransferError
from memguard.host import private_bytes_now
from tests.support.guarded import (
    MIB,
    Guarded,
    by_value,
    descriptors,
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
    mapped, growths = shared_pages(), []
    # A copy would cost its 96 MiB each time; what else this process takes meanwhile (pages of its heap that were
    # handed back earlier, say) it takes once.
    for _ in range(3):
        before = private_bytes_now()
        result = jobs.value(np.ones, 12 * MIB)  # 96 MiB
        assert result.sum() == 12 * MIB
        growths.append(private_bytes_now() - before)
        assert shared_pages() - mapped >= 96 * MIB
        with unchanged_caller():
            del result
        assert shared_pages() == mapped
    assert min(growths) < 5 * MIB
    assert max(growths) < 48 * MIB


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
