"""How jobs end: each way is told, and leaves nothing."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard import (
    JobCrashed,
    JobError,
    JobInterrupted,
    JobTimeout,
    MemoryLimitExceeded,
    Outcome,
)
from memguard.host import open_fence, probe
from memguard.testing import allocate
from tests.support.guarded import (
    MIB,
    PATIENCE_S,
    Guarded,
    by_value,
    error_of,
    guarded,
    start_python,
    unchanged_caller,
)

by_value(__name__)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("1GiB", grace="1s") as manager:
        yield manager


def fill() -> None:
    taken = []
    while True:
        taken.append(allocate(MIB))


def raise_deep() -> None:
    def inner() -> None:
        raise KeyError("the very thing")

    inner()


def raise_with_threads() -> None:
    threading.Thread(target=time.sleep, args=(0.01,)).start()
    raise ValueError("beside a thread")


def kill_me(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def sleep_on() -> None:
    subprocess.Popen(["sleep", "60"])
    time.sleep(60)


def refuse() -> None:
    raise MemoryError("no room for 3 matrices")


def really_refused() -> int:
    return len(bytearray(1 << 46))


@pytest.mark.requirement("R1.4", "R2.3", "R5.4")
@pytest.mark.parametrize(
    ("job", "outcome", "error"),
    [
        ((int, ("7",), {}), Outcome.COMPLETED, None),
        ((raise_deep, (), {}), Outcome.RAISED, KeyError),
        ((raise_with_threads, (), {}), Outcome.RAISED, ValueError),
        ((refuse, (), {}), Outcome.MEMORY_ERROR, MemoryLimitExceeded),
        ((really_refused, (), {}), Outcome.MEMORY_ERROR, MemoryLimitExceeded),
        ((fill, (), {"memory": "64MiB"}), Outcome.BUDGET_KILL, MemoryLimitExceeded),
        ((ctypes.string_at, (0,), {}), Outcome.SIGNAL, JobCrashed),
        ((kill_me, (signal.SIGKILL,), {}), Outcome.SIGNAL, JobCrashed),
        ((kill_me, (signal.SIGTERM,), {}), Outcome.SIGNAL, JobCrashed),
        ((kill_me, (signal.SIGINT,), {}), Outcome.INTERRUPTED, JobInterrupted),
        ((sleep_on, (), {"timeout": 0.3}), Outcome.TIMEOUT, JobTimeout),
        ((sys.exit, (3,), {}), Outcome.RAISED, JobError),
        ((sys.exit, (0,), {}), Outcome.RAISED, JobError),
        ((os._exit, (4,), {}), Outcome.RAISED, JobError),
        ((os._exit, (0,), {}), Outcome.RAISED, JobError),
        ((os.abort, (), {}), Outcome.SIGNAL, JobCrashed),
    ],
)
def test_an_ending_is_told_and_leaves_nothing(
    jobs: Guarded,
    job: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
    outcome: Outcome,
    error: type[BaseException] | None,
) -> None:
    """However a job ends, its report names it, its error is the right one, and caller and machine are as before."""
    function, arguments, options = job
    with unchanged_caller():
        result = jobs.run(function, *arguments, **options)
    assert result.report.outcome is outcome
    assert result.report.evidence[0].source == "exit status"
    jobs.check_nothing_left(result)
    if error is None:
        result.raise_for_outcome()
        return
    raised = error_of(result)
    assert type(raised) is error
    if isinstance(raised, JobError) and outcome is not Outcome.RAISED:
        assert raised.report == result.report
        assert result.report.death is not None
        assert result.report.name in str(raised)


def test_an_error_carries_the_remote_traceback(jobs: Guarded) -> None:
    """What a job raised arrives with the text that names the user's own lines, and none of memguard's."""
    error = jobs.run(raise_deep).error
    assert isinstance(error, KeyError)
    text = str(error.__cause__)
    assert 'raise KeyError("the very thing")' in text
    assert "in raise_deep" in text
    assert "jobmain" not in text
    assert error.args == ("the very thing",)


def test_a_chain_of_errors_is_in_the_text(jobs: Guarded) -> None:
    """The cause of an error, in the job, is told too."""

    def chained() -> None:
        try:
            raise_deep()
        except KeyError as error:
            raise RuntimeError("outer") from error

    result = jobs.run(chained)
    assert "the very thing" in str(result.error.__cause__)
    assert result.report.error == "RuntimeError: outer"


def test_an_exit_status_without_a_value_is_no_success(jobs: Guarded) -> None:
    """A function that ends its process never returned, whatever the status: that is told, not a value of None."""
    result = jobs.run(os._exit, 0)
    assert result.report.error == "the job ended its process with exit status 0 before it returned"
    with pytest.raises(JobError, match="exit status 0 before it returned"):
        result.raise_for_outcome()


def test_a_kill_is_told_from_a_kill_by_the_kernel(jobs: Guarded) -> None:
    """SIGKILL from elsewhere is a signal; the fence's counters say that no limit was hit."""
    report = jobs.run(kill_me, signal.SIGKILL).report
    assert (report.outcome, report.signal) == (Outcome.SIGNAL, "SIGKILL")
    assert report.recommendations == (
        "somebody else sent it: a scheduler, a person, another program; look there for why",
    )
    assert report.death is not None
    assert report.death.why_now.startswith("it died of SIGKILL after ")
    assert report.death.why_now.endswith("memguard did not send it")


