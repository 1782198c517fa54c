"""How memguard is used, as a type checker sees it. Checked by mypy, not run."""

from __future__ import annotations

from typing import Any, assert_type

import memguard
from memguard import (
    BatchFailure,
    BatchResult,
    CleanupManager,
    JobContext,
    JobProgress,
    JobReport,
    JobResult,
    ManagedJob,
    MemoryLimitExceeded,
    MemoryManager,
    Outcome,
    Reservation,
    ResourceAllocator,
    Sheddable,
    register_sheddable,
)


def count(text: str, times: int = 1) -> int:
    """A job."""
    return len(text) * times


class Model:
    """Something to register."""


def jobs(manager: MemoryManager) -> None:
    """A result has the type of what the function returns."""
    result = manager.run(count, "abc", times=2, memory="1GiB", timeout="5m", name="count", preload=["numpy"])
    assert_type(result, JobResult[int])
    assert_type(result.value, int)
    assert_type(result.report, JobReport)
    assert_type(result.report.outcome, Outcome)
    assert_type(result.report.peak_bytes, int)
    manager.run(count, "abc", memory=1.5)  # type: ignore[arg-type]


async def loops() -> None:
    """The same in an event loop."""
    async with MemoryManager(budget="4GiB") as manager:
        assert_type((await manager.arun(count, "abc", memory="1GiB")).value, int)
        async with manager.managed_processing("train") as job:
            assert_type(job, ManagedJob)


def blocks(manager: MemoryManager) -> None:
    """A block gives batches, takes models and tells what is left."""
    with manager.managed_processing("train", memory="1GiB") as job:
        for batch in job.batches([1, 2, 3]):
            assert_type(batch, Any)
        for result in job.map_batches(count, ["a", "b"], on_error="raise"):
            assert_type(result, BatchResult[int])
        for told in job.map_batches(count, ["a", "b"], on_error="keep"):
            assert_type(told, BatchResult[int] | BatchFailure)
        assert_type(job.register_model(Model()), Model)
        assert_type(job.free_bytes, int)
        assert_type(job.report, JobReport | None)


@memguard.guarded(memory="2GiB")
def decorated(text: str, *, times: int) -> int:
    """A function that is guarded keeps its signature."""
    return count(text, times)


def calls() -> None:
    """Arguments of a decorated function are checked as before."""
    assert_type(decorated("abc", times=2), int)
    decorated("abc", times="2")  # type: ignore[arg-type]


def progress(manager: MemoryManager) -> None:
    """A callback is told where the job is; a job that is guarded can tell it."""

    def show(now: JobProgress) -> None:
        assert_type(now.phase, str)

    manager.run(count, "abc", on_progress=show)
    assert_type(memguard.current_job(), JobContext | None)


class Cache:
    """Something that can give memory back, as a plain class has it."""

    name = "cache"

    def __init__(self) -> None:
        self.held_bytes = 0

    def shed(self, wanted_bytes: int) -> int:
        """Give back."""
        return min(wanted_bytes, self.held_bytes)


def pools(cache: Cache) -> None:
    """A cache is registered as it is."""
    known: Sheddable = cache
    take_out = register_sheddable(known)
    assert_type(take_out(), None)
    CleanupManager().register_sheddable("cache", cache)


def faces() -> int:
    """The other two, and what is caught."""
    allocator = ResourceAllocator(2**30)
    with allocator.reserve(2**20, "job") as held:
        assert_type(held, Reservation)
    with CleanupManager() as cleanup:
        cleanup.register("files", lambda: None)
    try:
        decorated("abc", times=2)
    except MemoryLimitExceeded as error:
        assert_type(error.report, JobReport | None)
        return 137
    return 0
