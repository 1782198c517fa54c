"""A caller that is killed, stuck in its own callback, or forks while jobs run."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memguard import JobResult, MemoryManager, Outcome, current_job
from memguard.host import probe, processes_with_environment
from memguard.host.fence_place import FencePlace, choose_place
from memguard.testing import allocate
from tests.support.guarded import (
    MARK,
    MIB,
    PATIENCE_S,
    Guarded,
    by_value,
    eventually,
    guarded,
    start_python,
    unchanged_caller,
)

by_value(__name__)


@pytest.fixture(scope="module", params=["auto", "none"])
def jobs(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    with guarded("1GiB", fence=request.param, grace="500ms") as manager:
        yield manager


def check_works(jobs: Guarded) -> None:
    assert jobs.value(abs, -4) == 4
    assert eventually(jobs.is_idle), jobs.processes()


CALLER = """
import os, subprocess, sys, time
from memguard import MemoryManager

def job():
    subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60; true"], start_new_session=True)
    with open("/proc/self/cgroup") as file:
        print("job", file.read().replace("\\n", ";"), flush=True)
    time.sleep(60)

{before}
MemoryManager("300MiB").run(job, memory="100MiB")
"""


FORKS_A_CHILD = """
manager = MemoryManager("100MiB")
manager.run(int)
if os.fork() == 0:
    time.sleep(60)
    os._exit(0)
