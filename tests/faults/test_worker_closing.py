"""Closing at any moment and from anywhere: no start, no job and no process goes on, and nobody waits in vain."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from memguard import JobResult, Outcome, current_job
from memguard.errors import WorkerStartError
from memguard.worker import templates
from memguard.worker.templates import TemplatePool
from tests.support.guarded import Guarded, by_value, descriptors, eventually, guarded, unchanged_caller

by_value(__name__)

GRACE_S = 0.3
# Once it is imported it tells so, and stays in its import until it is told how to end.
SLOW_MODULE = """
import os
with open(__file__ + ".starts", "a") as file:
    print(os.getpid(), file=file)
with open(__file__ + ".gate") as gate:
    if gate.read() == "die":
        os._exit(3)
"""


class SlowImport:
    """A module whose import takes until the gate is opened."""

    name = "memguard_test_slow"

    def __init__(self, folder: Path) -> None:
        self.file = folder / f"{self.name}.py"
        self.file.write_text(SLOW_MODULE)
        self.gate = Path(f"{self.file}.gate")
        os.mkfifo(self.gate)

    def starts(self) -> list[int]:
        """Return the templates that import it."""
        with suppress(FileNotFoundError):
            return [int(line) for line in Path(f"{self.file}.starts").read_text().splitlines()]
        return []

    def end(self, how: str = "go on") -> None:
        """Let the import end."""
        with open(self.gate, "w") as gate:  # opens when the import does
            gate.write(how)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowImport:
    monkeypatch.syspath_prepend(tmp_path)
    return SlowImport(tmp_path)


@pytest.fixture
def pool() -> Iterator[TemplatePool]:
    with unchanged_caller():
        pool = TemplatePool()
        yield pool
        pool.close()


def start(pool: TemplatePool, slow: SlowImport) -> Any:
    """Ask for a template; returns it, or what was raised instead."""
    try:
        return pool.template_for(frozenset({slow.name}))
    except WorkerStartError as error:
        return str(error)


class Asking:
    """Threads that ask for a template."""

    def __init__(self, pool: TemplatePool, slow: SlowImport, count: int) -> None:
        self.answers: list[Any] = []
        self.threads = [
            threading.Thread(target=lambda: self.answers.append(start(pool, slow))) for _ in range(count)
        ]
        for thread in self.threads:
            thread.start()
        assert eventually(slow.starts)

    def join(self) -> list[Any]:
        for thread in self.threads:
            thread.join()
        return self.answers


def check_gone(pids: list[int]) -> None:
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows whenever a thread begins to wait for another one's start."""
    seen: list[None] = []
    wait = templates._Start.wait

    def counted(self: Any) -> None:
        seen.append(None)
        wait(self)

    monkeypatch.setattr(templates._Start, "wait", counted)
    return seen


def test_threads_that_ask_at_once_share_a_template(
    pool: TemplatePool, slow: SlowImport, waits: list[None]
) -> None:
    """Four threads ask while there is none: one is started, all get it."""
    asking = Asking(pool, slow, 4)
    assert eventually(lambda: len(waits) == 3)
    slow.end()
    answers = asking.join()
    assert len(slow.starts()) == 1
    assert [each.pid for each in answers] == slow.starts() * 4


def test_a_start_that_fails_fails_for_all_who_wait(
    pool: TemplatePool, slow: SlowImport, waits: list[None]
) -> None:
    """A template that dies over its imports is not started again by each thread that waited for it."""
    asking = Asking(pool, slow, 3)
    assert eventually(lambda: len(waits) == 2)
    slow.end("die")
    answers = asking.join()
    assert len(slow.starts()) == 1
    assert all("died with status 3 while importing" in each for each in answers)


def test_a_template_serves_until_the_next_one_can(pool: TemplatePool, slow: SlowImport) -> None:
    """While a template with more imports starts, jobs that need less go to the old one; a failed start costs nothing."""
    first = pool.template_for(frozenset())
    asking = Asking(pool, slow, 1)
    assert pool.template_for(frozenset()) is first
    slow.end("die")
    asking.join()
    assert pool.template_for(frozenset()) is first


@pytest.mark.parametrize("others", [0, 2])
def test_closing_ends_a_start(pool: TemplatePool, slow: SlowImport, waits: list[None], others: int) -> None:
    """Another thread closes while a template starts: it is killed, and who asked is told that all is closed."""
    asking = Asking(pool, slow, 1 + others)
    assert eventually(lambda: len(waits) == others)
    pool.close()
    assert asking.join() == ["the manager is closed"] * (1 + others)
    check_gone(slow.starts())
    assert start(pool, slow) == "the manager is closed"


def test_a_signal_handler_closes_during_a_start(pool: TemplatePool, slow: SlowImport) -> None:
    """A handler in the very thread that starts a template closes the pool, and its return is not waited for in vain."""
    seen: list[Any] = []

    def handle(*_: object) -> None:
        seen.append(start(pool, slow))
        pool.close()

    answers = with_handler(handle, lambda: start(pool, slow), slow.starts)
    assert "this thread is starting a worker already" in seen[0]
    assert answers == "the manager is closed"
    check_gone(slow.starts())


