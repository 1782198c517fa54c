"""What comes of a function that is called on batches: results in order, failures set apart, retries in halves."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import BatchError
from memguard.memory import (
    BatchFailure,
    BatchReason,
    BatchResult,
    iterate_batches,
    map_batches,
)
from tests.support.batches import KINDS, Room, numbers_of


def test_an_error_in_a_batch_counts_it_not() -> None:
    """A batch whose work failed is not among the finished ones."""
    room = Room()
    batches = iterate_batches(list(range(10)), room.hooks, rows=4)
    next(batches)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert room.finished == [4]


def test_results_come_in_order_with_their_rows() -> None:
    """Each result says which rows it is of, and all of them together are the data."""
    found = Room().map(list, range(10), rows=4)
    assert found == [
        BatchResult(0, 4, [0, 1, 2, 3]),
        BatchResult(4, 8, [4, 5, 6, 7]),
        BatchResult(8, 10, [8, 9]),
    ]


def refusing(most_rows: int, bad: frozenset[int] = frozenset()) -> Callable[[Any], list[int]]:
    """Return work that runs out of memory above so many rows, and that some rows make fail otherwise."""

    def work(part: Any) -> list[int]:
        numbers = numbers_of(part)
        if len(numbers) > most_rows:
            raise MemoryError(f"{len(numbers)} rows")
        if bad.intersection(numbers):
            raise ValueError(f"bad {min(bad.intersection(numbers))}")
        return numbers

    return work


@pytest.mark.requirement("R3.4", "T4.2")
@given(
    count=st.integers(0, 300),
    rows=st.none() | st.integers(1, 200),
    most_rows=st.integers(0, 100),
    bad=st.frozensets(st.integers(0, 300), max_size=3),
    shape=st.tuples(st.sampled_from(sorted(KINDS)), st.none() | st.integers(1, 60)),
)
def test_every_row_is_in_one_result_or_in_one_failure(
    count: int, rows: int | None, most_rows: int, bad: frozenset[int], shape: tuple[str, int | None]
) -> None:
    """Whatever fails, spans follow each other without gap or overlap, results are their rows, failures are not."""
    kind, chunk = shape
    data: Any = KINDS[kind](np.arange(count))
    if chunk is not None:
        data = (KINDS[kind](np.arange(first, min(first + chunk, count))) for first in range(0, count, chunk))
    room = Room()
    found = room.map(refusing(most_rows, bad), data, rows=rows, keep_failures=True)
    edges = [0, *(each.stop for each in found)]
    assert [each.start for each in found] == edges[:-1]
    assert edges[-1] == count
    for each in found:
        if isinstance(each, BatchResult):
            assert each.value == list(range(each.start, each.stop))
        elif isinstance(each.error, MemoryError):
            assert (each.stop - each.start, most_rows) == (1, 0)
        else:
            assert bad.intersection(range(each.start, each.stop))
    assert [each for each in found if isinstance(each, BatchFailure)] == room.failures
    assert sum(room.finished) == sum(len(each.value) for each in found if isinstance(each, BatchResult))


@pytest.mark.requirement("R3.1", "R3.4")
def test_a_batch_that_is_too_large_is_done_again_in_halves() -> None:
    """A MemoryError splits that very batch; with a size that adapts, the ones behind it begin smaller, too."""
    room = Room()
    found = room.map(refusing(3000), np.arange(40_000))
    assert [each.stop - each.start for each in found[:4]] == [2500, 1875, 1875, 1562]
    assert room.reasons[:4] == [
        BatchReason.STARTED,
        BatchReason.GREW,
        BatchReason.RETRIED,
        BatchReason.GREW,
    ]
    fixed = Room().map(refusing(30), range(200), rows=100)
    assert [each.stop for each in fixed] == [25, 50, 75, 100, 125, 150, 175, 200]


def test_a_size_that_failed_is_not_tried_again_at_once() -> None:
    """After a MemoryError batches stay below the size that failed for a while, then look whether it fits now."""
    calls: list[int] = []
    work = refusing(3000)

    def counted(part: Any) -> list[int]:
        calls.append(len(part))
        return work(part)

    Room(free=400_000).map(counted, np.arange(200_000))
    failed = [number for number, rows in enumerate(calls) if rows > 3000]
    assert len(failed) >= 2
    assert all(max(calls[number + 1 : number + 17]) < calls[number] for number in failed)
    assert max(calls[failed[-1] :]) >= max(calls[failed[0] + 1 : failed[0] + 17])


@pytest.mark.parametrize("data", [range(9), iter([(np.zeros(3), np.zeros(3))])], ids=["row", "pair"])
def test_what_cannot_be_smaller_has_failed(data: Any) -> None:
    """A row that does not fit alone, or a chunk that cannot be cut, ends the work, with what to do."""
    with pytest.raises(BatchError, match=r"rows 0:\d failed .* MemoryError: .*; it is too large even alone"):
        Room().map(refusing(0) if isinstance(data, range) else out_of_memory, data)


def out_of_memory(part: Any) -> None:
    raise MemoryError(f"cannot hold {len(part)}")


def test_another_error_ends_the_work_at_its_rows() -> None:
    """By default the first failure is raised with its rows, from its cause, after the results before it."""
    results = map_batches(refusing(100, frozenset({6})), range(10), Room().hooks, rows=4)
    assert next(results).start == 0
    with pytest.raises(
        BatchError, match=r"rows 4:8 failed in refusing.*test_batch_results.py:\d+.*bad 6"
    ) as caught:
        next(results)
    assert (caught.value.start, caught.value.stop) == (4, 8)
    assert isinstance(caught.value.__cause__, ValueError)
    assert isinstance(caught.value, RuntimeError)
    assert list(results) == []


class Heavy(list[int]):
    """Rows that can be referenced weakly, and whose slices can too."""

    alive: list[weakref.ref[Any]]

    def __getitem__(self, key: Any) -> Any:
        part = Heavy(super().__getitem__(key))
        self.alive.append(weakref.ref(part))
        part.alive = self.alive
        return part


def keeps_all_it_can(part: Any) -> None:
    """Fail in as many ways at once as there are: behind, while handling, in a group, kept by the frame itself."""
    made = Heavy(part)
    part.alive.append(weakref.ref(made))
    mine = None
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ExceptionGroup("both", [first, ValueError("second")]) from first
    except ExceptionGroup as group:
        mine = group
        raise MemoryError(str(len(made))) from mine


@pytest.mark.requirement("R3.2", "R3.4", "T4.2")
@pytest.mark.parametrize("keep", [True, False])
def test_a_failed_batch_is_let_go_of(keep: bool) -> None:
    """Nothing holds the rows of a failed batch or what was made of them: no frame, though its error is still held."""
    data = Heavy(range(8))
    data.alive = []
    held: list[Any] = []
    try:
        for each in map_batches(keeps_all_it_can, data, Room().hooks, rows=4, keep_failures=keep):
            held.append(each)
            assert [ref for ref in data.alive if ref() is not None] == []
    except BatchError as error:
        held.append(error)
    assert len(held) == (8 if keep else 1)
    assert len(data.alive) >= 6
    assert [ref for ref in data.alive if ref() is not None] == []
    if keep:
        assert held[0].error.__traceback__ is None
        assert held[0].where.startswith("in keeps_all_it_can (test_batch_results.py:")
        assert "rows 0:1 failed: MemoryError: 1" in str(held[0])


def test_what_is_handled_around_is_left_alone() -> None:
    """The caller's own error, in whose handling the work is done, keeps its traceback and its frames."""
    found: list[Any] = []

    def work(_: Any) -> None:
        raise ValueError("inner")

    def fail() -> None:
        kept = "mine"
        raise KeyError(kept)

    def work_while_handling() -> None:
        try:
            fail()
        except KeyError:
            found.extend(map_batches(work, range(2), Room().hooks, keep_failures=True))
            raise

    with pytest.raises(KeyError) as outer:
        work_while_handling()
    assert outer.traceback[-1].frame.f_locals == {"kept": "mine"}
    assert found[0].error.__context__ is None


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_is_no_failure_of_a_batch(interrupt: type[BaseException]) -> None:
    """Ctrl-C and the end of the program pass through, whatever is kept."""

    def work(_: Any) -> None:
        raise interrupt

    room = Room()
    with contextlib.suppress(RuntimeError), pytest.raises(interrupt):
        room.map(work, range(2), keep_failures=True)
    assert room.failures == []