"""


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("fence", ["auto", "none"])
@pytest.mark.parametrize("before", ["", FORKS_A_CHILD], ids=["alone", "with a forked child"])
def test_a_killed_caller_leaves_nothing(fence: str, before: str) -> None:
    """`kill -9` of the caller: job, keeper and template end by themselves, and the fence is removed."""
    mark = f"caller-{time.monotonic_ns()}"
    environment = {**os.environ, MARK: mark, "MEMGUARD_FENCE": fence, "MEMGUARD_GRACE": "200ms"}
    with start_python(CALLER.replace("{before}", before), env=environment) as caller:
        assert caller.stdout is not None
        line = caller.stdout.readline()
        # The forked child is the caller's own: what it keeps open must not keep memguard's processes alive.
        own = {caller.pid} | {
            pid for pid, _ in processes_with_environment(MARK, mark) if parent_of(pid) == caller.pid
        }
        templates = {pid for pid in own if b"memguard.worker.template" in command_of(pid)}
        assert len(templates) == 1 + bool(before)
        caller.kill()
        caller.wait()
        survivors = own - templates - {caller.pid}

        def left() -> set[int]:
            return {pid for pid, _ in processes_with_environment(MARK, mark)} - survivors

        try:
            assert eventually(lambda: not left()), left()
        finally:
            for pid in survivors:
                os.kill(pid, signal.SIGKILL)
    if fence == "auto" and probe().fence:
        assert "memguard-" in line
        place = choose_place()
        assert isinstance(place, FencePlace)
        name = next(part for part in line.replace(";", "/").split("/") if part.startswith("memguard-"))
        assert eventually(lambda: name not in os.listdir(place.directory))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_slow_caller_does_not_blind_the_guard() -> None:
    """While the caller is stuck in its own callback a talkative job is still held to its budget, and to its time."""

    def talk_and_fill() -> None:
        job = current_job()
        assert job is not None
        for number in range(900):
            job.note(f"note {number}", number)
        taken = []
        while True:
            taken.append(allocate(MIB))
            time.sleep(0.001)

    def talk_for_ever() -> None:
        job = current_job()
        assert job is not None
        while True:
            job.progress(0.5)

    with guarded("1GiB", fence="none", grace="200ms") as jobs:
        # On a busy machine it takes the first one more than two seconds to fill its budget.
        for function, outcome, timeout in (
            (talk_and_fill, Outcome.BUDGET_KILL, 60),
            (talk_for_ever, Outcome.TIMEOUT, 2),
        ):
            watcher = StuckCaller(jobs)
            result = jobs.run(function, memory="100MiB", timeout=timeout, on_progress=watcher)
            assert watcher.stuck
            assert result.report.outcome is outcome
            jobs.check_nothing_left(result)


class StuckCaller:
    """A callback that does not return before the job is gone."""

    def __init__(self, jobs: Guarded) -> None:
        self.jobs, self.stuck = jobs, False

    def __call__(self, progress: Any) -> None:
        if not self.stuck:
            self.stuck = True
            # Template, keeper and job, and the two that wait for the next job; then the job is gone, while nobody
            # reads its messages.
            assert eventually(lambda: len(self.jobs.processes()) == 5)
            assert eventually(lambda: len(self.jobs.processes()) == 4), self.jobs.processes()


def test_what_a_job_told_arrives_in_order(jobs: Guarded) -> None:
    """Three thousand notes of a job, ten times what a socket holds, arrive all and in order; so does the value after them."""

    def talk() -> str:
        job = current_job()
        assert job is not None
        for number in range(3000):
            job.phase(f"phase {number}")
        return "value"

    seen: list[str] = []
    result = jobs.run(talk, on_progress=lambda progress: seen.append(progress.phase))
    assert result.value == "value"
    told = list(dict.fromkeys(each for each in seen if each))
    assert told == [f"phase {number}" for number in range(3000)]
    assert len(result.report.phases) <= 500
    assert result.report.phases[-1].name == "phase 2999"


class TestForks:
    """A caller that forks while it has a manager."""

    def test_a_forked_child_runs_jobs_of_its_own(self, jobs: Guarded) -> None:
        """The child starts its own template, and ends it; the parent's goes on."""
        before = jobs.template_pid
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                value = jobs.manager.run(abs, -3, memory="64MiB").value
                other = jobs.template_pid
                jobs.manager.close()
                os.write(writer, f"{value} {other != before}".encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader) as told:
            assert told.read() == "3 True"
        assert os.waitpid(pid, 0)[1] == 0
        assert jobs.template_pid == before
        check_works(jobs)

    def test_a_fork_while_jobs_run_waits_for_nobody(self, jobs: Guarded, tmp_path: Path) -> None:
        """Reservations of the parent's threads, and locks they hold, do not hold up the child."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)

        def hold() -> str:
            with open(pipe) as file:
                return file.read()

        results: list[JobResult] = []
        thread = threading.Thread(target=lambda: results.append(jobs.run(hold, memory="1GiB")))
        thread.start()
        end = os.open(pipe, os.O_WRONLY)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(int(PATIENCE_S))
                with jobs.manager.managed_processing("block", memory="1GiB"):
                    status = int(jobs.manager.allocator.free_bytes != 0)
                jobs.manager.close()
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        os.write(end, b"told")
        os.close(end)
        thread.join()
        assert results[0].value == "told"
        check_works(jobs)

    def test_a_forked_pool_in_the_caller(self, jobs: Guarded) -> None:
        """Workers of a multiprocessing pool, forked with the manager open, end without touching it."""
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
            kept = jobs.value(np.ones, 100_000)
        assert kept.sum() == 100_000
        check_works(jobs)

    def test_a_forked_child_does_not_hold_up_the_close(self) -> None:
        """A child that lives on keeps copies of the manager's sockets; closing the manager ends its template."""
        with unchanged_caller():
            manager = MemoryManager("100MiB")
            manager.run(int)
            template = manager._pool._current
            assert template is not None
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(writer)
                os.read(reader, 1)
                os._exit(0)
            pidfd = os.pidfd_open(template.pid)
            manager.close()
            # Still to be waited for by nobody: it is reaped, and was not killed.
            assert template._process.returncode == 0
            select.select([pidfd], [], [])
            for each in (pidfd, reader, writer):
                os.close(each)
            assert os.waitpid(pid, 0)[1] == 0
