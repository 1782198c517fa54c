"""What is promised stays what its holder knows of, whoever interrupts him and however many of his threads ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from memguard.config import Settings, load_settings
from memguard.errors import LedgerError
from memguard.guard.scribe import Scribe
from memguard.leasing import leased
from memguard.ledger import patience
from memguard.ledger.change import Change
from memguard.ledger.records import Room
from memguard.ledger.waiting import acquire
from tests.support.guarded import MIB, eventually
from tests.support.ledgers import book_in, granted, wish


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "ledger"
    place.mkdir(mode=0o700)
    return place


@pytest.fixture
def settings(folder: Path) -> Iterator[Settings]:
    return load_settings({"capacity": "1GiB", "runtime_dir": str(folder)})


def test_a_lease_whose_end_was_interrupted_is_given_back_by_the_next_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the midst of giving it back: else it was promised until the process ends."""
    with book_in(folder) as book:
        held = acquire(book, wish("a", 10))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Change, "remove_of", _interrupt)
            held.release()
        assert granted(book.leases()) == []


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_lease_that_a_locked_file_kept_from_its_end_is_given_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next change of its process does it, when the lock is gone."""
    monkeypatch.setattr(patience.Patience, "__call__", lambda *_: False)
    with book_in(folder) as book:
        held = acquire(book, wish("a", 10))
        stuck = apsw.Connection(str(folder / "ledger.sqlite"))
        stuck.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError):
            held.release()
        stuck.execute("ROLLBACK")
        stuck.close()
        assert granted(book.leases()) == []


def test_threads_that_follow_a_job_at_once_ask_for_its_growth_once(settings: Settings, folder: Path) -> None:
    """What the ledger says is promised is what its holder knows of."""
    start = threading.Barrier(4)
    with leased(settings, wish("a", 64), limit_bytes=900 * MIB) as tenure:

        def follow() -> None:
            start.wait()
            tenure.follow(100 * MIB)

        threads = [threading.Thread(target=follow) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        with book_in(folder) as book:
            assert [each.reserved_bytes for each in book.leases()] == [tenure.reserved_bytes]


def test_the_sentinels_writer_outlives_whatever_it_meets(folder: Path) -> None:
    """A reading of the machine that fails is told, and wishes are granted by the next one all the same."""
    faults: list[Exception] = []

    def read_room() -> Room:
        if not faults:
            raise OSError("no descriptor is left")
        return Room(2**40, 2**40, "the test")

    scribe = Scribe(folder, read_room, faults.append)
    scribe.settle()
    assert eventually(lambda: faults)
    with book_in(folder, available_bytes=0) as book:
        assert not book.ask(wish("a", 10)).is_granted
        scribe.settle()
        scribe.close()
        assert granted(book.leases()) == ["a"]
        assert [isinstance(each, OSError) for each in faults] == [True]
