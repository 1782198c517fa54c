"""The sentinel's parts by themselves: its log, its lock, its scribe, its orders, the clocks it goes by."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest

from memguard.guard.journal import Journal
from memguard.guard.orders import Orders
from memguard.guard.scribe import Scribe
from memguard.guard.single import SentinelLock, sentinel_of
from memguard.host import identify
from memguard.ledger.book import LedgerBook
from memguard.ledger.reader import LedgerReader
from memguard.ledger.records import Action, Room
from memguard.units import parse_size
from tests.support.guarded import eventually
from tests.support.ledgers import book_in, wish

ACTION = Action("a", "a", "frozen", "why", 2, 1, None, 1.0, 1.0)


def test_the_log_stays_small(tmp_path: Path) -> None:
    """A file that is full is put aside once, and the one before it goes; each line is a document."""
    path = tmp_path / "sentinel.log"
    journal = Journal(path)
    for _ in range(5):
        journal.write("memguard.job_released", "a", why="x" * 600_000)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["sentinel.log", "sentinel.log.1"]
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 4 << 20
    (line,) = path.read_text().splitlines()
    assert (json.loads(line)["event"], json.loads(line)["lease_id"]) == ("memguard.job_released", "a")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    """A folder that is gone costs the line and nothing else; an event that is none is a mistake all the same."""
    Journal(tmp_path / "gone" / "log").write("memguard.job_released")
    with pytest.raises(ValueError, match="not a known event"):
        Journal(tmp_path / "log").write("memguard.nothing_happened")


def test_the_lock_is_one_persons_and_leaves_nothing(tmp_path: Path) -> None:
    """Who has it is written in it; it can be had again when it is given back, also by who had the old file open."""
    path = tmp_path / "sentinel.lock"
    first = SentinelLock.take(path)
    assert first is not None
    assert sentinel_of(tmp_path, "") == identify()
    assert SentinelLock.take(path) is None
    before = len(os.listdir("/proc/self/fd"))
    first.release()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert not path.exists()
    assert sentinel_of(tmp_path, "") is None
    path.write_text("{half")
    assert sentinel_of(tmp_path, "") is None
    again = SentinelLock.take(path)
    assert again is not None
    assert sentinel_of(tmp_path, "") == identify()
    again.release()


def test_a_lock_goes_with_its_holder(tmp_path: Path) -> None:
    """The kernel gives it back, whatever killed the process that had it."""
    program = f"""
import os, sys
from pathlib import Path
from memguard.guard.single import SentinelLock
assert SentinelLock.take(Path({str(tmp_path)!r}) / "sentinel.lock")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    assert (tmp_path / "sentinel.lock").exists()
    lock = SentinelLock.take(tmp_path / "sentinel.lock")
    assert lock is not None
    lock.release()


def test_orders_cross_to_another_process_unchanged(tmp_path: Path) -> None:
    """What was told as JSON is read as the same orders."""
    orders = Orders(tmp_path, "/sys/x#2GiB", parse_size("2GiB"), parse_size("5%"), None, 1.5)
    assert Orders.from_json(json.loads(json.dumps(orders.to_json()))) == orders
    plain = Orders(tmp_path, "", None, parse_size("1GiB"), "", None)
    assert Orders.from_json(json.loads(json.dumps(plain.to_json()))) == plain


def test_a_ledger_that_is_locked_keeps_nobody_waiting(tmp_path: Path) -> None:
    """What is to be written waits in its own thread, and is written when the lock is gone; reading goes on."""
    folder = tmp_path / "ledger"
    folder.mkdir(mode=0o700)
    with book_in(folder) as book, LedgerReader(folder) as reader:
        book.ask(wish("a", 10))
        scribe = Scribe(folder, lambda: Room(2**40, 2**40, "the test"), _fail)
        stuck = apsw.Connection(str(folder / "ledger.sqlite"))
        stuck.execute("BEGIN IMMEDIATE")
        number = scribe.note(ACTION)
        scribe.note_effect(number, 1)
        scribe.settle()
        assert [lease.name for lease, _ in reader.look()] == ["a"]
        stuck.execute("ROLLBACK")
        stuck.close()
        assert eventually(lambda: [each.freed_bytes for each in book.actions()] == [1])
        scribe.close()
    assert not [each for each in threading.enumerate() if each.name == "memguard-scribe"]


def _fail(error: Exception) -> None:
    raise error


def test_a_reader_sees_what_others_changed(tmp_path: Path) -> None:
    """Leases that come, grow and go, use that is told, and a file that was replaced."""
    folder = tmp_path / "ledger"
    folder.mkdir(mode=0o700)
    with book_in(folder) as book, LedgerReader(folder) as reader:
        assert list(reader.look()) == []
        lease = book.ask(wish("a", 10))
        assert [each.reserved_bytes for each, _ in reader.look()] == [lease.reserved_bytes]
        book.note_used(lease, 7)
        book.note_root(lease, 12, 34, 56)
        ((seen, entry),) = reader.look()
        assert (seen.used_bytes, entry.used_bytes, entry.root_pid) == (7, 7, 12)
        assert book.grow("a", 100)
        assert [each.reserved_bytes for each, _ in reader.look()] == [lease.reserved_bytes + 100]
        for path in folder.glob("ledger.sqlite*"):
            path.unlink()
        with LedgerBook(folder, lambda: Room(2**40, 2**40, "the test")) as fresh:
            fresh.ask(wish("b", 1))
            assert [each.name for each, _ in reader.look()] == ["b"]


@pytest.mark.requirement("T5.3")
def test_no_clock_that_can_be_set_decides_anything(project_root: Path) -> None:
    """The time of day is written down for people, and nothing is reckoned from it."""
    users = {
        (path.name, node.attr)
        for path in (project_root / "memguard" / "guard").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("time", "datetime")
    }
    assert users <= {("sentinel.py", "time"), ("spawn.py", "monotonic")}
    text = (project_root / "memguard" / "guard" / "sentinel.py").read_text()
    assert text.count("time.time()") == 1
