"""Jobs side by side: each bounded on its own, together inside the budget, in turn, and stopped without a trace."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import memguard
from memguard import (
    CapacityExceeded,
    JobResult,
    MemoryLimitExceeded,
    MemoryManager,
    Outcome,
    ReservationTimeout,
)
from memguard.testing import allocate
from tests.support.guarded import (
    MIB,
    Guarded,
    by_value,
    eventually,
    fences_of,
    guarded,
    run_python,
    unchanged_caller,
)

by_value(__name__)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("400MiB", grace="1s") as manager:
        yield manager


def work(number: int, mib: int = 30) -> int:
    taken = allocate(mib * MIB)
    time.sleep(0.1)
    return number + len(taken) * 0


def fill() -> None:
    taken = []
    while True:
        taken.append(allocate(MIB))


def hold(path: str) -> str:
    """Run until somebody opens the other end of a named pipe."""
    with open(path) as pipe:
        return pipe.read()


class Held:
    """A job that runs until it is let go."""

    def __init__(self, jobs: Guarded, folder: Path, memory: str, pool: ThreadPoolExecutor) -> None:
        self.path = folder / f"pipe-{time.monotonic_ns()}"
        os.mkfifo(self.path)
        self.future = pool.submit(jobs.run, hold, str(self.path), memory=memory, name="holder")
        self._end = os.open(self.path, os.O_WRONLY)  # waits until the job reads

    def let_go(self) -> JobResult:
        os.close(self._end)
        return self.future.result()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.mark.requirement("R2.4", "T7.3")
def test_one_bad_job_hurts_no_other(jobs: Guarded, threads: ThreadPoolExecutor) -> None:
    """Among jobs that run at the same time the one that passes its budget is killed, and the others complete."""
    good = [threads.submit(jobs.run, work, number, memory="64MiB") for number in range(4)]
    bad = threads.submit(jobs.run, fill, memory="64MiB")
    crash = threads.submit(jobs.run, os.abort, memory="64MiB")
    assert [each.result().value for each in good] == [0, 1, 2, 3]
    assert [each.result().report.outcome for each in (bad, crash)] == [Outcome.BUDGET_KILL, Outcome.SIGNAL]
    for each in (*good, bad, crash):
        assert fences_of(each.result().report.job_id) == []
    for each in good:
        assert 30 * MIB <= each.result().report.peak_bytes < 60 * MIB
    assert eventually(jobs.is_idle)


@pytest.mark.requirement("R2.4", "T1.2")
def test_reservations_never_pass_the_budget(jobs: Guarded, threads: ThreadPoolExecutor) -> None:
    """Twenty jobs of 150 MiB share 400 MiB: two at a time, all of them in the end."""
    held, most = 0, 0
    lock = threading.Lock()

    def note(event: Any) -> None:
        nonlocal held, most
        change = {"memguard.reservation_granted": 1, "memguard.reservation_released": -1}.get(event.name, 0)
        with lock:
            held += change * event.fields.get("reserved_bytes", 0)
            most = max(most, held)

    with jobs.manager.events.subscribed(note):
        results = list(threads.map(lambda number: jobs.run(abs, number, memory="150MiB"), range(20)))
    assert [each.value for each in results] == list(range(20))
    assert (most, held) == (300 * MIB, 0)
    assert jobs.manager.allocator.statistics().reserved_bytes == 0


def test_who_came_first_is_first(jobs: Guarded, threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    """A small job that would fit does not overtake a large one that waits."""
    holder = Held(jobs, tmp_path, "200MiB", threads)
    order: list[str] = []

    def run(name: str, memory: str) -> None:
        jobs.run(order.append, name, memory=memory, name=name, on_progress=lambda _: None)
        order.append(name)

    waiting = jobs.manager.allocator.statistics
    large = threads.submit(run, "large", "300MiB")
    assert eventually(lambda: waiting().waiting == 1)
    small = threads.submit(run, "small", "200MiB")
    assert eventually(lambda: waiting().waiting == 2)
    assert waiting().reserved_bytes == 200 * MIB
    holder.let_go()
    large.result()
    small.result()
    assert order == ["large", "small"]


@pytest.mark.requirement("T1.2")
def test_waiting_too_long_names_the_holders(
    jobs: Guarded, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """A reservation that is not to be had in time says how much was free and who holds the rest."""
    holder = Held(jobs, tmp_path, "250MiB", threads)
    with pytest.raises(ReservationTimeout) as caught:
        jobs.manager.allocator.reserve(200 * MIB, "late", timeout_s=0.05)
    told = "late waited for 200 MiB, and 150 MiB of 400 MiB are free; held by holder: 250 MiB"
    assert str(caught.value) == told
    assert (caught.value.free_bytes, caught.value.holders) == (150 * MIB, ("holder: 250 MiB",))
    holder.let_go()


@pytest.mark.requirement("R2.1")
@pytest.mark.parametrize(
    ("memory", "error", "told"),
    [
        ("500MiB", CapacityExceeded, r"500MiB is more than there is: .* 400 MiB \(the budget of memguard"),
        ("80", ValueError, "did you mean 80MiB or 80%"),
        ("4 bananas", ValueError, "is not a size; write 4GiB"),
        ("900TiB", MemoryError, "is more than there is"),
        (-1, ValueError, "is not a size"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(
    jobs: Guarded, memory: Any, error: type[Exception], told: str
) -> None:
    """A size that is none, too small or too large is refused by name before anything starts."""
    with unchanged_caller(), pytest.raises(error, match=told):
        jobs.run(int, memory=memory)
    assert jobs.manager.allocator.statistics().reserved_bytes == 0


def test_a_share_is_of_the_managers_budget(jobs: Guarded) -> None:
    """A percentage is a share of what the manager has, and without any wish a job gets all of it."""
    assert jobs.run(int, memory="50%").report.budget.limit_bytes == 200 * MIB
    everything = jobs.manager.run(int).report.budget
    assert (everything.limit_bytes, everything.source) == (400 * MIB, "all of the budget of memguard")


@pytest.mark.requirement("T1.1", "R2.4")
def test_jobs_of_a_loop_run_at_the_same_time(jobs: Guarded) -> None:
    """`arun` leaves the event loop free: many jobs are gathered, a failure among them stays its own."""

    async def gather() -> list[Any]:
        options = {"memory": "64MiB"}
        some = [jobs.manager.arun(work, number, **options) for number in range(5)]
        return await asyncio.gather(*some, jobs.manager.arun(fill, **options), return_exceptions=True)

    *good, bad = asyncio.run(gather())
    assert [each.value for each in good] == [0, 1, 2, 3, 4]
    assert isinstance(bad, MemoryLimitExceeded)
    assert isinstance(bad, MemoryError)
    assert bad.report is not None
    assert bad.report.outcome is Outcome.BUDGET_KILL


@pytest.mark.requirement("R1.4")
def test_a_cancelled_job_is_stopped(jobs: Guarded) -> None:
    """Cancelling the task ends the job and its processes before the cancellation comes out."""

    def stay() -> None:
        threading.Timer(0.01, int).start()
        time.sleep(60)

    async def cancel() -> None:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def note(progress: Any) -> None:
            loop.call_soon_threadsafe(started.set)

        task = asyncio.create_task(jobs.manager.arun(stay, memory="64MiB", on_progress=note))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    report = jobs.manager.reports[-1]
    assert (report.name, report.outcome, report.cleanup.verified) == ("stay", Outcome.INTERRUPTED, True)
    assert jobs.manager.allocator.statistics().reserved_bytes == 0
    assert eventually(jobs.is_idle)


@pytest.mark.requirement("R1.4")
def test_a_job_that_waits_is_cancelled_at_once(
    jobs: Guarded, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """Cancelling a job that waits for memory takes it out of the line; it never starts."""
    holder = Held(jobs, tmp_path, "300MiB", threads)
    waiting = jobs.manager.allocator.statistics

    async def cancel() -> None:
        task = asyncio.create_task(jobs.manager.arun(work, 1, memory="200MiB", name="never"))
        while waiting().waiting == 0:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert not holder.future.done()
    assert (waiting().waiting, waiting().reservations) == (0, 1)
    holder.let_go()
    assert "never" not in [report.name for report in jobs.manager.reports]


def test_a_nested_manager_shares() -> None:
    """A manager inside a manager's block reserves in both: what the inner one holds the outer cannot give."""
    with MemoryManager("400MiB") as outer, MemoryManager("300MiB", name="inner") as inner:
        assert inner.budget.limit_bytes == 300 * MIB
        with inner.managed_processing("block", memory="250MiB"):
            assert outer.allocator.free_bytes == 150 * MIB
            with pytest.raises(ReservationTimeout, match="block: 250 MiB"):
                outer.allocator.reserve(200 * MIB, "outer job", timeout_s=0)
        with pytest.raises(CapacityExceeded, match="the budget of inner"):
            MemoryManager("500MiB")


