"""A sentinel comes with the first lease, is alone, is replaced when it dies or hangs, and goes with the last one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memguard.guard.spawn import ensure_sentinel, is_sentinel, start_sentinel
from memguard.host import children_of, is_alive, kill_processes
from memguard.host.identity import read_stat
from memguard.ledger.place import ledger_folder
from memguard.ledger.records import LEASE_VARIABLE
from memguard.units import MIB, parse_size
from tests.support.guarded import eventually, unchanged_caller
from tests.support.holder import Shares
from tests.support.ledgers import book_in, start
from tests.support.sentinels import sentinels_of

if TYPE_CHECKING:
    from tests.processes.sentinel.conftest import Machine

SHARES = Shares(None, parse_size("5%"))


@pytest.mark.requirement("R6.3", "T5.3")
def test_it_comes_with_the_first_lease_and_goes_with_the_last(real: Machine) -> None:
    """Nobody installs or starts it by hand; it belongs to nobody, says what it sees, and leaves no lock behind."""
    assert real.sentinel is None
    job = real.job("a", 10)
    who = real.watched()
    assert is_sentinel(who.pid)
    stat = read_stat(who.pid)
    assert stat.parent_pid not in (os.getpid(), job.holder.pid)
    assert os.getsid(who.pid) not in (os.getsid(0), os.getsid(job.holder.pid))
    assert os.readlink(f"/proc/{who.pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{who.pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
    assert children_of(who.pid) == ()
    sight = real.sight()
    assert sight is not None
    assert sight.running == 1
    job.end()
    assert eventually(lambda: not is_alive(who))
    assert not (real.folder / "sentinel.lock").exists()
    assert [line["event"] for line in real.log()] == ["memguard.sentinel_started", "memguard.sentinel_ended"]


def test_its_starter_is_left_as_it_was(real: Machine) -> None:
    """No child, no descriptor, no thread stays with whoever made sure that there is one."""
    job = real.job("a", 10, sentinel=False)
    with unchanged_caller():
        assert ensure_sentinel(SHARES, real.folder, real.domain, linger_s=0.5) == ""
        real.watched()
        assert ensure_sentinel(SHARES, real.folder, real.domain, linger_s=0.5) == ""
    job.end()


@pytest.mark.requirement("T5.3")
def test_one_that_is_killed_is_replaced(real: Machine) -> None:
    """Whoever has a lease sees at his next look that nobody watches, and starts another one."""
    real.job("a", 10)
    first = real.watched()
    assert kill_processes([(first.pid, first.start_ticks)])
    assert eventually(lambda: real.sentinel not in (None, first))
    assert real.watched() != first


@pytest.mark.requirement("T5.3")
def test_one_that_hangs_is_killed_and_replaced(real: Machine) -> None:
    """One that was stopped holds its lock and looks no more: it is that very process that is killed."""
    real.job("a", 10)
    first = real.watched()
    os.kill(first.pid, signal.SIGSTOP)
    assert eventually(lambda: not is_alive(first))
    assert real.watched() != first


def test_of_two_that_are_started_at_once_one_stays(real: Machine) -> None:
    """Who comes second finds the lock taken and goes, having done nothing."""
    job = real.job("a", 10, sentinel=False)
    for _ in range(3):
        start_sentinel(SHARES, real.folder, real.domain, linger_s=0.5)
    who = real.watched()
    assert eventually(lambda: sentinels_of(real.folder) == {who.pid})
    assert [line["event"] for line in real.log()] == ["memguard.sentinel_started"]
    job.end()
    assert eventually(lambda: not is_alive(who))


def test_a_process_inside_of_a_job_starts_none(real: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be part of that job and end with it; the one outside watches for both."""
    monkeypatch.setenv(LEASE_VARIABLE, "some job's")
    assert ensure_sentinel(SHARES, real.folder, real.domain) == ""
    assert real.sentinel is None
    assert sentinels_of(real.folder) == set()