@pytest.mark.requirement("R2.1")
def test_a_budget_kill_has_the_kernels_evidence(jobs: Guarded) -> None:
    """Behind a cgroup the evidence of a budget kill is the kernel's own count."""
    if not probe().fence:
        pytest.skip(f"no writable memory cgroup: {probe().fence.reason}")
    report = jobs.run(fill, memory="64MiB").report
    facts = {each.source: each.fact for each in report.evidence}
    assert "processes killed by the kernel: 1" in facts[report.budget.fence]
    assert report.kernel_peak_bytes == pytest.approx(64 * MIB, rel=0.02)
    assert report.recommendations[0] == 'needs more than 64 MiB: run with memory="96MiB"'


def test_rlimit_makes_an_allocation_fail() -> None:
    """Behind RLIMIT_DATA one huge allocation fails inside the job, as MemoryError, before any page is touched."""

    def grab() -> int:
        return len(bytearray(3 << 30))

    with guarded("1GiB", fence="rlimit") as jobs:
        result = jobs.run(grab, memory="64MiB")
        assert result.report.outcome is Outcome.MEMORY_ERROR
        assert result.report.peak_bytes < 64 * MIB
        jobs.check_nothing_left(result)


def test_a_job_may_answer_a_timeout(jobs: Guarded) -> None:
    """SIGTERM comes first: a job that handles it ends in its own way, and is a timeout all the same."""

    def tidy() -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("tidied"))
        time.sleep(60)

    started_s = time.monotonic()
    result = jobs.run(tidy, timeout=0.3)
    assert result.report.outcome is Outcome.TIMEOUT
    assert result.report.signal is None
    assert time.monotonic() - started_s < PATIENCE_S


def test_a_job_that_answers_a_timeout_with_a_value_has_one(jobs: Guarded) -> None:
    """The best that was found in time is kept beside the outcome, which is no success; the words say where it is."""

    def search() -> str:
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        stopped.wait(60)
        return "best so far"

    result = jobs.run(search, timeout=0.3)
    assert (result.report.outcome, result.value) == (Outcome.TIMEOUT, "best so far")
    with pytest.raises(JobTimeout, match=r"what it returned when it was asked to stop; .* `result.value`"):
        result.raise_for_outcome()
    jobs.check_nothing_left(result)


def test_a_job_waits_for_its_threads_and_exit_handlers(jobs: Guarded) -> None:
    """Threads that still run and atexit handlers finish before the process ends, as in any interpreter."""
    reader, writer = os.pipe()

    def leave(path: str) -> str:
        out = os.open(path, os.O_WRONLY)
        atexit.register(os.write, out, b"handler ")
        threading.Timer(0.1, os.write, (out, b"thread ")).start()
        return "value"

    try:
        result = jobs.run(leave, f"/proc/{os.getpid()}/fd/{writer}")
        assert os.read(reader, 100) == b"thread handler "
    finally:
        os.close(reader)
        os.close(writer)
    assert result.value == "value"