def test_a_nested_manager_shares_with_a_fresh_one() -> None:
    """Without a budget of its own an inner manager has all of the outer one's; released, nothing is held."""
    with MemoryManager("200MiB") as outer, MemoryManager() as inner:
        assert inner.budget.limit_bytes == 200 * MIB
        assert inner.run(int, "3", memory="100MiB").value == 3
        assert outer.allocator.statistics().granted == 1
        assert outer.allocator.free_bytes == 200 * MIB


def test_a_block_and_a_job_in_it_do_not_wait_for_each_other(jobs: Guarded) -> None:
    """A job inside a block that holds all the memory is refused with the way out, and not left waiting for ever."""
    with (
        jobs.manager.managed_processing("train"),
        pytest.raises(CapacityExceeded, match="train around it holds 400 MiB"),
    ):
        jobs.run(int)
    with jobs.manager.managed_processing("train", memory="100MiB"):
        assert jobs.run(int, "5", memory="300MiB").value == 5

    async def within() -> Any:
        async with jobs.manager.managed_processing("train"):
            return await jobs.manager.arun(time.monotonic, memory="64MiB")

    with pytest.raises(CapacityExceeded, match="start monotonic outside of it"):
        asyncio.run(within())


@pytest.mark.requirement("T1.1")
def test_the_decorator_guards_each_call() -> None:
    """A decorated function runs in a process of its own and returns, or raises, as before; with its own budget."""

    @memguard.guarded(memory="64MiB", name="square")
    def square(number: int, *, power: int = 2) -> tuple[int, int]:
        """Say it."""
        return number**power, os.getpid()

    @memguard.guarded(memory="64MiB", timeout="200ms")
    def stay() -> None:
        time.sleep(60)

    with MemoryManager("100MiB") as manager:
        (value, pid), (cube, _) = square(3), square(3, power=3)
        assert (value, cube) == (9, 27)
        assert pid != os.getpid()
        assert manager.reports[-1].name == "square"
        assert square.__doc__ == "Say it."
        with pytest.raises(TimeoutError):
            stay()


