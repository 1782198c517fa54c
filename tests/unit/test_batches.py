"""Batches hold every row once and in order, and follow the room there is."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import DataError
from memguard.guard.pressure import Pressure
from memguard.memory import (
    BatchReason,
    BatchResult,
    iterate_batches,
    map_batches,
)
from memguard.units import MIB
from tests.support.batches import KINDS, Room, numbers_of


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
