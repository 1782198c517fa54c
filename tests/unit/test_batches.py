"""How many rows next: pure decisions, and slices that are the data, every row once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import DataError
from memguard.memory import BatchSizer, iterate_batches
from memguard.units import MIB


class Room:
    """Free memory and use as a script: what a batch costs is what the test says."""

    def __init__(self, free: int = 100 * MIB, cost_per_row: int = 0) -> None:
        self.free, self.cost_per_row, self.peak, self.finished = free, cost_per_row, 0, list[int]()
        self.resized: list[tuple[int, int]] = []

    def batches(self, data: Any, rows: int | None = None) -> list[Any]:
        found = []
        for batch in iterate_batches(
            data,
            rows=rows,
            free_bytes=lambda: self.free,
            used_bytes=lambda: 0,
            peak_bytes=self.take_peak,
            on_batch=self.finished.append,
            on_resize=self.note_resize,
        ):
            self.peak = len(batch) * self.cost_per_row
            found.append(batch)
        return found

    def note_resize(self, sizer: BatchSizer, former: int) -> None:
        self.resized.append((former, sizer.rows))

    def take_peak(self) -> int:
        peak, self.peak = self.peak, 0
        return peak


@pytest.mark.requirement("R3.1", "T4.1")
def test_costly_rows_make_small_batches() -> None:
    """After two steps no batch costs more than a quarter of the room, though each gives all of it back."""
    room = Room(100 * MIB, cost_per_row=5000)
    sizes = [len(each) for each in room.batches(np.zeros((200_000, 4)))]
    assert sum(sizes) == 200_000
    assert max(sizes[2:]) * 5000 <= 25 * MIB
    assert room.finished == sizes
    changes = [pair for pair in itertools.pairwise(sizes[:-1]) if pair[0] != pair[1]]
    assert room.resized[: len(changes)] == changes
    assert len(room.resized) <= len(changes) + 1  # the last batch is what was left over


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


def test_a_size_may_be_a_number_of_numpy() -> None:
    """What counts as a whole number elsewhere does so here."""
    assert [len(each) for each in Room().batches(range(10), rows=np.int64(4))] == [4, 4, 2]  # type: ignore[arg-type]


def test_cheap_rows_make_large_batches() -> None:
    """Where rows cost nothing the batches double, and the work is done in a few steps."""
    sizes = [len(each) for each in Room(cost_per_row=0).batches(np.zeros((200_000, 4)))]
    assert sizes[:3] == [12_500, 25_000, 50_000]
    assert len(sizes) <= 5


def test_a_shrinking_room_makes_smaller_batches() -> None:
    """When others take the memory the next batches follow, at most by half a step."""
    room = Room(cost_per_row=1000)
    sizes = []
    for batch in iterate_batches(
        np.zeros((100_000, 1)),
        rows=None,
        free_bytes=lambda: room.free,
        used_bytes=lambda: 0,
        peak_bytes=room.take_peak,
        on_batch=room.finished.append,
        on_resize=room.note_resize,
    ):
        sizes.append(len(batch))
        room.peak = len(batch) * 1000
        room.free = max(MIB, room.free // 4)
    assert sum(sizes) == 100_000
    assert sizes[-2] < sizes[0]
    assert all(after >= before // 2 - 1 for before, after in itertools.pairwise(sizes[:-1]))


@given(st.integers(1, 10**7), st.integers(-(10**9), 10**10), st.integers(0, 10**11), st.floats(0, 1e6))
def test_a_size_is_never_below_one_row_nor_more_than_doubled(
    rows: int, cost: int, free: int, bytes_per_row: float
) -> None:
    """Whatever was measured, there is a next batch, and it is at most twice and at least half as large."""
    sizer = BatchSizer(rows, bytes_per_row)
    following = sizer.next_rows(rows, cost, free)
    assert max(1, rows // 2) <= following <= 2 * rows
    assert sizer.bytes_per_row >= bytes_per_row


@given(st.floats(0, 1e9), st.integers(0, 2**45), st.integers(0, 10**9))
def test_the_first_batch_is_a_part(bytes_per_row: float, free: int, total: int) -> None:
    """The first batch fits a twentieth of the room and is at most a sixteenth of the rows, a thousand at least."""
    rows = BatchSizer.starting_with(bytes_per_row, free, total).rows
    assert 1 <= rows <= max(1000, total // 16)
    if bytes_per_row > 0 and rows > 1:
        assert rows * bytes_per_row <= free * 0.05 * 1.001


@pytest.mark.requirement("R3.4")
@given(
    st.integers(0, 5000),
    st.none() | st.integers(1, 700),
    st.sampled_from(["frame", "array", "arrow", "list"]),
)
def test_slices_are_the_data(count: int, rows: int | None, kind: str) -> None:
    """Put together, the batches are the data: no row dropped, repeated, padded or moved."""
    numbers = np.arange(count)
    data: Any = {
        "frame": lambda: pd.DataFrame({"n": numbers}, index=numbers[::-1]),
        "array": lambda: numbers,
        "arrow": lambda: pa.table({"n": numbers}),
        "list": lambda: list(numbers),
    }[kind]()
    batches = Room(MIB, cost_per_row=700).batches(data, rows)
    assert all(len(each) > 0 for each in batches)
    if kind == "frame" and batches:
        whole = pd.concat(batches)
        pd.testing.assert_frame_equal(whole, data)
    elif kind == "arrow" and batches:
        assert pa.concat_tables(batches).equals(data)
    else:
        assert [int(each) for batch in batches for each in batch] == list(range(count))


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
    batches = iterate_batches(
        chunks(),
        rows=None,
        free_bytes=lambda: 0,
        used_bytes=lambda: 0,
        peak_bytes=lambda: 0,
        on_batch=room.finished.append,
        on_resize=room.note_resize,
    )
    assert next(batches) == [0] * 4
    assert taken == [0]
    assert len(list(batches)) == 2
    assert room.finished == [4, 4, 1]


def test_an_error_in_a_batch_counts_it_not() -> None:
    """A batch whose work failed is not among the finished ones."""
    room = Room()
    batches = iterate_batches(
        list(range(10)),
        rows=4,
        free_bytes=lambda: MIB,
        used_bytes=lambda: 0,
        peak_bytes=lambda: 0,
        on_batch=room.finished.append,
        on_resize=room.note_resize,
    )
    next(batches)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert room.finished == [4]
