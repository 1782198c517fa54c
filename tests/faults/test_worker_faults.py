"""Processes of the guard are killed, stopped and starved while jobs run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memguard import JobLost, Outcome, current_job
from memguard.host import open_fence, probe
from memguard.host.fence_place import FencePlace, choose_place
from memguard.testing import allocate
from tests.support.guarded import (
    MIB,
    Guarded,
    by_value,
    error_of,
    eventually,
    fences_of,
    guarded,
    kill_for_sure,
    run_python,
)

by_value(__name__)


@pytest.fixture(scope="module", params=["auto", "none"])
def jobs(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    with guarded("1GiB", fence=request.param, grace="500ms") as manager:
        yield manager


def family() -> None:
    """Start children and grandchildren, in sessions of their own too, tell who the keeper is, and stay."""
    subprocess.Popen(["sh", "-c", "(sh -c 'sleep 60; true' & sleep 60; true) & sleep 60; true"])
    subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60; true"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
    os.wait()
    job = current_job()
    assert job is not None
    job.phase("ready", str(os.getppid()))
    time.sleep(60)


class Killer:
    """Kills somebody once, when a job says that it is ready."""

    def __init__(self, victim: int | None = None, number: int = signal.SIGKILL) -> None:
        self.victim, self.number, self.done = victim, number, False

    def __call__(self, progress: Any) -> None:
        if progress.phase == "ready" and not self.done:
            self.done = True
            os.kill(self.victim or int(progress.detail), self.number)


def check_works(jobs: Guarded) -> None:
    assert jobs.value(abs, -4) == 4
    assert eventually(jobs.is_idle), jobs.processes()


@pytest.mark.requirement("R1.4")
def test_a_killed_keeper_takes_its_job_along(jobs: Guarded) -> None:
    """`kill -9` of the supervisor: the outcome is ``lost``, all its job started is gone, the next job runs."""
    result = jobs.run(family, on_progress=Killer())
    report = result.report
    assert report.outcome is Outcome.LOST
    assert report.budget.fence != "unknown"
    assert report.duration_s > 0
    assert report.guard_degraded == ("the keeper of the job vanished",)
    assert isinstance(error_of(result), JobLost)
    assert eventually(jobs.is_idle), jobs.processes()
    assert eventually(lambda: not fences_of(report.job_id))
    check_works(jobs)


@pytest.mark.requirement("R1.4")
def test_a_killed_template_loses_no_job(jobs: Guarded) -> None:
    """`kill -9` of the template: a running job ends as it should, and the next one gets a new template."""

    def work() -> str:
        job = current_job()
        assert job is not None
        job.phase("ready")
        time.sleep(0.2)
        return "done"

    first = jobs.template_pid
    result = jobs.run(work, on_progress=Killer(first))
    assert (result.value, result.report.outcome) == ("done", Outcome.COMPLETED)
    assert fences_of(result.report.job_id) == []
    check_works(jobs)
    assert jobs.template_pid != first


@pytest.mark.requirement("R1.4")
def test_a_killed_spare_keeper_is_replaced(jobs: Guarded) -> None:
    """`kill -9` of the keeper that waits for a job: the next job does not notice."""
    keeper, waiting = jobs.standby()
    os.kill(keeper, signal.SIGKILL)
    assert eventually(lambda: not {keeper, waiting} & jobs.processes().keys())
    check_works(jobs)


@pytest.mark.requirement("R1.4")
def test_a_killed_standby_is_replaced(jobs: Guarded) -> None:
    """`kill -9` of the process that would have become the next job: the next job does not notice."""
    _, waiting = jobs.standby()
    kill_for_sure(waiting)
    result = jobs.run(abs, -4)
    assert (result.value, result.report.guard_degraded) == (4, ())
    check_works(jobs)


@pytest.mark.skipif(not probe().fence, reason="needs a memory cgroup")
def test_a_standby_that_cannot_be_given_its_limit_is_not_used() -> None:
    """Where the waiting fence was taken away, the job runs behind the next best one, and its report says why."""
    with guarded() as jobs:
        check_lost_fence(jobs)


def check_lost_fence(jobs: Guarded) -> None:
    _, waiting = jobs.standby()
    place = choose_place()
    assert isinstance(place, FencePlace)
    (fence,) = [
        path
        for path in Path(place.directory).glob("memguard-standby-*")
        if str(waiting) in (path / "cgroup.procs").read_text().split()
    ]
    Path(place.directory, "cgroup.procs").write_text(str(waiting))
    fence.rmdir()
    result = jobs.run(abs, -4)
    assert result.value == 4
    assert result.report.budget.fence == "rlimit"
    assert any("fence" in each for each in result.report.guard_degraded)
    check_works(jobs)


def test_a_killed_child_is_the_jobs_own_matter(jobs: Guarded) -> None:
    """Somebody kills a process that the job started: the job sees it, and goes on."""

    def parent() -> int:
        child = subprocess.Popen(["sleep", "60"])
        child.kill()
        return child.wait()

    assert jobs.value(parent) == -signal.SIGKILL


def test_a_stopped_job_is_ended_in_time(jobs: Guarded) -> None:
    """A job that was frozen with SIGSTOP cannot answer, and is killed when its time and grace are over."""

    def freeze() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    result = jobs.run(freeze, timeout=0.2)
    assert (result.report.outcome, result.report.signal) == (Outcome.TIMEOUT, "SIGKILL")
    jobs.check_nothing_left(result)


def test_the_fence_is_taken_away_while_a_job_runs() -> None:
    """Somebody moves the job out of its cgroup and removes that: the report says so, and the budget still holds."""
    if not probe().fence:
        pytest.skip(f"no writable memory cgroup: {probe().fence.reason}")
    place = choose_place()
    assert isinstance(place, FencePlace)

    def fill() -> None:
        job = current_job()
        assert job is not None
        job.phase("ready", str(os.getpid()))
        taken = []
        while True:
            taken.append(allocate(MIB))
            time.sleep(0.005)

    def take_away(progress: Any) -> None:
        if progress.phase == "ready" and not gone:
            (name,) = fences_of(jobs.manager._open_job_id)  # type: ignore[attr-defined]
            entrance = Path(place.directory, "cgroup.procs")
            entrance.write_text(progress.detail)
            Path(place.directory, name).rmdir()
            gone.append(name)

    gone: list[str] = []
    with guarded("1GiB", fence="cgroup", grace="200ms") as jobs:
        jobs.manager.events.subscribe(
            lambda event: (
                setattr(jobs.manager, "_open_job_id", event.job_id)
                if event.name == "memguard.job_started"
                else None
            )
        )
        result = jobs.run(fill, memory="100MiB", on_progress=take_away)
        assert gone
        assert result.report.outcome is Outcome.BUDGET_KILL
        assert any("could not be read" in line for line in result.report.guard_degraded)
        jobs.check_nothing_left(result)


NO_ROOM = """
import numpy as np
from memguard import MemoryManager
from memguard.host.fence import Fence
Fence({path!r}, {kind!r}, {limit}).enter()
with MemoryManager("400MiB", preload=["numpy"]) as manager:
    report = manager.run(np.ones, 35 << 20, memory="350MiB", check=False).report
    print(report.outcome.value)
    print(report.error)
    print(manager.run(int, "5", memory="100MiB").value)
