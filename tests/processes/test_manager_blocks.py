"""`managed_processing`: work in the caller's own process, watched, warned, stopped at its own checkpoints."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import mmap
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from memguard import MemoryLimitExceeded, MemoryManager, Outcome
from memguard.errors import BatchError, DataError
from memguard.memory import BatchFailure
from tests.support.guarded import MIB, PATIENCE_S, eventually, run_python, unchanged_caller


def allocate(count_bytes: int) -> mmap.mmap:
    """Take fresh private pages: what the C library kept of earlier tests must not serve again."""
    taken = mmap.mmap(-1, count_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, count_bytes, mmap.PAGESIZE):
        taken[start] = 1
    return taken


@pytest.fixture(scope="module")
def manager() -> Iterator[MemoryManager]:
    with MemoryManager("2GiB") as manager:
        yield manager


@pytest.fixture
def events(manager: MemoryManager) -> Iterator[list[Any]]:
    seen: list[Any] = []
    with manager.events.subscribed(seen.append):
        yield seen


@pytest.mark.requirement("T1.1", "R5.4")
def test_a_block_is_reported(manager: MemoryManager) -> None:
    """A block that ends well has a report: what it took, its phases, notes and warnings."""
    with unchanged_caller(), manager.managed_processing("load", memory="200MiB") as job:
        job.phase("reading")
        taken = allocate(50 * MIB)
        job.checkpoint()
        job.phase("fitting")
        job.note("rows", 12)
        job.warn("odd")
        del taken
    report = manager.reports[-1]
    assert job.report == report
    assert (report.name, report.kind, report.outcome) == ("load", "managed", Outcome.COMPLETED)
    assert report.budget.fence == "cooperative"
    assert 50 * MIB <= report.peak_bytes < 80 * MIB
    assert [phase.name for phase in report.phases] == ["reading", "fitting"]
    assert report.notes["rows"] == 12
    assert [warning.text for warning in report.warnings] == ["odd"]
    assert report.caller.after_bytes - report.caller.before_bytes < 5 * MIB
    assert manager.allocator.statistics().reserved_bytes == 0


@pytest.mark.requirement("R2.1", "R2.2", "R6.2")
def test_a_block_past_its_budget_stops_at_a_checkpoint(manager: MemoryManager, events: list[Any]) -> None:
    """The error comes between two batches, is a MemoryError, and carries the whole story; a warning came before."""
    kept: list[mmap.mmap] = []
    with (
        pytest.raises(MemoryLimitExceeded) as caught,
        manager.managed_processing("fit", memory="60MiB") as job,
    ):
        for _ in range(100):
            job.checkpoint()
            kept.append(allocate(5 * MIB))
    assert 11 <= len(kept) <= 14
    report = manager.reports[-1]
    assert caught.value.report == report
    assert isinstance(caught.value, MemoryError)
    assert report.outcome is Outcome.BUDGET_SOFT_STOP
    assert "its memory reached its budget and it stopped when asked" in str(caught.value)
    assert "% of the budget of 60 MiB" in report.warnings[0].text
    names = [event.name for event in events]
    assert names.index("memguard.budget_neared") < names.index("memguard.reservation_released")


def test_who_shrinks_in_time_goes_on(manager: MemoryManager) -> None:
    """A block that was over its budget for a moment, and gave back before its checkpoint, is not stopped."""
    with manager.managed_processing("spike", memory="60MiB") as job:
        spike = allocate(80 * MIB)
        del spike
        job.checkpoint()
    assert manager.reports[-1].outcome is Outcome.COMPLETED


@pytest.mark.requirement("R2.2", "R5.1")
def test_the_watcher_sees_use_between_checkpoints(manager: MemoryManager, events: list[Any]) -> None:
    """A block that never calls a checkpoint is watched all the same: the warning comes while it runs."""
    warned = threading.Event()

    def note(event: Any) -> None:
        if event.name == "memguard.budget_neared":
            warned.set()

    with manager.events.subscribed(note), manager.managed_processing("quiet", memory="60MiB"):
        taken = allocate(55 * MIB)
        assert warned.wait(PATIENCE_S)
        del taken


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("mine"), Outcome.RAISED),
        (MemoryError("numpy's"), Outcome.MEMORY_ERROR),
        (KeyboardInterrupt(), Outcome.INTERRUPTED),
    ],
)
def test_an_error_in_a_block_comes_out_as_it_is(
    manager: MemoryManager, error: BaseException, outcome: Outcome
) -> None:
    """Whatever the work raises passes through unchanged, after cleanup and report."""
    cleaned: list[int] = []
    with (
        unchanged_caller(),
        pytest.raises(type(error)) as caught,
        manager.managed_processing("fails", memory="60MiB") as job,
    ):
        job.cleanup.register("mine", lambda: cleaned.append(1))
        raise error
    assert caught.value is error
    assert cleaned == [1]
    assert manager.reports[-1].outcome is outcome


@pytest.mark.requirement("T1.1")
def test_a_block_in_a_loop(manager: MemoryManager) -> None:
    """`async with` does the same without blocking the loop while it waits for room."""

    async def work() -> list[str]:
        order: list[str] = []

        async def one(name: str) -> None:
            async with manager.managed_processing(name, memory="1.5GiB") as job:
                order.append(f"{name} in")
                await asyncio.sleep(0.02)
                job.checkpoint()
                order.append(f"{name} out")

        await asyncio.gather(one("a"), one("b"), one("c"))
        return order

    order = asyncio.run(work())
    assert [each.split()[1] for each in order] == ["in", "out"] * 3
    assert manager.allocator.statistics().reserved_bytes == 0


def test_a_block_that_is_cancelled_while_it_waits_holds_nothing(manager: MemoryManager) -> None:
    """A task that is cancelled before it got its room leaves no reservation behind."""

    async def cancel() -> None:
        async with manager.managed_processing("first", memory="2GiB"):

            async def second() -> None:
                async with manager.managed_processing("second", memory="1GiB"):
                    raise AssertionError("it has no room")

            # A context of its own: a block inside the block would be refused at once.
            import contextvars

            task = asyncio.create_task(second(), context=contextvars.Context())
            while manager.allocator.statistics().waiting == 0:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with unchanged_caller():
        asyncio.run(cancel())
        assert eventually(lambda: manager.allocator.statistics().reserved_bytes == 0)
    assert manager.allocator.statistics().waiting == 0


@pytest.mark.requirement("T1.1")
def test_blocks_end_with_their_own_cleanup_before_the_managers(manager: MemoryManager) -> None:
    """Handlers of a block run at its end, and those of nested blocks before those around them."""
    order: list[str] = []
    with (
        manager.managed_processing("outer", memory="200MiB") as outer,
        manager.managed_processing("inner", memory="100MiB") as inner,
    ):
        outer.cleanup.register("outer", lambda: order.append("outer"))
        inner.cleanup.register("inner", lambda: order.append("inner"))
    assert order == ["inner", "outer"]


@pytest.mark.requirement("R4.2")
def test_models_are_registered_weakly(manager: MemoryManager) -> None:
    """A registered model dies by its last reference; the report tells how many outlived the block."""

    class Model:
        def __init__(self) -> None:
            self.weights = np.ones(100_000)

    gc.disable()
    try:
        with manager.managed_processing("models", memory="100MiB") as job:
            kept = job.register_model(Model(), "kept")
            for _ in range(3):
                job.register_model(Model())
    finally:
        gc.enable()
    notes = manager.reports[-1].notes
    assert (notes["models_registered"], notes["models_alive_at_end"]) == (4, 1)
    assert kept.weights.sum() == 100_000


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


def test_tracked_allocations_follow_their_objects(manager: MemoryManager) -> None:
    """What is tracked counts by its name until it dies, without being kept alive."""
    array = manager.allocations.track(np.zeros(1_000_000), "features")
    frame = manager.allocations.track(pd.DataFrame({"a": np.zeros(1000)}), "table")
    assert manager.allocations.by_name()["features"] == 8_000_000
    assert manager.allocations.total_bytes >= 8_008_000
    del array
    assert "features" not in manager.allocations.by_name()
    assert len(frame) == 1000


def test_results_that_a_block_keeps_count() -> None:
    """A job's result lies in shared memory; while the block holds it, it counts, and no longer."""
    with MemoryManager("400MiB") as manager, manager.managed_processing("keeps", memory="200MiB") as job:
        before = job.used_bytes
        value = manager.run(np.ones, 10 << 20, memory="150MiB").value  # 80 MiB
        assert 80 * MIB <= job.used_bytes - before < 90 * MIB
        part = value[:10]
        del value
        assert job.used_bytes - before >= 80 * MIB
        job.checkpoint()
        assert part.sum() == 10
        del part
        assert job.used_bytes - before < 10 * MIB
    assert manager.reports[-1].peak_bytes >= 80 * MIB


class Rows(list[int]):
    """Data that can be referenced weakly."""


@pytest.mark.requirement("R1.4", "T4.2")
@pytest.mark.parametrize("walk", ["checkpoint", "batches", "map_batches", "raises"])
def test_what_a_stopped_block_had_goes_with_its_error(manager: MemoryManager, walk: str) -> None:
    """Once the error is dropped nothing holds the block or its data, without a garbage collection."""
    gone: list[weakref.ref[Any]] = []

    def stop() -> None:
        data, kept = Rows(range(20)), list[Any]()
        gone.append(weakref.ref(data))

        def work(part: Any) -> None:
            if walk == "raises":
                raise ValueError("mine")
            kept.append(allocate(20 * MIB))

        with manager.managed_processing("stopped", memory="60MiB") as job:
            gone.append(weakref.ref(job))
            if walk == "checkpoint":
                for _ in data:
                    work(data)
                    job.checkpoint()
            elif walk == "batches":
                for part in job.batches(data, rows=1):
                    work(part)
            else:
                list(job.map_batches(work, data, rows=1))

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(MemoryLimitExceeded, BatchError):
            stop()
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


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
