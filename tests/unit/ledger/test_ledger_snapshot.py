"""Looking into the ledger without touching it, in whatever state it is."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest

from memguard.ledger.beacon import Beacon, Sight, domain_file
from memguard.ledger.board import Ask
from memguard.ledger.book import boot_seconds
from memguard.ledger.place import ledger_folder
from memguard.ledger.records import Action
from memguard.ledger.snapshot import Snapshot, take_snapshot
from memguard.units import MIB
from tests.support.ledgers import book_in, wish

SIGHT = Sight(1.0, 7, 1, 0, 1.0, 0.5, 1000, 500, 100, 0.0, float("inf"), 1.0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a ledger."""
    return ledger_folder(tmp_path / "ledger")


def content(folder: Path) -> dict[str, tuple[int, str]]:
    """Return what is in a folder: names, inodes, contents."""
    return {
        each.name: (each.stat().st_ino, hashlib.sha256(each.read_bytes()).hexdigest())
        for each in sorted(folder.iterdir())
    }


def names(snapshot: Snapshot) -> list[str]:
    return [lease.name for lease in snapshot.leases]


def test_no_ledger_is_no_trouble_and_none_is_made(tmp_path: Path) -> None:
    """Where no job has reserved memory yet nothing stands there, and looking makes neither folder nor file."""
    assert take_snapshot(tmp_path / "none", "") == Snapshot()
    folder = ledger_folder(tmp_path / "empty")
    assert take_snapshot(folder, "") == Snapshot()
    assert [each.name for each in tmp_path.rglob("*")] == ["empty"]


