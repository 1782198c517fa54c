"""A forked copy of a caller: what it starts is its own to end, and what its parent runs is none of its business."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard import current_job
from memguard.errors import WorkerStartError
from tests.support.forks import FORKS_BESIDE_THREADS, held_by_another, in_child
from tests.support.guarded import MARK, Guarded, by_value, eventually, guarded

by_value(__name__)
pytestmark = FORKS_BESIDE_THREADS


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("1GiB", grace="500ms") as manager:
        yield manager


def until_told() -> str:
    """Stay until it is told to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    job = current_job()
    assert job is not None
    job.phase("ready")
    signal.sigwait({signal.SIGUSR1})
    return "told"


class Told:
    """A job of the parent's that runs beside what a test does."""

    def __init__(self, jobs: Guarded, when_ready: Callable[[], Any] = bool) -> None:
        self.ready = threading.Event()
        self.values: list[Any] = []
        self.pids: list[int] = []
        jobs.events.clear()

        def hear(progress: Any) -> None:
            if progress.phase == "ready" and not self.ready.is_set():
                when_ready()
                self.ready.set()

        self.thread = threading.Thread(
            target=lambda: self.values.append(jobs.run(until_told, on_progress=hear).value)
        )
        self.thread.start()
        assert self.ready.wait(30)
        self.pid = next(each.fields["pid"] for each in jobs.events if each.name == "memguard.job_started")

    def finish(self) -> None:
        """Let it end, and hold that nobody else did."""
        os.kill(self.pid, signal.SIGUSR1)
        self.thread.join()
        assert self.values == ["told"]


def closes_what_it_started(jobs: Guarded) -> bool:
    os.environ[MARK] = jobs.mark = jobs.mark + "-child"
    jobs.value(int)
    had = len(jobs.processes())
    jobs.manager.close()
    gone = eventually(lambda: not jobs.processes(), patience_s=10)
    try:
        jobs.value(int)
    except WorkerStartError:
        return bool(had and gone and jobs.manager.is_closed)
    return False


def test_a_copy_closes_what_it_started(jobs: Guarded) -> None:
    """Closing in the child ends its template, and refuses further jobs; the parent's job and manager go on."""
    told = Told(jobs)
    mark = jobs.mark
    assert in_child(lambda: closes_what_it_started(jobs))
    assert jobs.mark == mark
    told.finish()
    assert jobs.value(int) == 0


def test_a_copy_that_closes_at_once_has_nothing_to_end(jobs: Guarded) -> None:
    """A child that only closes touches no job of its parent's, whatever of it the child inherited."""
    told = Told(jobs)

    def child() -> bool:
        jobs.manager.close()
        return jobs.manager.is_closed

    assert in_child(child)
    told.finish()


def test_a_copy_made_while_the_parent_waits_does_not_wait(jobs: Guarded) -> None:
    """A child that is forked by a callback of a run, and unwinds or goes on through it, leaves the job alone."""
    ended: list[int] = []

    def fork_twice() -> None:
        for leave in (True, False):
            pid = os.fork()
            if pid == 0:
                signal.alarm(30)
                if leave:
                    raise SystemExit(7)
                return
            ended.append(pid)

    parent = os.getpid()

    def body() -> None:
        try:
            jobs.manager.run(until_told, memory="100MiB", on_progress=hear)
        finally:
            if os.getpid() != parent:
                os._exit(5)

    told: list[int] = []

    def hear(progress: Any) -> None:
        if progress.phase == "ready" and not told:
            told.append(0)
            fork_twice()
            if os.getpid() == parent:
                statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ended]
                assert statuses == [5, 5]
                pid = next(e.fields["pid"] for e in jobs.events if e.name == "memguard.job_started")
                os.kill(pid, signal.SIGUSR1)

    jobs.events.clear()
    body()


@pytest.mark.parametrize("name", ["_stops", "_pool"])
def test_a_lock_that_another_thread_held_locks_no_child(jobs: Guarded, name: str) -> None:
    """A child forked while a thread of its parent is in the midst of something runs its own jobs all the same."""
    with held_by_another(getattr(jobs.manager, name)._lock):
        assert in_child(lambda: jobs.manager.run(int, memory="100MiB").value == 0)
    assert eventually(jobs.is_idle)
