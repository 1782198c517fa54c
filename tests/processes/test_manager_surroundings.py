"""A manager in the programs that people write: threads, event loops, fixtures, careless subscribers, early ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import resource
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from memguard import (
    CapacityExceeded,
    JobInterrupted,
    MemoryLimitExceeded,
    MemoryManager,
    Outcome,
    current_job,
)
from memguard.errors import WorkerStartError
from memguard.testing import allocate
from tests.support.guarded import MIB, Guarded, by_value, descriptors, eventually, guarded, run_python

by_value(__name__)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("400MiB", grace="1s") as manager:
        yield manager


def fill() -> None:
    taken = []
    while True:
        taken.append(allocate(MIB))


def stay() -> None:
    job = current_job()
    assert job is not None
    job.phase("ready")
    time.sleep(60)


def in_thread(work: Callable[[], Any]) -> Any:
    """Do it in a thread that knows nothing of this one's blocks."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=60)


@pytest.mark.requirement("R2.4")
def test_a_thread_inside_a_block_shares_its_budget() -> None:
    """A manager made in a thread that was started inside a manager's block is bounded by it."""
    with MemoryManager("400MiB") as outer:
        with pytest.raises(CapacityExceeded, match="the budget of memguard"):
            in_thread(lambda: MemoryManager("2GiB"))
        inner = in_thread(lambda: MemoryManager("100MiB"))
        assert inner.enclosing is outer
        inner.close()
    assert in_thread(lambda: MemoryManager("100MiB")).enclosing is None


def test_independent_managers_are_not_confused() -> None:
    """Where two managers are in use that do not enclose each other, a third thread belongs to neither."""
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with MemoryManager("1GiB"):
            entered.set()
            leave.wait(60)

    aside = MemoryManager("300MiB")
    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(60)
    with aside:
        assert in_thread(lambda: MemoryManager("500MiB")).enclosing is None
    leave.set()
    thread.join()


def test_a_manager_may_be_left_in_another_context() -> None:
    """A generator fixture enters in one task and leaves in another: all is closed, and the next manager is free."""

    async def fixture() -> AsyncIterator[MemoryManager]:
        async with MemoryManager("200MiB") as manager, manager.managed_processing("all", memory="50MiB"):
            yield manager

    async def use() -> MemoryManager:
        generator = fixture()
        manager = await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
        return manager

    manager = asyncio.run(use())
    assert manager.is_closed
    assert [report.outcome for report in manager.reports] == [Outcome.COMPLETED]
    assert manager.allocator.statistics().reservations == 0
    context = contextvars.copy_context()
    late = MemoryManager("100MiB")
    context.run(late.__enter__)
    late.__exit__(None, None, None)
    assert context.run(MemoryManager, "300MiB").enclosing is None


def test_a_loop_full_of_waiting_jobs_lets_the_block_end(jobs: Guarded) -> None:
    """More jobs wait for a block's memory than the loop's executor has threads, and the block can still be left."""

    async def crowd() -> list[Any]:
        async with jobs.manager.managed_processing("block", memory="350MiB"):
            context = contextvars.Context()
            tasks = [
                asyncio.create_task(jobs.manager.arun(abs, -number, memory="100MiB"), context=context)
                for number in range((os.cpu_count() or 1) + 6)
            ]
            while jobs.manager.allocator.statistics().waiting < len(tasks):
                await asyncio.sleep(0.001)
        return await asyncio.gather(*tasks)

    results = asyncio.run(crowd())
    assert [each.value for each in results] == list(range(len(results)))


def test_a_job_of_a_loop_takes_any_keyword(jobs: Guarded) -> None:
    """No word is taken from the job's own arguments."""

    def echo(**words: int) -> dict[str, int]:
        return words

    words = {"request": 1, "function": 2, "self": 3, "work": 4}
    assert asyncio.run(jobs.manager.arun(echo, memory="64MiB", **words)).value == words


def test_an_odd_error_of_a_job_comes_out_of_the_loop(jobs: Guarded) -> None:
    """StopIteration, which no future can carry, does not leave the caller waiting."""

    def stop() -> None:
        raise StopIteration("enough")

    with pytest.raises(RuntimeError, match="enough"):
        asyncio.run(jobs.manager.arun(stop, memory="64MiB"))