def test_all_that_stands_there_is_seen(folder: Path) -> None:
    """Leases in the order of asking, what the board says of them, the sentinel's actions and what it saw."""
    with book_in(folder) as book:
        lease = book.ask(wish("holds", 600))
        book.ask(wish("waits", 600))
        book.note_used(lease, 50 * MIB)
        book.note_used(lease, 40 * MIB)
        book.note_root(lease, 123, 5, 700 * MIB)
        assert book.ask_of(lease, Ask.SHED)
        book.note_action(Action("holds", "holds", "SHED", "it is the largest", 1, 2, None, 3.0, 4.0))
        with Beacon(domain_file(folder, "sight", "")) as beacon:
            beacon.write(SIGHT)
        seen = take_snapshot(folder, "")
        assert [(each.name, each.used_bytes // MIB) for each in seen.leases] == [("holds", 40), ("waits", 0)]
        entry = seen.entry(lease)
        assert entry == book.entry(lease)
        assert (entry.used_bytes, entry.peak_bytes, entry.asked) == (40 * MIB, 50 * MIB, Ask.SHED)
        assert [each.rung for each in seen.actions] == ["SHED"]
        assert (seen.sight, seen.trouble, seen.path) == (SIGHT, "", folder / "ledger.sqlite")
        assert take_snapshot(folder, "", with_actions=False).actions == ()


def test_another_domain_has_another_sentinel(folder: Path) -> None:
    """What the sentinel of one cgroup or share saw is not told of another."""
    with Beacon(domain_file(folder, "sight", "#1GiB")) as beacon:
        beacon.write(SIGHT)
    assert take_snapshot(folder, "#1GiB").sight == SIGHT
    assert take_snapshot(folder, "").sight is None


def test_looking_changes_nothing(folder: Path) -> None:
    """A ledger that nobody has open keeps its files to the byte, and gets no more of them; the dead stay in it."""
    program = "from tests.support.ledgers import *; import os, sys\n"
    program += "book_in(Path(sys.argv[1])).ask(wish('dead', 100)); os._exit(0)"
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, cwd=Path(__file__).parents[3])
    with book_in(folder) as book:
        assert [lease.name for lease in book.leases()] == ["dead"]
    before = content(folder)
    for _ in range(3):
        assert names(take_snapshot(folder, "")) == ["dead"]
    assert content(folder) == before


def test_an_open_ledger_is_seen_as_it_is_now(folder: Path) -> None:
    """What stands in the log and not in the file yet is seen, and each look sees what was written before it."""
    with book_in(folder) as book:
        for number in range(5):
            book.ask(wish(f"job{number}", 10))
            assert len(take_snapshot(folder, "").leases) == number + 1
        assert (folder / "ledger.sqlite-wal").stat().st_size > 0


def test_one_who_writes_for_long_keeps_no_reader_waiting(folder: Path) -> None:
    """A transaction that stays open hides nothing of what stood there before it."""
    with book_in(folder) as book:
        book.ask(wish("holds", 600))
        blocking = apsw.Connection(str(folder / "ledger.sqlite"))
        blocking.execute("BEGIN IMMEDIATE")
        blocking.execute("DELETE FROM lease")
        began = boot_seconds()
        assert names(take_snapshot(folder, "")) == ["holds"]
        assert boot_seconds() - began < 0.4
        blocking.close()


def test_a_ledger_that_stays_locked_is_told_soon(folder: Path) -> None:
    """Where somebody lets nobody read, half a second is waited and then said so."""
    with book_in(folder) as book:
        book.ask(wish("holds", 600))
    locking = apsw.Connection(str(folder / "ledger.sqlite"))
    locking.execute("PRAGMA locking_mode = EXCLUSIVE")
    locking.execute("BEGIN EXCLUSIVE; DELETE FROM action")
    began = boot_seconds()
    assert "was locked for 0.5 s by another process" in take_snapshot(folder, "").trouble
    assert boot_seconds() - began < 2
    locking.close()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("truncate -s 0 ledger.sqlite", "somebody emptied it"),
        ("rm ledger.sqlite; mkdir ledger.sqlite", "could not be used"),
        ("rm board; mkdir board", "Is a directory"),
        ("rm sight; mkdir sight", "Is a directory"),
        ("chmod 777 .", "can be written by others"),
    ],
)
def test_what_is_broken_is_told_and_left_alone(folder: Path, damage: str, told: str) -> None:
    """One sentence names what cannot be read and why, nothing is raised, and nothing is repaired."""
    with book_in(folder) as book:
        book.ask(wish("holds", 600))
        subprocess.run(["/bin/sh", "-c", damage], check=True, cwd=folder)
        before = sorted(os.listdir(folder))
        assert told in take_snapshot(folder, "").trouble
        assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize(
    "damage", ["head -c 50000 /dev/urandom > ledger.sqlite", "truncate -s 4000 ledger.sqlite"]
)
def test_a_damaged_file_is_told_and_left_alone(folder: Path, damage: str) -> None:
    """A file that nobody has open and that is no ledger any more stays as it is."""
    with book_in(folder) as book:
        book.ask(wish("holds", 600))
    subprocess.run(["/bin/sh", "-c", damage], check=True, cwd=folder)
    before = content(folder)
    seen = take_snapshot(folder, "")
    assert "is damaged" in seen.trouble
    assert seen.leases == ()
    assert content(folder) == before


@pytest.mark.parametrize(
    ("version", "told"), [(99, "newer memguard (version 99"), (1, "older memguard (version 1")]
)
def test_a_ledger_of_another_version_is_told(folder: Path, version: int, told: str) -> None:
    """Its rows are not guessed at; what to do stands in the sentence."""
    connection = apsw.Connection(str(folder / "ledger.sqlite"))
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    seen = take_snapshot(folder, "")
    assert told in seen.trouble
    assert seen.leases == ()


def test_a_file_that_is_being_made_is_no_damage(folder: Path) -> None:
    """Between the moment when a ledger's file appears and the one when it has tables it is just not there yet."""
    (folder / "ledger.sqlite").touch()
    assert "look again" in take_snapshot(folder, "").trouble


def test_looks_beside_a_busy_ledger_are_whole(folder: Path) -> None:
    """Beside one who opens, writes and closes it without pause each look sees one of the states it was in."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with book_in(folder) as book:
                book.ask(wish("a", 10))
                book.ask(wish("b", 10))
                book.release("b")
                book.release("a")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [take_snapshot(folder, "") for _ in range(300)]
    finally:
        stop.set()
        writer.join()
    assert {tuple(names(each)) for each in seen} <= {(), ("a",), ("a", "b")}
    assert {each.trouble for each in seen} <= {
        "",
        f"{folder / 'ledger.sqlite'} is being made at this moment; look again",
    }