def test_a_crash_after_the_value_loses_nothing(jobs: Guarded) -> None:
    """What was handed over counts, even if an exit handler of the job then crashes."""

    def leave() -> str:
        atexit.register(ctypes.string_at, 0)
        return "value"

    result = jobs.run(leave)
    assert (result.value, result.report.outcome, result.report.signal) == (
        "value",
        Outcome.COMPLETED,
        "SIGSEGV",
    )


CTRL_C = """
import os, signal, sys, time
from memguard import MemoryManager, Outcome
from memguard.host import identify

def job(stubborn):
    if stubborn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    time.sleep(60)

def note(event):
    if event.name == "memguard.reservation_released":
        print("released", flush=True)

with MemoryManager("300MiB") as manager:
    manager.events.subscribe(note)
    try:
        manager.run(job, {stubborn}, memory="100MiB")
    except KeyboardInterrupt as error:
        report = manager.reports[-1]
        print(report.outcome.value, report.cleanup.verified, *error.__notes__, flush=True)
    print(manager.run(int, "5", memory="100MiB").value, flush=True)
"""


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("stubborn", [False, True])
def test_ctrl_c_ends_the_job_before_it_is_raised(stubborn: bool) -> None:
    """SIGINT at the caller: the job is gone and reported, then KeyboardInterrupt comes; the manager goes on."""
    settings = {**os.environ, "MEMGUARD_GRACE": "300ms"}
    with start_python(CTRL_C.replace("{stubborn}", str(stubborn)), env=settings) as caller:
        assert caller.stdout is not None
        pid = int(caller.stdout.readline())
        caller.send_signal(signal.SIGINT)
        out, err = caller.communicate(timeout=PATIENCE_S)
    lines = out.splitlines()
    assert lines[0] == "released"
    assert lines[1] == "interrupted True memguard: job job was stopped and cleaned up"
    assert lines[-1] == "5"
    assert (caller.returncode, err) == (0, "")
    assert not os.path.exists(f"/proc/{pid}")


OUTER = """
import os, sys
from memguard import MemoryManager
from memguard.host.fence import Fence
from memguard.testing import allocate

fence = Fence({path!r}, {kind!r}, {limit})
fence.enter()
fence.close()
mine = allocate(100 << 20)

def fill():
    taken = []
    while True:
        taken.append(allocate(1 << 20))

with MemoryManager("290MiB") as manager:
    report = manager.run(fill, memory="290MiB", check=False).report
    print(report.outcome.value, report.signal, report.cleanup.verified)
    print(report.death.why_this_one)
    print(*report.recommendations, sep="|")
    print(manager.run(int, "5", memory="100MiB").value, len(mine))
"""


@pytest.mark.requirement("R2.1", "R2.4")
def test_a_limit_above_the_budget_kills_the_job_and_not_the_caller() -> None:
    """In a container that is full before the job's budget is, the kernel picks the job: ``kernel_oom``, by name."""
    if not probe().fence:
        pytest.skip(f"no writable memory cgroup: {probe().fence.reason}")
    limit = 320 * MIB
    outer = open_fence("test-outer", limit)
    assert outer is not None
    with outer:
        # Without the ledger: with it the job would wait until more is free.
        settings = {**os.environ, "MEMGUARD_LEDGER": "off"}
        program = OUTER.format(path=outer.path, kind=outer.kind, limit=limit)
        with start_python(program, env=settings) as caller:
            out, err = caller.communicate(timeout=PATIENCE_S)
        assert caller.returncode == 0, err
        lines = out.splitlines()
        assert lines[0] == "kernel_oom SIGKILL True"
        assert "guarded jobs are marked to be chosen before anything else" in lines[1]
        assert "memguard status" in lines[2]
        assert lines[3] == f"5 {100 * MIB}"