@pytest.mark.requirement("T1.1")
def test_the_death_of_a_job_inside_is_not_the_blocks(jobs: Guarded) -> None:
    """A job that dies in a block keeps its own report in the error; the block is told to have raised."""
    with (
        pytest.raises(MemoryLimitExceeded) as caught,
        jobs.manager.managed_processing("outer", memory="100MiB"),
    ):
        jobs.manager.run(fill, memory="64MiB", name="inner")
    inner, outer = jobs.manager.reports[-2:]
    assert caught.value.report == inner
    assert (inner.name, inner.outcome) == ("inner", Outcome.BUDGET_KILL)
    assert (outer.name, outer.outcome) == ("outer", Outcome.RAISED)
    assert outer.peak_bytes < 64 * MIB


def test_a_refusal_inside_a_block_is_no_lack_of_memory(jobs: Guarded) -> None:
    """A request that is larger than the budget fails the block as an error, not as an allocation."""
    with pytest.raises(CapacityExceeded), jobs.manager.managed_processing("outer", memory="100MiB"):
        jobs.manager.run(int, memory="100GiB")
    assert jobs.manager.reports[-1].outcome is Outcome.RAISED


def test_a_subscriber_that_fails_harms_nobody(jobs: Guarded, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever subscribers raise, jobs and blocks go on, watched; the others hear of all events, and it is logged."""
    seen: list[str] = []

    def careless(event: Any) -> None:
        seen.append(event.name)
        raise RuntimeError("mine, with password=hunter2")

    with jobs.manager.events.subscribed(careless):
        assert jobs.manager.run(abs, -3, memory="64MiB").value == 3
        with jobs.manager.managed_processing("block", memory="50MiB") as job:
            kept = allocate(60 * MIB)
            with pytest.raises(MemoryLimitExceeded):
                job.checkpoint()
            del kept
    assert {"memguard.job_started", "memguard.job_ended", "memguard.budget_neared"} <= set(seen)
    assert threading.active_count() == 1


def test_a_block_is_watched_when_no_descriptor_is_left(jobs: Guarded) -> None:
    """Where the process has none left to open, the watcher goes on, and so does the end of the block."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    with jobs.manager.managed_processing("block", memory="50MiB") as job:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 4, limits[1]))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            kept = allocate(60 * MIB)
            assert eventually(lambda: job.used_bytes > 50 * MIB)
            with pytest.raises(MemoryLimitExceeded):
                job.checkpoint()
            del kept
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for each in taken:
                os.close(each)
    assert jobs.manager.reports[-1].peak_bytes >= 60 * MIB


@pytest.mark.requirement("R1.4")
def test_closing_stops_what_runs_and_what_waits() -> None:
    """`close` ends running jobs and takes waiting ones out of the line; nothing is started afterwards."""
    with guarded("200MiB", grace="1s") as jobs, ThreadPoolExecutor(2) as threads:
        ready = threading.Event()
        running = threads.submit(
            jobs.run, stay, memory="150MiB", on_progress=lambda progress: progress.phase and ready.set()
        )
        assert ready.wait(60)
        waiting = threads.submit(jobs.run, abs, -1, memory="100MiB")
        assert eventually(lambda: jobs.manager.allocator.statistics().waiting)
        jobs.manager.close()
        assert running.result(timeout=60).report.outcome is Outcome.INTERRUPTED
        assert isinstance(waiting.exception(timeout=60), JobInterrupted)
        with pytest.raises(WorkerStartError, match="closed"):
            jobs.manager.run(int)
        assert eventually(lambda: not jobs.processes())


def test_an_interpreter_that_ends_stops_its_jobs() -> None:
    """A job that a daemon thread waits for does not hold up the end of the program."""
    program = """
import threading, time
from memguard import MemoryManager
manager, started = MemoryManager("200MiB"), threading.Event()
def stay():
    time.sleep(60)
def work():
    manager.run(stay, memory="64MiB", check=False, on_progress=lambda _: started.set())
threading.Thread(target=work, daemon=True).start()
started.wait(60)
print("ends")
"""
    began_s = time.monotonic()
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "ends\n")
    assert time.monotonic() - began_s < 50