@pytest.mark.requirement("R7.3")
def test_it_is_small(real: Machine) -> None:
    """Private memory and its part of shared pages are below 15 MiB."""
    real.job("a", 10)
    who = real.watched()
    with open(f"/proc/{who.pid}/smaps_rollup") as opened:
        fields = dict(line.split(":", 1) for line in opened.read().splitlines()[1:])
    assert int(fields["Pss"].split()[0]) * 1024 < 15 * MIB


def test_a_start_that_fails_is_told_and_not_repeated_at_once(
    real: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a lease goes on without a sentinel, and knows why."""
    monkeypatch.setattr(subprocess, "Popen", _no_process)
    told = ensure_sentinel(SHARES, real.folder, "another domain")
    assert "could not be started" in told
    assert ensure_sentinel(SHARES, real.folder, "another domain") == ""


def _no_process(*_: object, **__: object) -> None:
    raise BlockingIOError(11, "no more processes")


@pytest.mark.requirement("R6.3")
def test_what_other_programs_give_back_reaches_those_who_wait(small: Machine) -> None:
    """It rings nowhere, so the sentinel looks for those who wait."""
    outside = subprocess.Popen(
        [sys.executable, "-c", "x = bytearray(150 << 20); print('has it', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=small.enter,  # noqa: PLW1509 - one write, and there is no other thread here
    )
    with outside:
        assert outside.stdout is not None
        assert outside.stdout.readline() == b"has it\n"
        small.job("first", 10)
        small.watched()
        waiting = """
import sys
from pathlib import Path
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.room import room_for
from memguard.ledger.wake import Doorbell
from tests.support.holder import Shares
from memguard.units import parse_size
book = LedgerBook(Path(sys.argv[1]), lambda: room_for(Shares(None, parse_size("5%"))))
with Doorbell("late") as bell:
    lease = book.ask(Wish("late", "late", 120 << 20))
    print("granted" if lease.is_granted else "waits", flush=True)
    bell.wait(None)
    print("rung", flush=True)
"""
        late = subprocess.Popen(
            [sys.executable, "-c", waiting, str(small.folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{os.getcwd()}:{os.environ.get('PYTHONPATH', '')}"},
            preexec_fn=small.enter,  # noqa: PLW1509 - one write, and there is no other thread here
        )
        with late:
            assert late.stdout is not None
            assert late.stdout.readline() == b"waits\n"
            outside.communicate(b"\n")
            assert late.stdout.readline() == b"rung\n"


FAILING = """
import sys
from pathlib import Path
from memguard.guard import sentinel
from memguard.guard.journal import Journal
from memguard.guard.orders import Orders
from memguard.guard.single import SentinelLock
from memguard.guard.wake import Wake
from memguard.ledger.beacon import domain_file
from memguard.units import parse_size

def fail(*_):
    raise RuntimeError("no look can be finished")

sentinel._SWEEP_EVERY_S = 0.1
sentinel.Sentinel._limits = fail
folder, domain = Path(sys.argv[1]), sys.argv[2]
lock = SentinelLock.take(domain_file(folder, "sentinel.lock", domain))
journal = Journal(domain_file(folder, "sentinel.log", domain))
with Wake(()) as wake:
    sentinel.watch(Orders(folder, domain, None, parse_size("10%"), None, 0.5), journal, lock, wake)
print("ended")
"""


def test_one_that_can_finish_no_look_ends_too(tmp_path: Path) -> None:
    """Leases of the dead do not keep it: it strikes them although it sees nothing, and goes when none is left."""
    folder = ledger_folder(tmp_path / "ledger")
    with start(folder, "book.ask(Wish('dead', 'dead', MIB))\nprint(book.domain + '!', flush=True)") as holder:
        assert holder.stdout is not None
        domain = holder.stdout.readline().rstrip("!\n")
    with book_in(folder) as book:
        assert [lease.name for lease in book.leases()] == ["dead"]
    done = subprocess.run(
        [sys.executable, "-c", FAILING, str(folder), domain],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
    with book_in(folder) as book:
        assert book.leases() == ()
