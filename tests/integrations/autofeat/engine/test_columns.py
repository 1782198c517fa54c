"""Columns in blocks: what is appended is what is read, in memory and on disk, and nothing stays when it is over."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.memory.pool import BlockPool
from memguard_integrations.autofeat.engine.columns import Allowance, ArrayColumns, Columns, ColumnStore
from memguard_integrations.autofeat.engine.scratch import ScratchFull, map_scratch
from tests.support.small_disks import small_disk_of

KIB = 1024
MIB = 1024**2


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def table(columns: int, rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(columns * rows).normal(size=(columns, rows)).astype(np.float32)


@pytest.fixture(params=["pool", "scratch", "both"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ColumnStore]:
    """A store of 30,000 rows that keeps columns in memory, on disk, or a few here and the rest there."""
    memory = {"pool": None, "scratch": 0, "both": MIB}[request.param]
    with ColumnStore(30_000, memory=memory, scratch_dir=tmp_path, pool=BlockPool()) as opened:
        yield opened


def test_what_is_appended_is_read(store: ColumnStore) -> None:
    """Columns and blocks hold the values in the order in which they came."""
    values = table(40, 30_000)
    assert [store.append(column) for column in values] == list(range(40))
    assert len(store) == 40
    for index in (0, 1, 17, 39):
        assert np.array_equal(store.column(index), values[index])
    blocks = list(store.blocks())
    assert [first for first, _ in blocks] == list(np.cumsum([0] + [len(block) for _, block in blocks])[:-1])
    assert np.array_equal(np.concatenate([block for _, block in blocks]), values)
    assert store.pooled_bytes + store.spilled_bytes >= values.nbytes


@pytest.mark.parametrize("kind", ["store", "array"])
def test_rows_are_a_bounded_copy(kind: str, tmp_path: Path) -> None:
    """Some rows of some columns come as asked for, into an array of the caller's if he gives one."""
    values = table(12, 500)
    columns: Columns = ArrayColumns(values)
    if kind == "store":
        columns = ColumnStore(500, memory=0, scratch_dir=tmp_path)
        for column in values:
            columns.append(column)
    out = np.empty((3, 100), dtype=np.float32)
    assert columns.rows([7, 0, 7], 100, 200, out) is out
    assert np.array_equal(out, values[[7, 0, 7], 100:200])
    assert np.array_equal(columns.rows(range(12), 0, 500), values)
    assert columns.rows([], 0, 10).shape == (0, 10)
    with pytest.raises(ValueError, match="no rows 400:600 among 500"):
        columns.rows([0], 400, 600)
    assert (columns.n_rows, len(columns)) == (500, 12)
    with pytest.raises(ValueError, match="read-only"):
        columns.column(0)[0] = 1.0


def test_an_array_of_another_kind_is_no_columns() -> None:
    """Doubles and columns that are not contiguous are refused."""
    for array in (np.zeros((2, 3)), np.zeros((3, 2), dtype=np.float32).T, np.zeros(3, dtype=np.float32)):
        with pytest.raises(ValueError, match="C order"):
            ArrayColumns(array)


def test_a_column_that_is_not_there_is_told(store: ColumnStore) -> None:
    """No index before the first or behind the last is answered, neither one that was forgotten."""
    for index in (-1, 0, 5):
        with pytest.raises(IndexError):
            store.column(index)
    for column in table(30, 30_000):
        store.append(column)
    kept = store.column(3).copy()
    view = store.column(3)
    store.forget_before(20)
    assert np.array_equal(view, kept)
    with pytest.raises(IndexError):
        store.column(0)
    assert store.column(20).shape == (30_000,)


