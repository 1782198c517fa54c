"""Guarded blocks of the caller's own process: reported, stopped at checkpoints, cleaned up."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import mmap
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memguard import MemoryLimitExceeded, MemoryManager, Outcome
from memguard.errors import BatchError
from tests.support.blocks import allocate
from tests.support.guarded import MIB, PATIENCE_S, eventually, unchanged_caller


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
