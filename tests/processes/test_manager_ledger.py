"""Jobs and blocks of managers share the machine's ledger: they wait in turn, tell what they use, do what is asked."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memguard import MemoryLimitExceeded, MemoryManager, Outcome, current_job
from memguard.config import load_settings
from memguard.errors import ReservationTimeout
from memguard.ledger.board import Ask
from memguard.ledger.book import LedgerBook
from memguard.ledger.place import ledger_folder
from memguard.ledger.records import LEASE_VARIABLE, Action, Lease
from memguard.ledger.room import room_for
from tests.support.guarded import MIB, Guarded, by_value, check_report, eventually

by_value(__name__)

HOLDS = """
import sys
from memguard import MemoryManager
with MemoryManager("800MiB") as manager, manager.managed_processing("theirs", memory=sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


class Here:
    """A machine of 1 GiB, of which 921 MiB are for jobs, with a manager and a second look at its ledger."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = ledger_folder(folder)
        values = {"capacity": "1GiB", "runtime_dir": str(self.folder), **more}
        self.settings = load_settings(values)
        self.guarded = Guarded("800MiB", **values)
        self.manager: MemoryManager = self.guarded.manager
        self.book = LedgerBook(self.folder, lambda: room_for(self.settings))

    def lease(self, name: str) -> Lease | None:
        return next((each for each in self.book.leases() if each.name == name), None)

    def ask(self, name: str, what: Ask) -> None:
        """Ask something of a job as the sentinel does."""
        lease = eventually(lambda: self.lease(name))
        assert lease is not None
        if what is Ask.KILL:
            why = "it uses 90 MiB beyond the 10 MiB reserved; nobody else does"
            self.book.note_action(Action(lease.lease_id, name, what.name.lower(), why, 1, 1, None, 0.0, 0.0))
        assert self.book.ask_of(lease, what)

    def other(self, memory: str) -> subprocess.Popen[str]:
        """Start another process that holds so much for a block of its own."""
        environment = {**os.environ, "MEMGUARD_CAPACITY": "1GiB", "MEMGUARD_RUNTIME_DIR": str(self.folder)}
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, memory], env=environment, stdin=-1, stdout=-1, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    def told(self, name: str) -> list[Any]:
        return [event for event in self.guarded.events if event.name == name]

    def close(self) -> None:
        self.manager.close()
        assert self.book.leases() == ()
        self.book.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    made = Here(tmp_path / "ledger")
    yield made
    made.close()


@pytest.fixture
def played(here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:
    """The same, where no sentinel is started: the test asks in its place. A part of a job never starts one."""
    monkeypatch.setenv(LEASE_VARIABLE, "one that has ended")
    return here


def finish(process: subprocess.Popen[str]) -> None:
    """End another process, which gives back what it holds."""
    process.communicate()
    assert process.returncode == 0


def hold(mib: int, path: str) -> int:
    """Hold so much until a file appears."""
    held = bytearray(mib * MIB)
    while not os.path.exists(path):
        time.sleep(0.01)
    return len(held)


@pytest.mark.requirement("R2.4", "T1.2", "T7.3")
def test_a_job_waits_for_what_another_process_holds(here: Here) -> None:
    """A job of this process begins when the block of another one has ended, and says whom it waited for."""
    other = here.other("600MiB")
    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.append(here.guarded.run(os.getpid, memory="500MiB")))
    waiting.start()
    (told,) = eventually(lambda: here.told("memguard.reservation_waited"))
    assert f"held by theirs (pid {other.pid}): 600 MiB" in told.fields["holders"]
    assert here.told("memguard.job_started") == []
    finish(other)
    waiting.join()
    assert results[0].report.outcome is Outcome.COMPLETED


def test_who_waits_too_long_is_told_who_holds_it(tmp_path: Path) -> None:
    """With the setting wait the reservation ends as a TimeoutError that names the holder; closing ends it too."""
    here = Here(tmp_path / "ledger", wait="0s")
    other = here.other("600MiB")
    with pytest.raises(ReservationTimeout, match=f"theirs \\(pid {other.pid}\\): 600 MiB"):
        here.manager.run(os.getpid, memory="500MiB")
    finish(other)
    here.close()


def test_a_job_inside_a_block_never_waits(here: Here) -> None:
    """Who holds memory takes what is free at once: two processes can so never wait for each other."""
    other = here.other("500MiB")
    with here.manager.managed_processing("mine", memory="300MiB"):
        result = here.guarded.run(os.getpid, memory="400MiB", name="inside")
    assert result.report.outcome is Outcome.COMPLETED
    assert here.told("memguard.reservation_waited") == []
    granted = [event.fields["reserved_bytes"] // MIB for event in here.told("memguard.reservation_granted")]
    assert granted[0] == 300
    assert granted[1] <= 121
    finish(other)


@pytest.mark.requirement("R5.1", "R2.4")
def test_the_board_shows_what_a_job_uses(here: Here, tmp_path: Path) -> None:
    """The guard of a job tells its tree, its bound and its use; the lease ends with the job."""
    stop = tmp_path / "stop"
    running = threading.Thread(target=lambda: here.guarded.run(hold, 100, str(stop), name="held"))
    running.start()
    lease = eventually(lambda: here.lease("held"))
    entry = eventually(lambda: (seen := here.book.entry(lease)).used_bytes > 100 * MIB and seen)
    assert (entry.limit_bytes, lease.reserved_bytes) == (200 * MIB, 200 * MIB)
    assert entry.root_pid in here.guarded.processes()
    assert entry.peak_bytes >= entry.used_bytes
    stop.touch()
    running.join()
    assert here.lease("held") is None


@pytest.mark.requirement("R6.2", "R6.4")
def test_a_job_that_is_chosen_to_end_says_why_it(played: Here, tmp_path: Path) -> None:
    """Ended for the machine's sake: MemoryLimitExceeded, whose report tells why this job and not another."""
    results: list[Any] = []
    running = threading.Thread(
        target=lambda: results.append(played.guarded.run(hold, 20, str(tmp_path / "never"), name="chosen"))
    )
    running.start()
    eventually(lambda: (lease := played.lease("chosen")) and played.book.entry(lease).used_bytes > 20 * MIB)
    played.ask("chosen", Ask.KILL)
    running.join()
    report = results[0].report
    assert (report.outcome, report.reason) == (Outcome.BUDGET_KILL, "machine_pressure")
    assert report.pressure == report.death.why_this_one
    assert "beyond the 10 MiB reserved" in report.pressure
    assert report.death.where.endswith("memguard runbook MachineShortOfMemory")
    assert any("run with memory=" in each for each in report.recommendations)
    with pytest.raises(MemoryLimitExceeded, match="the machine's memory ran short"):
        results[0].raise_for_outcome()


@pytest.mark.requirement("R6.2")
def test_a_job_that_is_made_to_wait_has_that_in_its_report(played: Here, tmp_path: Path) -> None:
    """A throttle is counted, timed, told as events and as a warning."""
    stop, results = tmp_path / "stop", list[Any]()
    running = threading.Thread(
        target=lambda: results.append(played.guarded.run(hold, 1, str(stop), name="slow"))
    )
    running.start()
    played.ask("slow", Ask.FROZEN)
    assert eventually(lambda: played.told("memguard.job_throttled"))
    played.ask("slow", Ask.NOTHING)
    assert eventually(lambda: played.told("memguard.job_released"))
    stop.touch()
    running.join()
    report = results[0].report
    assert (report.outcome, report.throttles) == (Outcome.COMPLETED, 1)
    assert 0 < report.throttled_s < report.duration_s
    assert "made to wait" in report.warnings[0].text


def test_time_in_which_a_job_is_made_to_wait_is_not_its_own(played: Here, tmp_path: Path) -> None:
    """A job with a second to run, stopped for longer than that, is not stopped for its time."""
    stop, results = tmp_path / "stop", list[Any]()
    running = threading.Thread(
        target=lambda: results.append(played.guarded.run(hold, 1, str(stop), name="slow", timeout=1.0))
    )
    running.start()
    played.ask("slow", Ask.FROZEN)
    assert eventually(lambda: played.told("memguard.job_throttled"))
    began_s = time.monotonic()
    assert eventually(lambda: time.monotonic() - began_s > 1.2)
    stop.touch()
    played.ask("slow", Ask.NOTHING)
    running.join()
    assert results[0].report.outcome is Outcome.COMPLETED


@pytest.mark.requirement("R6.2", "R3.1")
def test_a_block_waits_at_its_checkpoints_while_it_is_throttled(played: Here) -> None:
    """Cooperative work stands still at the next checkpoint, and goes on when it is released."""
    passed: list[int] = []
    with played.manager.managed_processing("mine", memory="100MiB") as job:
        played.ask("mine", Ask.WAIT)

        def release() -> None:
            assert eventually(lambda: played.told("memguard.job_throttled"))
            passed.append(len(passed))
            played.ask("mine", Ask.NOTHING)

        releasing = threading.Thread(target=release)
        releasing.start()
        rows = []
        for batch in job.batches(list(range(100))):
            assert passed
            rows.extend(batch)
        releasing.join()
    assert rows == list(range(100))
    assert job.report is not None
    assert job.report.throttles == 1
    check_report(job.report)


def test_a_coroutine_waits_at_its_checkpoints_and_its_loop_goes_on(played: Here) -> None:
    """`acheckpoint` stands still while the job is throttled; it is another task of the same loop that releases it."""

    async def work() -> None:
        async with played.manager.managed_processing("mine", memory="100MiB") as job:
            played.ask("mine", Ask.WAIT)
            waiting = asyncio.create_task(job.acheckpoint())
            while not played.told("memguard.job_throttled"):
                await asyncio.sleep(0)
            assert not waiting.done()
            played.ask("mine", Ask.NOTHING)
            await waiting
            played.ask("mine", Ask.KILL)
            with pytest.raises(MemoryLimitExceeded, match="was chosen to end"):
                await job.acheckpoint()

    asyncio.run(work())
    assert played.told("memguard.job_released")


@pytest.mark.requirement("R6.2", "R6.4")
def test_a_block_that_is_chosen_ends_at_its_next_checkpoint(played: Here) -> None:
    """It gets MemoryLimitExceeded with the report that says why; what else is asked it can see before."""
    with (
        pytest.raises(MemoryLimitExceeded, match="nobody else does") as caught,
        played.manager.managed_processing("mine", memory="100MiB") as job,
    ):
        job.checkpoint()
        played.ask("mine", Ask.LIGHT)
        assert (job.asked.light, job.asked.stop) == (True, False)
        played.ask("mine", Ask.STOP)
        assert (job.asked.light, job.asked.stop) == (True, True)
        job.checkpoint()
        played.ask("mine", Ask.KILL)
        job.checkpoint()
    report = caught.value.report
    assert (report.outcome, report.reason) == (Outcome.BUDGET_SOFT_STOP, "machine_pressure")
    check_report(report)


class Pool:
    """Something that can give memory back."""

    name = "pool"

    def __init__(self) -> None:
        self.held_bytes = 10 * MIB
        self.asked: list[int] = []

    def shed(self, wanted_bytes: int) -> int:
        self.asked.append(wanted_bytes)
        given, self.held_bytes = self.held_bytes, 0
        return given


@pytest.mark.requirement("R7.4", "R6.2")
def test_pools_are_asked_to_give_back(played: Here) -> None:
    """Where that is asked of a block, the pools of its process give back, once each time, without a checkpoint."""
    from memguard import register_sheddable

    pool = Pool()
    forget = register_sheddable(pool)
    with played.manager.managed_processing("mine", memory="100MiB") as job:
        played.ask("mine", Ask.SHED)
        assert eventually(lambda: pool.asked)
        job.checkpoint()
        assert len(pool.asked) == 1
    forget()


def nested(memory: str) -> tuple[str, list[str], int]:
    """Run a job inside a job."""
    mine = current_job()
    assert mine is not None
    with MemoryManager("150MiB") as manager:
        inner = manager.run(os.getpid, memory=memory, name="inner")
    return mine.name, [inner.report.outcome.value], inner.report.budget.limit_bytes


@pytest.mark.requirement("T1.2")
def test_a_job_inside_a_job_draws_on_its_lease(tmp_path: Path) -> None:
    """On a machine that is promised to a job to the last byte, a job inside it starts: it is not counted twice."""
    here = Here(tmp_path / "ledger", wait="5s")
    other = here.other("700MiB")
    result = here.guarded.run(nested, "100MiB", memory="200MiB", name="outer")
    assert result.value == ("outer", ["completed"], 100 * MIB), result.error
    finish(other)
    here.close()


def take(mib: int) -> int:
    """Take so much."""
    return len(bytearray(mib * MIB))


@pytest.mark.requirement("R6.2")
def test_a_job_that_may_be_run_again_gets_more(here: Here) -> None:
    """Where retries are allowed, half as much again is given each time; the report tells of the tries before."""
    result = here.guarded.run(take, 150, memory="96MiB", retries=3)
    assert result.value == 150 * MIB
    assert [each.outcome for each in result.report.attempts] == [Outcome.BUDGET_KILL] * 2
    limits = [each.limit_bytes // MIB for each in result.report.attempts]
    assert limits == [96, 144]
    assert result.report.budget.limit_bytes == 216 * MIB
    assert [event.fields["limit_bytes"] // MIB for event in here.told("memguard.job_requeued")] == [144, 216]
    last = here.guarded.run(take, 2000, memory="700MiB", retries=5)
    assert [each.limit_bytes // MIB for each in last.report.attempts] == [700]
    assert last.report.budget.limit_bytes == 800 * MIB


def test_a_ledger_that_cannot_be_used_stops_no_job(tmp_path: Path) -> None:
    """The job runs inside its own budget, and its report says that nothing was reserved, and why."""
    folder = ledger_folder(tmp_path / "ledger")
    guarded = Guarded("800MiB", runtime_dir=str(folder))
    os.chmod(folder, 0o777)
    report = guarded.run(os.getpid).report
    assert report.outcome is Outcome.COMPLETED
    assert any("can be written by others" in each for each in report.guard_degraded)
    with guarded.manager.managed_processing("block") as job:
        pass
    assert job.report is not None
    assert any("can be written by others" in each for each in job.report.guard_degraded)
    guarded.manager.close()


def test_a_copy_of_a_block_leaves_its_lease_alone(played: Here) -> None:
    """A forked process that leaves the block by its end ends what is its own: nothing."""
    with played.manager.managed_processing("mine", memory="100MiB") as job:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                job.checkpoint()
                job._tenure.end()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert played.lease("mine") is not None
        assert job.asked.now is Ask.NOTHING
    assert played.lease("mine") is None
