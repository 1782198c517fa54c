"""Batches in a guarded block: every row once, in sizes that fit the memory there is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from memguard import MemoryLimitExceeded, MemoryManager, Outcome
from memguard.config import load_settings
from memguard.errors import BatchError, DataError
from memguard.memory import BatchFailure
from tests.support.blocks import allocate
from tests.support.guarded import MIB, run_python


@pytest.fixture(scope="module")
def manager() -> Iterator[MemoryManager]:
    with MemoryManager("2GiB") as manager:
        yield manager


@pytest.fixture
def events(manager: MemoryManager) -> Iterator[list[Any]]:
    seen: list[Any] = []
    with manager.events.subscribed(seen.append):
        yield seen


ROWS = 50_000


FRAME = pd.DataFrame(
    {"number": np.arange(ROWS), "text": [f"row {number}" for number in range(ROWS)]},
    index=pd.Index(np.arange(ROWS) * 7 % ROWS, name="key"),
)


def chunks() -> Iterator[list[int]]:
    for start in range(0, 100, 7):
        yield list(range(start, min(start + 7, 100)))


def joined(batches: list[Any]) -> Any:
    first = batches[0]
    if isinstance(first, pd.DataFrame | pd.Series):
        return pd.concat(batches)
    if isinstance(first, pa.Table):
        return pa.concat_tables(batches)
    if isinstance(first, np.ndarray):
        return np.concatenate(batches)
    return [each for batch in batches for each in batch]


@pytest.mark.requirement("R3.1", "R3.4", "T1.1")
@pytest.mark.parametrize("rows", [None, 999])
@pytest.mark.parametrize(
    "data",
    [
        FRAME,
        FRAME["number"],
        FRAME["number"].to_numpy(),
        np.arange(ROWS * 4.0).reshape(ROWS, 4),
        pa.table({"number": np.arange(ROWS)}),
        list(range(ROWS)),
        range(ROWS),
        FRAME.iloc[:0],
        FRAME.iloc[:1],
    ],
    ids=["frame", "series", "array", "matrix", "arrow", "list", "range", "empty", "one row"],
)
def test_batches_hold_every_row_once_and_in_order(
    manager: MemoryManager, data: Any, rows: int | None
) -> None:
    """Whatever the data and the size, the batches put together are the data: rows, order, index, dtypes."""
    with manager.managed_processing("batches", memory="100MiB") as job:
        batches = list(job.batches(data, rows))
    report = manager.reports[-1].batches
    assert report.rows == len(data)
    assert report.count == len(batches)
    if rows is not None:
        assert report.largest_rows <= rows
    if len(data) == 0:
        assert batches == []
        return
    whole = joined(batches)
    if isinstance(data, pd.DataFrame):
        pd.testing.assert_frame_equal(whole, data)
    elif isinstance(data, pd.Series):
        pd.testing.assert_series_equal(whole, data)
    elif isinstance(data, pa.Table):
        assert whole.equals(data)
    else:
        np.testing.assert_array_equal(whole, list(data) if isinstance(data, range) else data)


def test_chunks_of_an_iterator_are_passed_on(manager: MemoryManager) -> None:
    """An iterator is taken as it comes, one chunk at a time, and its rows are counted."""
    with manager.managed_processing("stream", memory="100MiB") as job:
        seen = [each for chunk in job.batches(chunks()) for each in chunk]
    assert seen == list(range(100))
    assert manager.reports[-1].batches.rows == 100


COSTLY_ROWS = """
import json
import numpy as np
from memguard import MemoryManager

data, resized = np.zeros((200_000, 4)), []

def hear(event):
    if event.name == "memguard.batch_resized":
        resized.append((event.fields["rows_before"], event.fields["rows"], event.fields["reason"]))

