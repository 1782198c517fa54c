"""What the ledger's files are to others, and to those who open them at a bad moment."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest

from memguard.errors import LedgerError
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.patience import Patience
from memguard.ledger.records import Room
from memguard.ledger.waiting import acquire
from memguard.units import MIB


def room() -> Room:
    """Return a stated machine."""
    return Room(1000 * MIB, 1000 * MIB, "the test")


def test_every_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Also those that SQLite puts beside the database, and whatever umask the process has."""
    before = os.umask(0)
    try:
        with LedgerBook(tmp_path, room) as book, acquire(book, Wish("one", "one", MIB)):
            modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "board"} <= set(modes)
    assert set(modes.values()) == {0o600}


def test_a_newer_file_is_refused_as_it_is(tmp_path: Path) -> None:
    """Not a byte of it is changed, whatever its journal."""
    path = tmp_path / "ledger.sqlite"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE lease(a); PRAGMA user_version = 999")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="newer memguard"):
        LedgerBook(tmp_path, room)
    assert path.read_bytes() == before


def test_a_lease_that_could_not_be_struck_is_struck_by_the_next_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that is locked when a job ends hides no answer; the lease goes as soon as somebody here can write."""
    # A default is bound where the function is made.
    monkeypatch.setattr(Patience.__init__, "__defaults__", (0.01,))
    book = LedgerBook(tmp_path, room)
    held = acquire(book, Wish("one", "one", MIB))
    locking = apsw.Connection(str(tmp_path / "ledger.sqlite"))
    locking.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError):
        held.release()
    book.close()
    locking.execute("ROLLBACK")
    locking.close()
    with LedgerBook(tmp_path, room) as later:
        assert later.leases() == ()