def test_a_signal_handler_closes_while_another_thread_starts(pool: TemplatePool, slow: SlowImport) -> None:
    """A handler closes the pool while its thread waits for another thread's start."""
    asking = Asking(pool, slow, 1)
    answer = with_handler(lambda *_: pool.close(), lambda: start(pool, slow), lambda: True)
    assert answer == "the manager is closed"
    assert asking.join() == ["the manager is closed"]


def with_handler(handle: Callable[..., None], work: Callable[[], Any], ready: Callable[[], Any]) -> Any:
    """Do some work in the main thread, and interrupt it with a signal once it is ready for that."""
    me = threading.main_thread().ident
    assert me is not None
    former = signal.signal(signal.SIGUSR1, handle)

    def interrupt() -> None:
        eventually(ready)
        signal.pthread_kill(me, signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        return work()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, former)


def obedient() -> None:
    job = current_job()
    assert job is not None
    job.phase("ready")
    time.sleep(60)


def stubborn() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    obedient()


def leaves_a_child() -> None:
    subprocess.Popen(
        ["sh", "-c", "trap '' TERM INT; echo > /dev/null; sleep 60; true"], start_new_session=True
    )
    obedient()


class Running:
    """A job that runs in a thread of its own."""

    def __init__(self, jobs: Guarded, function: Callable[[], None]) -> None:
        self.ready = threading.Event()
        self.results: list[JobResult] = []

        def hear(progress: Any) -> None:
            if progress.phase == "ready":
                self.ready.set()

        self.thread = threading.Thread(
            target=lambda: self.results.append(jobs.run(function, on_progress=hear))
        )
        self.thread.start()
        assert self.ready.wait(30)

    def result(self) -> JobResult:
        self.thread.join()
        return self.results[0]


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("fence", ["auto", "none"])
@pytest.mark.parametrize("function", [obedient, stubborn, leaves_a_child], ids=lambda each: each.__name__)
def test_no_job_outlives_the_close(fence: str, function: Callable[[], None]) -> None:
    """Whatever a running job does about it, its whole tree is gone a grace after the close, which waits for that."""
    with guarded(fence=fence, grace=f"{GRACE_S}s") as jobs:
        running = Running(jobs, function)
        began_s = time.monotonic()
        jobs.manager._pool.close()
        assert time.monotonic() - began_s < GRACE_S + 1
        assert not jobs.processes()
        report = running.result().report
        assert (report.outcome, report.cleanup.verified) == (Outcome.INTERRUPTED, True)


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda each: each.name)
def test_a_close_needs_no_template(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template was killed, or hangs: the jobs it started end with the close all the same."""
    monkeypatch.setattr(templates, "_CLOSE_WAIT_S", GRACE_S + 0.5)
    with guarded(grace=f"{GRACE_S}s") as jobs:
        running = Running(jobs, stubborn)
        os.kill(jobs.template_pid, number)
        began_s = time.monotonic()
        jobs.manager._pool.close()
        assert running.result().report.outcome is Outcome.INTERRUPTED
        assert time.monotonic() - began_s < GRACE_S + 1.5
        assert eventually(lambda: not jobs.processes())


def test_a_job_of_a_replaced_template_ends_with_the_close(slow: SlowImport) -> None:
    """A job that runs under a template which another one has replaced is not forgotten."""
    with guarded(grace=f"{GRACE_S}s") as jobs:
        running = Running(jobs, obedient)
        first = jobs.template_pid
        asking = Asking(jobs.manager._pool, slow, 1)
        slow.end()
        assert asking.join()[0].pid != first
        before = descriptors()
        jobs.manager._pool.close()
        assert running.result().report.outcome is Outcome.INTERRUPTED
        assert not jobs.processes()
        assert len(descriptors()) < len(before)


def test_a_second_close_finishes_what_ctrl_c_kept_the_first_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a close waits for a job's grace: whoever closes again leaves no process and no descriptor."""
    interrupts: list[BaseException] = [KeyboardInterrupt()]
    wait = templates.Template._end_within

    def interrupted_once(self: Any, wait_s: float) -> int | None:
        if interrupts:
            raise interrupts.pop()
        return wait(self, wait_s)

    with unchanged_caller(), guarded(grace=f"{GRACE_S}s") as jobs:
        running = Running(jobs, stubborn)
        template = jobs.template_pid
        monkeypatch.setattr(templates.Template, "_end_within", interrupted_once)
        with pytest.raises(KeyboardInterrupt):
            jobs.manager.close()
        assert jobs.manager.is_closed
        jobs.manager.close()
        check_gone([template])
        assert not jobs.processes()
        assert running.result().report.outcome is Outcome.INTERRUPTED