with MemoryManager("1GiB") as manager, manager.events.subscribed(hear), manager.managed_processing("costly", memory="200MiB") as job:
    sizes, kept = [], []
    for batch in job.batches(data):
        sizes.append(len(batch))
        kept.append(np.repeat(batch, 4, axis=0))  # 128 bytes a row stay
        work = np.repeat(batch, 200, axis=0)  # 6,400 bytes a row come and go
        work += 1
        del work
report = manager.reports[-1]
print(json.dumps([sizes, report.peak_bytes, report.outcome.value, resized]))
"""


@pytest.mark.requirement("R3.1", "R3.2")
def test_batches_follow_what_a_row_costs() -> None:
    """Work that needs two hundred times a row's weight, and gives it back, is seen from the first batch on."""
    done = run_python(COSTLY_ROWS)
    sizes, peak_bytes, outcome, resized = json.loads(done.stdout)
    assert (sum(sizes), outcome) == (200_000, "completed")
    # A quarter of the room for what a row was seen to cost; without looking at peaks batches would grow.
    assert max(sizes[1:]) * 6400 < 60 * MIB
    assert peak_bytes < 140 * MIB
    changes = [list(pair) for pair in itertools.pairwise(sizes[:-1]) if pair[0] != pair[1]]
    assert changes
    assert [each[:2] for each in resized[: len(changes)]] == changes
    assert resized[0][2] == "shrank"


@pytest.mark.requirement("R3.4", "R6.2")
def test_batches_stop_between_two(manager: MemoryManager) -> None:
    """A loop that keeps too much is stopped before its next batch: what it has so far is whole."""
    done: list[Any] = []
    with (
        pytest.raises(MemoryLimitExceeded),
        manager.managed_processing("keeps", memory="60MiB") as job,
    ):
        for batch in job.batches(np.zeros((1_000, 1000)), rows=100):
            kept = allocate(10 * MIB)
            done.append((len(batch), kept))
    assert {rows for rows, _ in done} == {100}
    assert 5 <= len(done) <= 8
    assert manager.reports[-1].batches.count == len(done)


TOO_LARGE_AT_FIRST = """
import json
import resource
import numpy as np
from memguard import MemoryManager

data, reasons, real = np.arange(40_000), [], []

def hear(event):
    if event.name == "memguard.batch_resized":
        reasons.append(event.fields["reason"])

def work(part):
    try:
        copies = np.repeat(part, 5_000)  # 40,000 bytes a row
    except MemoryError as error:
        real.append(type(error).__name__)
        raise
    return int(copies[::5_000].sum())

def used_bytes():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))

with MemoryManager("2GiB") as manager, manager.events.subscribed(hear), manager.managed_processing("large", memory="1GiB") as job:
    resource.setrlimit(resource.RLIMIT_DATA, (used_bytes() + (64 << 20), resource.RLIM_INFINITY))
    found = list(job.map_batches(work, data))
report = manager.reports[-1]
spans = [(each.start, each.stop) for each in found]
print(json.dumps([spans, sum(each.value for each in found), real, reasons, report.outcome.value, report.batches.rows]))
"""


@pytest.mark.requirement("R3.1", "R3.4", "T4.2")
def test_a_batch_that_really_runs_out_of_memory_is_done_in_smaller_ones() -> None:
    """The kernel refuses the first batch what it needs; the job completes all the same, each row worked on once."""
    spans, total, real, reasons, outcome, rows = json.loads(run_python(TOO_LARGE_AT_FIRST).stdout)
    assert real
    assert (total, outcome, rows) == (sum(range(40_000)), "completed", 40_000)
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == 40_000
    assert max(stop - start for start, stop in spans) * 40_000 <= 64 * MIB
    assert reasons[0] == "retried"