def test_the_decorator_works_without_a_manager() -> None:
    """Outside of every block one manager serves the process, and ends with it."""
    program = """
import os, memguard

@memguard.guarded(memory="64MiB")
def work(number):
    return number + 1, os.getppid()

first, second = work(1), work(2)
print(first[0], second[0], len(memguard.manager.open_managers()))
"""
    done = run_python(program)
    assert (done.stdout, done.stderr) == ("2 3 1\n", "")


def test_settings_come_from_the_environment() -> None:
    """What the environment says is what a manager does: budget, warning line, fence, grace, timeout."""
    program = """
import time
from memguard import MemoryManager
with MemoryManager() as manager:
    print(manager.budget.limit_bytes >> 20, manager.settings.warn_at_fraction)
    report = manager.run(time.sleep, 60, check=False).report
    print(report.outcome.value, report.budget.fence, report.budget.limit_bytes >> 20)
"""
    settings = {"MEMORY": "150MiB", "WARN_AT": "50%", "FENCE": "rlimit", "TIMEOUT": "200ms", "GRACE": "100ms"}
    done = run_python(
        program, env={**os.environ, **{f"MEMGUARD_{name}": value for name, value in settings.items()}}
    )
    assert (done.stdout, done.stderr) == ("150 0.5\ntimeout rlimit 150\n", "")


def test_a_bad_setting_is_named() -> None:
    """A manager with an impossible setting in the environment is refused by the variable's name."""
    done = run_python(
        "import memguard; memguard.MemoryManager()", env={**os.environ, "MEMGUARD_MEMORY": "lots"}
    )
    assert "ConfigError: memory (environment MEMGUARD_MEMORY): 'lots' is not a size" in done.stderr


def test_status_and_emergency_cleanup_work_without_jobs() -> None:
    """The two calls for people in a hurry answer before, inside and after a manager's life."""
    status = memguard.get_memory_status()
    assert 0 < status.available_bytes <= status.capacity_bytes
    with MemoryManager("100MiB") as manager:
        during = memguard.emergency_memory_cleanup()
    assert during
    assert all(report.ok for report in during)
    after = memguard.emergency_memory_cleanup()
    assert all(report.ok for report in after)
    del manager


def test_a_manager_left_open_ends_at_exit() -> None:
    """An interpreter that ends without closing its manager leaves no template, and says nothing."""
    program = """
from memguard import MemoryManager
manager = MemoryManager("100MiB")
print(manager.run(int, "5", memory="64MiB").value, manager._pool._current.pid)
"""
    done = run_python(program)
    value, pid = map(int, done.stdout.split())
    assert (done.returncode, done.stderr, value) == (0, "", 5)
    assert not Path(f"/proc/{pid}").exists()