def test_memory_is_taken_up_to_the_budget_and_then_disk(tmp_path: Path) -> None:
    """Two stores that share an allowance take no more of the pool than it says, together."""
    pool, allowance = BlockPool(), Allowance(3 * MIB)
    with (
        ColumnStore(60_000, memory=allowance, scratch_dir=tmp_path, pool=pool) as one,
        ColumnStore(60_000, memory=allowance, scratch_dir=tmp_path, pool=pool) as two,
    ):
        for column in table(30, 60_000):
            one.append(column)
            two.append(column)
            assert (
                pool.statistics().in_use_bytes == one.pooled_bytes + two.pooled_bytes == allowance.used_bytes
            )
            assert allowance.used_bytes <= 3 * MIB
        assert one.spilled_bytes
        assert allowance.used_bytes > 2 * MIB
        assert list(tmp_path.iterdir()) == []
    assert allowance.used_bytes == 0


def test_nothing_stays_when_a_store_is_closed(tmp_path: Path) -> None:
    """Descriptors, pool and disk are as before; a view that is still looked at stays good until it goes."""
    before, pool = descriptors(), BlockPool(idle_bytes=0)
    for memory in (None, 0):
        store = ColumnStore(10_000, memory=memory, scratch_dir=tmp_path, pool=pool)
        for column in table(50, 10_000):
            store.append(column)
        view = store.column(33)
        expected = view.tolist()
        store.close()
        store.close()
        assert len(store) == 0
        gc.collect()
        assert view.tolist() == expected
        del view
    assert pool.statistics().in_use_blocks == 0
    assert descriptors() == before


def test_pages_of_the_disk_do_not_stay(tmp_path: Path) -> None:
    """However much is written to a scratch file, what of it is mapped in at a time is a few MiB."""
    with ColumnStore(250_000, memory=0, scratch_dir=tmp_path, pool=BlockPool()) as store:
        column = table(1, 250_000)[0]
        for _ in range(40):
            store.append(column)
        resident = resident_bytes_of_files()
        assert store.spilled_bytes >= 40 * MIB * 0.9
        assert resident <= 8 * MIB
        store.rows(range(40), 0, 250_000 // 8)
        assert resident_bytes_of_files() <= 8 * MIB


def resident_bytes_of_files() -> int:
    """Return how much of unlinked files is mapped in and resident."""
    total, is_ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0] and not line.startswith("VmFlags"):
            is_ours = line.endswith("(deleted)") and "memfd:" not in line
        elif is_ours and line.startswith("Rss:"):
            total += int(line.split()[1]) * KIB
    return total


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["append", "forget"]), max_size=60), st.integers(0, 400), st.booleans())
def test_a_store_is_a_list_of_columns(steps: list[str], rows: int, is_bounded: bool) -> None:
    """Whatever is appended and forgotten, what is left is what a list would hold."""
    plain: list[np.ndarray[Any, Any]] = []
    with ColumnStore(rows, memory=64 * KIB if is_bounded else None, pool=BlockPool(idle_bytes=0)) as store:
        for number, step in enumerate(steps):
            if step == "append":
                plain.append(np.full(rows, number, dtype=np.float32))
                assert store.append(plain[-1]) == len(plain) - 1
            elif plain:
                store.forget_before(len(plain) // 2)
            for index in range(len(plain) // 2, len(plain)):
                assert np.array_equal(store.column(index), plain[index])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    with small_disk_of(MIB, tmp_path) as small:
        yield small


def test_a_full_disk_is_an_error_that_says_how_much_it_lacks(small_disk: Path) -> None:
    """Space is refused before anything is written, the error has the figures, and the disk is empty after it."""
    with pytest.raises(ScratchFull) as told:
        map_scratch(small_disk, 2 * MIB)
    assert isinstance(told.value, OSError)
    assert (told.value.needed_bytes, told.value.free_bytes) == (2 * MIB, MIB)
    assert str(small_disk) in str(told.value)
    store = ColumnStore(30_000, memory=0, scratch_dir=small_disk, pool=BlockPool())
    with pytest.raises(ScratchFull):
        for column in table(20, 30_000):
            store.append(column)
    assert len(store) >= 1
    store.close()
    gc.collect()
    assert os.statvfs(small_disk).f_bfree * 4 * KIB == MIB