@pytest.mark.requirement("R3.4", "R6.2")
def test_a_stop_in_the_midst_of_a_batch_makes_it_smaller(manager: MemoryManager) -> None:
    """A function that calls a checkpoint while it uses too much is stopped there, and done again in halves."""
    most: list[int] = []

    def work(part: Any) -> int:
        most.append(len(part))
        taken = allocate(len(part) * MIB)
        job.checkpoint()
        return len(taken) // MIB

    with manager.managed_processing("midst", memory="60MiB") as job:
        found = list(job.map_batches(work, range(160), rows=80))
    assert most[:3] == [80, 40, 40]
    assert [(each.start, each.value) for each in found] == [(0, 40), (40, 40), (80, 40), (120, 40)]
    assert manager.reports[-1].outcome is Outcome.COMPLETED


@pytest.mark.requirement("R3.4", "R6.4")
def test_a_batch_that_fails_is_told_and_left_out(manager: MemoryManager, events: list[Any]) -> None:
    """The other rows have their results; event, warning and result say which rows have none, and why."""

    def work(part: Any) -> int:
        if 25 in part:
            raise ValueError("no such row")
        return len(part)

    with manager.managed_processing("odd", memory="100MiB") as job:
        found = list(job.map_batches(work, range(40), rows=10, on_error="keep"))
    assert [(each.start, each.stop) for each in found] == [(0, 10), (10, 20), (20, 30), (30, 40)]
    assert [isinstance(each, BatchFailure) for each in found] == [False, False, True, False]
    report = manager.reports[-1]
    told = "rows 20:30 were left out, their batch failed: ValueError: no such row"
    assert [warning.text for warning in report.warnings] == [told]
    assert (report.outcome, report.batches.rows, report.batches.count) == (Outcome.COMPLETED, 30, 3)
    (event,) = [event for event in events if event.name == "memguard.batch_failed"]
    assert event.fields == {"start": 20, "stop": 30, "error": "ValueError: no such row"}


def test_a_failed_batch_ends_a_block_unless_it_is_kept(manager: MemoryManager) -> None:
    """By default the block ends with an error that names the rows; impossible words are refused at the call."""
    with (
        pytest.raises(BatchError, match="rows 0:3 failed .*ZeroDivisionError"),
        manager.managed_processing("fails", memory="100MiB") as job,
    ):
        list(job.map_batches(lambda part: len(part) // 0, range(3)))
    assert manager.reports[-1].outcome is Outcome.RAISED
    with (
        pytest.raises(DataError, match='on_error: .* give "raise" or "keep"'),
        manager.managed_processing("odd", memory="100MiB") as job,
    ):
        job.map_batches(len, range(3), on_error="ignore")  # type: ignore[call-overload]


def test_every_decision_is_logged(manager: MemoryManager, caplog: pytest.LogCaptureFixture) -> None:
    """The log has each decision on a size with its reason, also those that change nothing."""
    caplog.set_level("DEBUG", logger="memguard.batching")
    with manager.managed_processing("logged", memory="100MiB") as job:
        sizes = [len(batch) for batch in job.batches(np.zeros(100_000))]
    lines = [record.getMessage() for record in caplog.records if record.name == "memguard.batching"]
    assert len(lines) == len(sizes)
    assert "reason=started" in lines[0]
    assert f"rows={sizes[0]}" in lines[0]


def test_the_first_batch_of_a_block_is_sized_by_past_blocks_of_its_name(tmp_path: Path) -> None:
    """A second block begins with what rows cost in the first; one of another name begins by what rows weigh."""
    settings = load_settings({"episodes": tmp_path})

    def sizes(name: str) -> list[int]:
        with MemoryManager("1GiB", settings=settings) as manager, manager.managed_processing(name) as block:
            return [len(allocate(len(batch) * 1000)) // 1000 for batch in block.batches(np.arange(200_000.0))]

    first, second, other = sizes("work"), sizes("work"), sizes("something else")
    assert first[0] == other[0] == 200_000 // 16
    assert sum(first) == sum(second) == 200_000
    assert first[0] < second[0] <= max(first)
    assert len(second) < len(first)
