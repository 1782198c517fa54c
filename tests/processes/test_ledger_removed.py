"""A ledger whose folder is removed under running jobs, as a logout or a cleaner does: figures and requests find them again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memguard.errors import LedgerError
from memguard.guard.single import SentinelLock
from memguard.ledger.board import Ask, Entry
from memguard.ledger.reader import LedgerReader
from memguard.ledger.seat import SeatView
from memguard.ledger.waiting import acquire
from tests.support.ledgers import book_in, wish

HERE = (12, 34, 56)


def test_what_stood_on_a_removed_board_goes_on_to_hold(tmp_path: Path) -> None:
    """What a job uses, which tree it is and what is asked of it; else who was stopped would be stopped for ever."""
    folder = _made(tmp_path)
    with book_in(folder) as book, acquire(book, wish("a", 10)) as held, LedgerReader(folder) as reader:
        view = SeatView(book.seat(held.lease))
        view.note_root(*HERE)
        view.note_used(7)
        assert book.ask_of(held.lease, Ask.FROZEN)
        shutil.rmtree(folder)
        _made(tmp_path)
        with book_in(folder) as other, acquire(other, wish("b", 20)) as second:
            book.keep()
            entries = {lease.name: entry for lease, entry in reader.look()}
            assert entries["a"].asked is Ask.FROZEN
            assert (entries["a"].used_bytes, entries["a"].root_pid) == (7, HERE[0])
            view.note_used(9)
            held.note_used(11)
            second.note_used(5)
            used = {lease.name: lease.used_bytes for lease, _ in reader.look()}
            assert used == {"a": 11, "b": 5}
            assert other.ask_of(next(each for each in other.leases() if each.name == "a"), Ask.KILL)
            assert view.entry().asked is Ask.KILL
        view.close()


def test_leases_keep_their_places_in_a_file_that_was_replaced(tmp_path: Path) -> None:
    """Whoever writes his down first takes nobody else's place, nor what stands there."""
    folder = _made(tmp_path)
    with book_in(folder) as first, book_in(folder) as second:
        a, b = acquire(first, wish("a", 10)), acquire(second, wish("b", 10))
        a.note_used(3)
        b.note_used(4)
        for each in folder.glob("ledger.sqlite*"):
            each.unlink()
        second.keep()
        first.keep()
        with LedgerReader(folder) as reader:
            assert {lease.name: lease.used_bytes for lease, _ in reader.look()} == {"a": 3, "b": 4}


def test_a_place_that_somebody_new_took_is_left_to_him(tmp_path: Path) -> None:
    """What its former holder tells then stands in the place that he has now."""
    folder = _made(tmp_path)
    with book_in(folder) as first, book_in(folder) as other:
        a = acquire(first, wish("a", 10))
        view = SeatView(first.seat(a.lease))
        for each in folder.glob("ledger.sqlite*"):
            each.unlink()
        new = acquire(other, wish("new", 10))
        new.note_used(5)
        first.keep()
        a.note_used(6)
        with LedgerReader(folder) as reader:
            assert {lease.name: lease.used_bytes for lease, _ in reader.look()} == {"a": 6, "new": 5}
        view.note_used(8)
        assert view.entry().used_bytes == 8
        view.close()


def test_a_removed_folder_is_made_again_by_whoever_holds_a_lease(tmp_path: Path) -> None:
    """Whoever comes next finds what is promised there."""
    folder = _made(tmp_path)
    with book_in(folder) as book, acquire(book, wish("a", 10)) as held:
        held.note_used(7)
        shutil.rmtree(folder)
        book.keep()
        with LedgerReader(folder) as reader:
            assert [lease.used_bytes for lease, _ in reader.look()] == [7]
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_removed_folder_that_others_can_write_is_not_taken(tmp_path: Path) -> None:
    """Whoever makes it in place of its owner could ask anything of his jobs."""
    folder = _made(tmp_path)
    with book_in(folder) as book, acquire(book, wish("a", 10)) as held:
        view = SeatView(book.seat(held.lease))
        shutil.rmtree(folder)
        _made(tmp_path).chmod(0o777)
        (folder / "board").write_bytes(bytes(65536))
        with pytest.raises(LedgerError, match="can be written by others"):
            book.keep()
        view.note_used(7)
        assert view.entry() == Entry()
        folder.chmod(0o700)
        view.close()


def test_a_sentinel_whose_lock_was_removed_sees_that_another_one_has_it(tmp_path: Path) -> None:
    """Not before: while nobody else watches it goes on."""
    folder = _made(tmp_path)
    lock = SentinelLock.take(folder / "lock")
    assert lock is not None
    shutil.rmtree(folder)
    assert not lock.is_replaced
    other = SentinelLock.take(_made(tmp_path) / "lock")
    assert other is not None
    assert lock.is_replaced
    assert not other.is_replaced
    lock.release()
    other.release()


def _made(place: Path) -> Path:
    folder = place / "ledger"
    folder.mkdir(mode=0o700)
    return folder
