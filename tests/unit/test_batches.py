"""Batches: slices that are the data, every row once, and what becomes of those that fail."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import BatchError, DataError
from memguard.guard.pressure import Pressure
from memguard.memory import (
    BatchDecision,
    BatchFailure,
    BatchHooks,
    BatchReason,
    BatchResult,
    iterate_batches,
    map_batches,
)
from memguard.memory.rows import row_count
from memguard.units import MIB


class Room:
    """Free memory, use and pressure as a script: what a batch costs is what the test says."""

    def __init__(self, free: int = 100 * MIB, cost_per_row: int = 0) -> None:
        self.free, self.cost_per_row, self.peak, self.finished = free, cost_per_row, 0, list[int]()
        self.pressure = Pressure.NORMAL
        self.decisions: list[BatchDecision] = []
        self.failures: list[BatchFailure] = []
        self.checkpoints = 0

    @property
    def hooks(self) -> BatchHooks:
        return BatchHooks(
            free_bytes=lambda: self.free,
            used_bytes=lambda: 0,
            peak_bytes=self.take_peak,
            pressure=lambda: self.pressure,
            checkpoint=self.check,
            on_batch=self.finished.append,
            on_decision=self.decisions.append,
            on_failure=self.failures.append,
        )

    def batches(self, data: Any, rows: int | None = None) -> list[Any]:
        found = []
        for batch in iterate_batches(data, self.hooks, rows=rows):
            self.peak = row_count(batch) * self.cost_per_row
            found.append(batch)
        return found

    def map(self, function: Callable[[Any], Any], data: Any, **options: Any) -> list[Any]:
        return list(map_batches(function, data, self.hooks, **options))

    @property
    def reasons(self) -> list[BatchReason]:
        return [each.reason for each in self.decisions]

    def check(self) -> None:
        self.checkpoints += 1

    def take_peak(self) -> int:
        peak, self.peak = self.peak, 0
        return peak


@pytest.mark.requirement("R3.1", "T4.1")
def test_costly_rows_make_small_batches() -> None:
    """After two steps no batch costs more than a quarter of the room, and each decision is told with its reason."""
    room = Room(100 * MIB, cost_per_row=5000)
    sizes = [len(each) for each in room.batches(np.zeros((200_000, 4)))]
    assert sum(sizes) == 200_000
    assert max(sizes[2:]) * 5000 <= 25 * MIB
    assert room.finished == sizes
    assert room.checkpoints == len(sizes)
    assert len(room.decisions) == len(sizes)  # the first one, and one between each two batches
    assert [each.rows for each in room.decisions][: len(sizes) - 1] == sizes[:-1]
    assert room.reasons[:2] == [BatchReason.STARTED, BatchReason.SHRANK]
    assert all(one.rows == two.rows_before for one, two in itertools.pairwise(room.decisions))


@pytest.mark.parametrize("rows", [0, -1, 2.5, True, "10"])
@pytest.mark.parametrize("data", [range(10), iter([[1]])])
def test_a_size_that_is_none_is_refused(rows: Any, data: Any) -> None:
    """A fixed size is a whole number from 1 up; anything else is named, with what to give, before any row is."""
    room = Room()
    with pytest.raises(
        DataError, match="rows: .* is no size of a batch; give a whole number of rows, at least 1"
    ):
        room.batches(data, rows=rows)
    assert room.finished == []


@pytest.mark.parametrize("cost", [0, -1.0, float("nan"), float("inf")])
def test_a_cost_that_is_none_is_refused(cost: float) -> None:
    """What a row is thought to cost is more than nothing, and finite."""
    with pytest.raises(DataError, match="bytes_per_row: .* is no cost of a row; give bytes"):
        list(iterate_batches(range(10), Room().hooks, bytes_per_row=cost))


def test_a_size_may_be_a_number_of_numpy() -> None:
    """What counts as a whole number elsewhere does so here."""
    assert [len(each) for each in Room().batches(range(10), rows=np.int64(4))] == [4, 4, 2]  # type: ignore[arg-type]


def test_a_given_cost_is_where_it_starts() -> None:
    """Who knows what a row costs begins with batches of a quarter of the room, not with a cautious guess."""
    data = np.zeros(10_000_000, dtype=np.int8)
    first = next(iterate_batches(data, Room(100 * MIB).hooks, bytes_per_row=1000))
    assert len(first) == 25 * MIB // 1000


def test_cheap_rows_make_large_batches() -> None:
    """Where rows cost nothing the batches grow by half the first size each, and the work is done in a few steps."""
    room = Room(cost_per_row=0)
    sizes = [len(each) for each in room.batches(np.zeros((200_000, 4)))]
    assert sizes[:3] == [12_500, 18_750, 25_000]
    assert len(sizes) <= 7
    assert set(room.reasons[1:]) == {BatchReason.GREW}


def test_a_shrinking_room_makes_smaller_batches() -> None:
    """When others take the memory the next batches follow, at most by half a step."""
    room = Room(cost_per_row=1000)
    sizes = []
    for batch in iterate_batches(np.zeros((100_000, 1)), room.hooks):
        sizes.append(len(batch))
        room.peak = len(batch) * 1000
        room.free = max(MIB, room.free // 4)
    assert sum(sizes) == 100_000
    assert sizes[-2] < sizes[0]
    assert all(after >= before // 2 for before, after in itertools.pairwise(sizes[:-1]))


@pytest.mark.requirement("R3.1", "R6.2")
def test_pressure_makes_smaller_batches() -> None:
    """High pressure halves the batches, critical makes them the smallest, and all grow again when it is over."""
    room, sizes = Room(), []
    script = [Pressure.HIGH, Pressure.HIGH, Pressure.CRITICAL, Pressure.ELEVATED, Pressure.RECOVERING]
    for number, batch in enumerate(iterate_batches(np.zeros((200_000, 4)), room.hooks)):
        room.pressure = script[number] if number < len(script) else Pressure.NORMAL
        sizes.append(len(batch))
    assert sizes[:9] == [12_500, 6_250, 3_125, 195, 195, 195, 390, 780, 1560]
    assert room.reasons[1:6] == [BatchReason.PRESSURE] * 5
    assert max(sizes) > 12_500


KINDS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "frame": lambda numbers: pd.DataFrame({"n": numbers}, index=numbers[::-1]),
    "series": lambda numbers: pd.Series(numbers, index=numbers[::-1]),
    "array": lambda numbers: numbers,
    "arrow": lambda numbers: pa.table({"n": numbers}),
    "list": list,
}


def numbers_of(part: Any) -> list[int]:
    """Return the rows of a part as numbers, whatever it is."""
    if isinstance(part, pa.Table):
        return list(part["n"].to_pylist())
    if isinstance(part, pd.DataFrame):
        return list(part["n"])
    return [int(each) for each in part]


@pytest.mark.requirement("R3.4")
@given(
    count=st.integers(0, 5000),
    rows=st.none() | st.integers(1, 700),
    kind=st.sampled_from(sorted(KINDS)),
    script=st.lists(st.tuples(st.sampled_from(Pressure), st.integers(-10, 2**20)), max_size=20),
)
def test_slices_are_the_data(
    count: int, rows: int | None, kind: str, script: list[tuple[Pressure, int]]
) -> None:
    """Put together, the batches are the data, whatever is free and how short memory is: no row lost, doubled, moved."""
    data, room, found = KINDS[kind](np.arange(count)), Room(MIB), []
    states = itertools.cycle(script or [(Pressure.NORMAL, MIB)])
    for batch in iterate_batches(data, room.hooks, rows=rows):
        found.append(batch)
        room.peak = len(found) * 700
        room.pressure, room.free = next(states)
    assert [each for batch in found for each in numbers_of(batch)] == list(range(count))
    assert all(len(each) > 0 for each in found)
    assert room.finished == [len(each) for each in found]
    if kind == "frame" and found:
        pd.testing.assert_frame_equal(pd.concat(found), data)


@given(
    lengths=st.lists(st.integers(0, 40), max_size=12),
    kinds=st.lists(st.sampled_from([*sorted(KINDS), "tuple"]), min_size=1, max_size=4),
    rows=st.integers(1, 30),
)
def test_chunks_come_whole_or_in_parts(lengths: list[int], kinds: list[str], rows: int) -> None:
    """Chunks of any kinds hold every row once, in order; no batch of what can be cut is larger than its size."""
    total, makers = sum(lengths), itertools.cycle(kinds)

    def chunks() -> Iterator[Any]:
        first = 0
        for length in lengths:
            kind, numbers = next(makers), np.arange(first, first + length)
            yield tuple(numbers) if kind == "tuple" else KINDS[kind](numbers)
            first += length

    found = list(iterate_batches(chunks(), Room().hooks, rows=rows))
    assert [each for batch in found for each in numbers_of(batch)] == list(range(total))
    assert all(len(each) <= rows for each in found if not isinstance(each, tuple))


def test_a_column_may_be_called_as_it_likes() -> None:
    """A frame with columns that are named as attributes of other libraries is cut as any other."""
    names = ["num_rows", "nbytes", "slice", "shape"]
    data = pd.DataFrame({name: range(10) for name in names})
    assert [len(each) for each in Room().batches(data, rows=4)] == [4, 4, 2]
    assert [len(each) for each in Room().batches(iter([data]), rows=4)] == [4, 4, 2]


def test_sparse_matrices_have_rows() -> None:
    """What has a shape and can be sliced needs no length; as a chunk it is cut, too."""
    data = scipy.sparse.eye_array(10, format="csr")
    for whole in (data, iter([data])):
        found = Room().batches(whole, rows=4)
        assert [each.shape[0] for each in found] == [4, 4, 2]
        assert (scipy.sparse.vstack(found) != data).nnz == 0


def test_slices_are_views() -> None:
    """A batch of an array is no copy of it."""
    data = np.zeros((100_000, 4))
    assert all(np.shares_memory(each, data) for each in Room().batches(data))


def test_chunks_of_an_iterator_are_counted_as_they_come() -> None:
    """An iterator is never read ahead, and chunks without a length count as one row."""
    taken = []

    def chunks() -> Any:
        for number in range(3):
            taken.append(number)
            yield [number] * 4 if number < 2 else iter(())

    room = Room()
    batches = iterate_batches(chunks(), room.hooks)
    assert next(batches) == [0] * 4
    assert taken == [0]
    assert len(list(batches)) == 2
    assert room.finished == [4, 4, 1]


def test_chunks_may_be_larger_than_a_batch() -> None:
    """The size is reckoned from the first chunk; a larger one comes in parts, pairs of features and target whole."""
    room = Room(free=100_000)
    chunk, pair = np.zeros((1000, 1)), (np.zeros((1000, 1)), np.zeros(1000))
    found = room.batches(iter([chunk, pair]))
    assert len(found[0]) == 100_000 // 20 // 8
    assert sum(len(each) for each in found[:-1]) == 1000
    assert found[-1] is pair


@pytest.mark.requirement("R3.2")
def test_a_chunk_is_gone_before_the_next_is_asked_for() -> None:
    """What the caller has let go of is alive nowhere else while the next chunk is made."""
    alive: list[weakref.ref[Any]] = []

    class Chunks:
        """An iterator that keeps nothing itself, as a generator suspended in its yield does."""

        def __iter__(self) -> Iterator[Any]:
            return self

        def __init__(self) -> None:
            self.made = 0

        def __next__(self) -> Any:
            assert [each() for each in alive if each() is not None] == []
            self.made += 1
            if self.made > 3:
                raise StopIteration
            chunk = np.zeros(100)
            alive.append(weakref.ref(chunk))
            return chunk

    batches = iterate_batches(Chunks(), Room().hooks)
    for _ in range(3):
        assert len(next(batches)) == 100
    assert next(batches, None) is None
    results = map_batches(np.cumsum, Chunks(), Room().hooks)
    for _ in range(3):
        assert isinstance(next(results), BatchResult)
    assert len(alive) == 6


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
        BatchError, match=r"rows 4:8 failed in refusing.*test_batches.py:\d+.*bad 6"
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
        assert held[0].where.startswith("in keeps_all_it_can (test_batches.py:")
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
