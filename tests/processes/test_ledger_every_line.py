"""Whoever has to do with the ledger is killed with ``kill -9`` at each line of what he does there, one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memguard.ledger.place import ledger_folder
from tests.support.ledgers import ROOT, start

HOLDER = """
import memguard.ledger
from tests.support.dying import deaths

def work(begin):
    begin()
    with acquire(book, Wish("a", "a", 600 * MIB)) as lease:
        lease.note_used(5)
        lease.grow_nowait(MIB)
    with acquire(book, Wish("b", "b", 600 * MIB)):
        pass

number = 0
for number, pid in deaths(work, memguard.ledger, step=STEP):
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    left = book.settle()
    acquire(book, Wish("all", "all", 1000 * MIB), timeout_s=0).release()
    if left or book.leases():
        print("left", number, left)
print("done", number)
"""
# Whoever holds the memory gives it back when the other one waits, or is dead already.
WAITER = """
from memguard.ledger import waiting, wake
from tests.support.dying import deaths

waits, told = os.pipe()

def work(begin):
    def on_wait(_):
        os.write(told, b"w")
        begin()
    with acquire(book, Wish("waits", "waits", 600 * MIB), on_wait=on_wait):
        pass

held, number = acquire(book, Wish("holds", "holds", 700 * MIB)), 0
for number, _ in deaths(work, waiting, wake):
    assert os.read(waits, 1) == b"w"
    held.release()
    # Asked while that one dies, or uses it: it is got in turn, after him.
    held = acquire(book, Wish("holds", "holds", 700 * MIB), timeout_s=30)
held.release()
acquire(book, Wish("all", "all", 1000 * MIB), timeout_s=0).release()
print("done" if not book.leases() else "left", number)
"""
# Stops a tree, lets it go on, stops it again, and ends.
SENTINEL = """
import os, subprocess, sys
from pathlib import Path
from memguard.guard import sentinel, single, trees
from memguard.guard.journal import Journal
from memguard.guard.orders import Orders
from memguard.guard.rungs import Step
from memguard.guard.single import SentinelLock
from memguard.host import identify
from memguard.host.identity import read_stat
from memguard.ledger.board import Ask
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.room import room_for
from memguard.units import MIB, parse_size
from tests.support.dying import deaths
from tests.support.holder import Shares

folder, shares = Path(sys.argv[1]), Shares(None, parse_size("5%"))
book = LedgerBook(folder, lambda: room_for(shares))
job = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
lease = book.hold(Wish("job", "job", MIB))
book.note_root(lease, job.pid, identify(job.pid).start_ticks, 2**40)
orders = Orders(folder, book.domain, None, parse_size("5%"))

def watch(begin, *asked):
    lock = SentinelLock.take(folder / "sentinel.lock")
    assert lock is not None
    watching = sentinel.Sentinel(orders, Journal(folder / "sentinel.log"))
    watching.look()
    begin()
    for ask in asked:
        watching._carry_out(Step(lease, ask, "a test"), 1.0)
    watching.close()
    lock.release()

def work(begin):
    watch(begin, Ask.FROZEN, Ask.NOTHING, Ask.FROZEN)

number, stopped = 0, 0
for number, pid in deaths(work, sentinel, single, trees):
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    stopped += read_stat(job.pid).state == "T"
    watch(lambda: None)
    if read_stat(job.pid).state == "T" or book.entry(lease).asked is not Ask.NOTHING:
        print("stays stopped", number)
book.release("job")
job.communicate()
print("done" if job.returncode == 0 and not book.leases() else "left", number, stopped)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a ledger."""
    return ledger_folder(tmp_path / "ledger")


@pytest.mark.requirement("T1.2")
@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.heavy)])
def test_death_at_any_line_leaves_nothing(folder: Path, step: int) -> None:
    """A process killed at any line of asking, growing and releasing leaves a ledger that can give everything away."""
    told, _ = start(folder, HOLDER.replace("STEP", str(step))).communicate()
    assert told.startswith("done")
    assert int(told.split()[1]) > 200


@pytest.mark.requirement("T1.2", "T5.1")
def test_death_of_a_waiter_at_any_line_keeps_nobody_waiting(folder: Path) -> None:
    """A process killed at any line between its first wait and its end is passed over, or what it was granted is free."""
    told, _ = start(folder, WAITER).communicate()
    assert told.startswith("done")
    assert int(told.split()[1]) > 20


@pytest.mark.requirement("T5.2", "T5.3")
def test_death_of_a_sentinel_at_any_line_leaves_nobody_stopped(folder: Path) -> None:
    """Whatever it was about to do when it was killed, the next one knows whom it stopped, and lets him go on."""
    done = subprocess.run(
        [sys.executable, "-c", SENTINEL, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    *troubles, last = done.stdout.splitlines() or [""]
    assert troubles == [], done.stderr
    word, lines, stopped = last.split()
    assert word == "done"
    assert int(lines) > int(stopped) > 20