"""


def test_a_result_that_does_not_fit_is_refused() -> None:
    """Where the machine has no room for a second copy, the job is told, and neither it nor the caller is killed."""
    if not probe().fence:
        pytest.skip(f"no writable memory cgroup: {probe().fence.reason}")
    limit = 480 * MIB
    outer = open_fence("test-room", limit)
    assert outer is not None
    with outer:
        done = run_python(NO_ROOM.format(path=outer.path, kind=outer.kind, limit=limit))
    lines = done.stdout.splitlines()
    assert lines[0] == "memory_error", done.stderr
    assert "write it to a file instead" in lines[1]
    assert lines[2] == "5"


@pytest.mark.requirement("R1.4")
def test_a_thousand_forgotten_files_lose_no_result(jobs: Guarded) -> None:
    """A job that leaves very many files in shared memory still delivers; all are removed, some are named."""
    prefix = f"/dev/shm/memguard-test-{os.getpid()}"

    def litter() -> int:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        litter.kept = [  # type: ignore[attr-defined]
            os.open(f"{prefix}-{number:04}", os.O_RDWR | os.O_CREAT, 0o600) for number in range(1500)
        ]
        return len(litter.kept)  # type: ignore[attr-defined]

    result = jobs.run(litter)
    assert (result.value, result.report.outcome) == (1500, Outcome.COMPLETED)
    assert not list(Path("/dev/shm").glob(f"memguard-test-{os.getpid()}-*"))
    assert result.report.cleanup.leftovers[-1] == "and 1450 more"
    jobs.check_nothing_left(result)
