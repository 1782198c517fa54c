"""Arrays of a result behave like any other memory when the caller forks, and still go when they are dropped."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from memguard.host import private_bytes_now
from memguard.worker import mapping
from memguard.worker.buffers import create_segment, pack, unpack, write_packed
from tests.support.guarded import MIB, Guarded, by_value, descriptors, guarded

by_value(__name__)

LENGTH = 100_000  # bytes of an array that lies on the segment
PAGES = -(-LENGTH // resource.getpagesize())


@contextmanager
def received(count: int) -> Iterator[tuple[list[Any], int]]:
    """A result of arrays of ones as a caller gets it, and a descriptor of its segment, which he does not keep."""
    packed = pack([np.ones(LENGTH, dtype=np.uint8) for _ in range(count)], what="a test's value")
    descriptor = create_segment("memguard-test", packed.total_bytes).give_away()[0]
    try:
        write_packed(packed, descriptor)
        yield unpack(descriptor, give_back=True), descriptor
    finally:
        os.close(descriptor)


def pages_of(descriptor: int) -> int:
    return os.fstat(descriptor).st_blocks * 512 // resource.getpagesize()


class Child:
    """A forked copy of this process that answers one question when it is asked."""

    def __init__(self, question: Callable[[], int]) -> None:
        go, self.go = os.pipe()
        self.answer, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.go)
                os.read(go, 1)
                os.write(answer, str(question()).encode())
            finally:
                os._exit(0)
        os.close(go)
        os.close(answer)

    def ask(self) -> int:
        """Let it go on, and return what it found."""
        os.close(self.go)
        found = os.read(self.answer, 100)
        os.close(self.answer)
        os.waitpid(self.pid, 0)
        return int(found)


@pytest.mark.parametrize("count", [1, 3, 100])
def test_a_forked_child_has_its_own_view(count: int) -> None:
    """What the child writes the parent does not see, and what the parent writes the child does not."""
    with received(count) as (arrays, _):

        def look() -> int:
            seen = sum(int(each.sum()) for each in arrays)
            for each in arrays:
                each[:] = 5
            return seen

        child = Child(look)
        arrays[0][:50] = 9
        arrays[-1][-50:] = 9
        assert child.ask() == count * LENGTH
        expected = count * LENGTH + 2 * 50 * 8
        assert sum(int(each.sum()) for each in arrays) == expected


@pytest.mark.parametrize("count", [1, 3, 100])
def test_dropping_an_array_empties_nobody_elses(count: int) -> None:
    """The parent drops its arrays while a child still has them, and a child drops its while the parent has them."""
    with received(count) as (arrays, _):

        def drop() -> int:
            arrays[1:] = []
            return int(arrays[0].sum())

        assert Child(drop).ask() == LENGTH
        assert sum(int(each.sum()) for each in arrays) == count * LENGTH
        kept = list(arrays)
        child = Child(lambda: sum(int(each.sum()) for each in kept))
        kept.clear()
        arrays.clear()
        assert child.ask() == count * LENGTH


def test_pages_are_given_back_until_somebody_forks() -> None:
    """Of a result from before a fork nothing is given back part by part; of one that came after it, again."""
    with received(3) as (before, old):
        assert Child(lambda: 1).ask() == 1
        with received(3) as (after, new):
            del before[0], after[0]
            assert (pages_of(old), pages_of(new)) == (3 * PAGES, 2 * PAGES)


def test_a_result_that_arrives_during_a_fork_is_left_alone() -> None:
    """One that another thread takes between the fork and its last hook may be the child's as well."""
    mapping._Forks.begin()
    with received(3) as (during, descriptor):
        full = pages_of(descriptor)
        del during[0]
        mapping._Forks.end()
        del during[0]
        assert pages_of(descriptor) == full


def test_a_child_gives_back_what_it_received_itself() -> None:
    """In a forked child, results of its own are given back part by part, even if it was forked during a fork."""
    mapping._Forks.begin()

    def receive() -> int:
        with received(3) as (arrays, descriptor):
            del arrays[0]
            return pages_of(descriptor)

    child = Child(receive)
    mapping._Forks.end()
    assert child.ask() == 2 * PAGES


def test_only_what_is_written_is_copied() -> None:
    """Reading a result takes no memory of the caller's own; writing takes as many pages as are written to."""
    with received(1) as (arrays, _):
        written = arrays[0]
    with received(40) as (arrays, descriptor):
        before = private_bytes_now()
        assert sum(int(each.sum()) for each in arrays) == 40 * LENGTH
        read = private_bytes_now()
        for each in arrays:
            np.add(each, 1, out=each)
        grown = private_bytes_now() - read
        assert read - before < MIB
        assert 40 * LENGTH <= grown < 40 * LENGTH + 2 * MIB
        assert pages_of(descriptor) == 40 * PAGES
        arrays.clear()
        del each
        assert pages_of(descriptor) == 0
    assert written.sum() == LENGTH
    assert private_bytes_now() - before < MIB


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("1GiB") as manager:
        manager.value(np.zeros, 1)
        yield manager


def spoil(array: Any) -> float:
    array[:] = 7
    return float(array.sum())


def work_on(number: int) -> float:
    return spoil(_results[number])


_results: list[Any] = []


def test_workers_of_a_pool_keep_to_themselves(jobs: Guarded) -> None:
    """A forked pool that works in place on results of jobs changes neither the caller's arrays nor each other's."""
    _results[:] = jobs.value(lambda: [np.ones(50_000) for _ in range(4)])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(work_on, [0, 1, 2, 3, 0], chunksize=1) == [350_000.0] * 5
    assert [each.sum() for each in _results] == [50_000.0] * 4
    _results.clear()


def test_a_result_travels_on_as_it_is_now(jobs: Guarded) -> None:
    """An array from one job, changed in places, is the next job's argument with these changes, and no more a link."""
    array = jobs.value(np.ones, 50_000)
    array[::1000] = 3
    open_before = descriptors()
    again = jobs.value(spoil, array)
    assert again == 350_000
    assert array.sum() == 50_000 + 50 * 2
    assert jobs.value(np.copy, array).sum() == array.sum()
    assert descriptors() == open_before
