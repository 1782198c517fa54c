"""One ledger, many processes: real ones, that die, wait, fork and lie at the worst moment."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from memguard.errors import CapacityExceeded, JobInterrupted, LedgerError, ReservationTimeout
from memguard.host import identify
from memguard.ledger import change
from memguard.ledger.book import LedgerBook, boot_seconds
from memguard.ledger.place import ledger_folder
from memguard.ledger.store import LedgerStore
from memguard.ledger.waiting import acquire, take
from memguard.units import MIB
from tests.support.forks import FORKS_BESIDE_THREADS, in_child
from tests.support.guarded import eventually, unchanged_caller
from tests.support.ledgers import book_in, granted, start, wish

HOLD = """
lease = acquire(book, Wish(sys.argv[2], sys.argv[2], int(sys.argv[3]) * MIB))
print("held", flush=True)
sys.stdin.read()
lease.release()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a ledger."""
    return ledger_folder(tmp_path / "ledger")


@pytest.fixture
def book(folder: Path) -> Iterator[LedgerBook]:
    """This process's access to it."""
    book = book_in(folder)
    yield book
    book.close()


@contextmanager
def holder(folder: Path, name: str, mib: int, program: str = HOLD) -> Iterator[subprocess.Popen[str]]:
    """A process that holds, or waits for, so many MiB."""
    with start(folder, program, name, str(mib)) as process:
        try:
            yield process
        finally:
            process.kill()


def is_held(process: subprocess.Popen[str]) -> bool:
    """Wait until a process has its lease."""
    assert process.stdout is not None
    return process.stdout.readline() == "held\n"


@pytest.mark.requirement("R2.4", "T1.2")
def test_processes_that_know_nothing_of_each_other_share_the_machine(book: LedgerBook, folder: Path) -> None:
    """What one has is not given to another; who waits gets it when it is given back, woken and not asking."""
    with holder(folder, "first", 700) as first, holder(folder, "second", 700) as second:
        waits, has = sorted((first, second), key=lambda process: process.pid)
        assert eventually(lambda: len(book.leases()) == 2)
        (name,) = granted(book.leases())
        has, waits = (first, second) if name == "first" else (second, first)
        assert is_held(has)
        assert has.stdin is not None
        has.stdin.close()
        assert is_held(waits)
        assert has.wait() == 0
    assert eventually(lambda: book.settle() == {})


@pytest.mark.requirement("T1.2")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_holder_gives_back(book: LedgerBook, folder: Path, number: int) -> None:
    """Who is killed with a lease holds it no longer: the next one is woken by the death itself."""
    with holder(folder, "doomed", 700) as doomed:
        assert is_held(doomed)
        threading.Timer(0.1, lambda: os.kill(doomed.pid, number)).start()
        with acquire(book, wish("next", 700), timeout_s=30) as lease:
            assert lease.lease.is_granted
            assert granted(book.leases()) == ["next"]
        doomed.wait()
    assert book.leases() == ()


def test_a_killed_waiter_is_not_waited_for(book: LedgerBook, folder: Path) -> None:
    """A first in line that is dead when its turn comes is passed over."""
    with acquire(book, wish("holds", 700)) as held, holder(folder, "waits", 800) as waiter:
        assert eventually(lambda: len(book.leases()) == 2)
        waiter.kill()
        waiter.wait()
        asked = book.ask(wish("later", 900))
        assert not asked.is_granted
        held.release()
        assert granted(book.leases()) == ["later"]
        book.release("later")


def test_a_pid_that_is_used_again_is_another_process(book: LedgerBook, folder: Path) -> None:
    """A lease of a process that started at another time than the one with its pid is nobody's."""
    held = book.ask(wish("mine", 600))
    store = LedgerStore(folder / "ledger.sqlite")
    with store.transaction() as transaction:
        transaction.delete("mine")
        stranger = identify(os.getppid())
        early = type(stranger)(stranger.host, stranger.boot_id, stranger.pid, stranger.start_ticks - 1)
        transaction.insert(_of(held, "stale", early))
        transaction.insert(_of(held, "alive", stranger, slot=7))
    store.close()
    book.release("mine")
    assert set(book.settle()) == {"alive"}


def _of(lease, name, owner, slot=5):  # type: ignore[no-untyped-def]
    import dataclasses

    return dataclasses.replace(lease, lease_id=name, name=name, owner=owner, slot=slot)


def test_a_request_beyond_everything_fails_at_once(book: LedgerBook) -> None:
    """Waiting could not help; the figures are in the message, and nothing is left in the line."""
    with pytest.raises(CapacityExceeded, match=r"asks for 1001 MiB, .* never more than 1000 MiB"):
        acquire(book, wish("huge", 1001))
    assert book.leases() == ()


def test_who_gives_up_says_who_holds_what(book: LedgerBook, folder: Path) -> None:
    """The error names holder, pid and size, and who else waits; the wish is gone."""
    with holder(folder, "greedy", 900) as greedy:
        assert is_held(greedy)
        with pytest.raises(ReservationTimeout) as caught, unchanged_caller():
            acquire(book, wish("late", 300), timeout_s=0)
        assert f"greedy (pid {greedy.pid}): 900 MiB" in str(caught.value)
        assert caught.value.free_bytes == 100 * MIB
        assert [lease.name for lease in book.leases()] == ["greedy"]


def test_a_wish_can_be_withdrawn(book: LedgerBook) -> None:
    """Who is asked to stop while it waits stops at once, by the descriptor that wakes it, and leaves the line."""
    asked = os.eventfd(0)
    with acquire(book, wish("holds", 900)):
        threading.Timer(0.05, lambda: os.eventfd_write(asked, 1)).start()
        with pytest.raises(JobInterrupted):
            acquire(book, wish("late", 300), withdrawn=lambda: _is_set(asked), wake_descriptors=(asked,))
        assert granted(book.leases()) == ["holds"]
        assert len(book.leases()) == 1
    os.close(asked)


def _is_set(descriptor: int) -> bool:
    with open(f"/proc/self/fdinfo/{descriptor}") as told:
        return any(line.split() == ["eventfd-count:", "1"] for line in told)


def test_nested_leases_draw_on_the_one_around_them(book: LedgerBook) -> None:
    """What is inside a lease is not taken from the machine again; when it ends first, they go on on the machine's."""
    outer = book.ask(wish("outer", 600))
    book.ask(wish("inner", 500, parent_id="outer"))
    assert not book.ask(wish("too much", 200, parent_id="outer")).is_granted
    assert book.ask(wish("beside", 400)).is_granted
    book.release("too much")
    assert not book.grow("inner", 101 * MIB)
    asked = book.ask(wish("all of it", 601, parent_id="outer"))
    assert (asked.is_granted, asked.reserved_bytes) == (False, 600 * MIB)
    book.release("all of it")
    assert book.grow("inner", 100 * MIB)
    book.release("outer")
    assert {lease.name: lease.parent_id for lease in book.leases()} == {"inner": "", "beside": ""}
    assert outer.is_granted


def test_use_that_is_told_is_not_reserved_twice(folder: Path) -> None:
    """The machine's available memory already lacks what a job uses: only the rest of its promise is taken off."""
    available = [1000 * MIB]
    from memguard.ledger.records import Room

    book = LedgerBook(folder, lambda: Room(1000 * MIB, available[0], "the test"))
    held = acquire(book, wish("half", 600))
    held.note_used(300 * MIB)
    available[0] = 700 * MIB
    assert eventually(lambda: book.leases()[0].used_bytes == 300 * MIB)
    assert not book.ask(wish("more", 401)).is_granted
    book.release("more")
    assert book.ask(wish("fits", 400)).is_granted
    book.close()


def test_a_fork_holds_nothing(book: LedgerBook, folder: Path) -> None:
    """A copy of a holder has no lease: its end ends none, and its own asking is its own."""
    with acquire(book, wish("mine", 600)):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if (
                    book.ask(wish("copy's", 300)).is_granted
                    and not book.ask(wish("copy's too", 300)).is_granted
                ):
                    status = 0
                book.release("mine")
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert set(book.settle()) == {"mine"}
    assert book.leases() == ()


@pytest.mark.parametrize("damage", ["garbage", "cut", "cut with its log", "removed", "emptied"])
def test_a_damaged_ledger_is_replaced(book: LedgerBook, folder: Path, damage: str) -> None:
    """Whatever is done to the file, holders write their leases down again, and the broken one is kept aside."""
    held = acquire(book, wish("holds", 600))
    path = folder / "ledger.sqlite"
    command = {
        "garbage": f"head -c 50000 /dev/urandom > {path}",
        "cut": f"truncate -s 100 {path}",
        "cut with its log": f"echo garbage | tee {path} > {path}-wal",
        "emptied": f"truncate -s 0 {path}",
        "removed": f"rm {path}*",
    }[damage]
    # Another process does it: closing a file ends all locks that its process has on it.
    subprocess.run(["/bin/sh", "-c", command], check=True)
    other = start(
        folder, "print(len(book.leases()), flush=True); sys.stdin.read(); print(book.leases()[0].name)"
    )
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        assert set(book.settle()) == {"holds"}
        assert not book.ask(wish("more", 500)).is_granted
        told, _ = other.communicate()
        assert (told, other.returncode) == ("holds\n", 0)
    held.release()
    book.release("more")
    assert book.settle() == {}


def test_who_holds_keeps_his_lease_written_down(book: LedgerBook, folder: Path) -> None:
    """He writes it into a file that replaced the one he wrote it into, without wanting anything; else writes nothing."""
    with acquire(book, wish("holds", 600)):
        book.keep()
        for each in folder.glob("ledger.sqlite*"):
            each.unlink()
        with book_in(folder) as other:
            assert other.leases() == ()
            book.keep()
            assert granted(other.leases()) == ["holds"]


def test_a_newer_ledger_is_left_alone(folder: Path) -> None:
    """A file that a newer memguard wrote is not touched; the error says which versions, and what to do."""
    connection = apsw.Connection(str(folder / "ledger.sqlite"))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match=r"newer memguard \(version 99 .* runtime_dir"):
        book_in(folder)


def test_a_ledger_that_is_locked_for_a_while_is_waited_for(book: LedgerBook, folder: Path) -> None:
    """Somebody who stays in a transaction keeps others waiting, and harms nobody."""
    blocking = apsw.Connection(str(folder / "ledger.sqlite"))
    blocking.execute("BEGIN IMMEDIATE")
    began = boot_seconds()
    threading.Timer(0.3, lambda: blocking.execute("ROLLBACK")).start()
    assert book.ask(wish("patient", 100)).is_granted
    assert boot_seconds() - began >= 0.25
    blocking.close()


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    """A folder that others can write, or that belongs to another user, or is a link, holds no ledger."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(LedgerError, match="can be written by others"):
        ledger_folder(open_to_all)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(LedgerError, match="is no folder"):
        ledger_folder(link)
    if os.geteuid() == 0:
        os.chown(open_to_all, 65534, 65534)
        open_to_all.chmod(0o700)
        with pytest.raises(LedgerError, match="belongs to user 65534"):
            ledger_folder(open_to_all)


def test_a_new_ledger_that_two_open_at_once_serves_both(folder: Path) -> None:
    """SQLite refuses one of them without waiting; he tries again until the other is done."""
    other = apsw.Connection(str(folder / "ledger.sqlite"))
    other.execute("BEGIN IMMEDIATE; CREATE TABLE half_made(x)")
    tried, opened = threading.Event(), threading.Event()

    def open_it() -> None:
        tried.set()
        with book_in(folder) as book:
            book.ask(wish("a", 1))
        opened.set()

    opening = threading.Thread(target=open_it)
    opening.start()
    tried.wait()
    assert not opened.wait(0.1)
    other.execute("ROLLBACK")
    other.close()
    opening.join()
    assert opened.is_set()


def test_what_nobody_holds_any_more_is_given_back(book: LedgerBook) -> None:
    """A lease that an interrupt tore out of all hands ends with the next thing that its process does."""
    held = acquire(book, wish("lost", 900))
    kept = acquire(book, wish("kept", 50))
    del held
    assert acquire(book, wish("next", 900)).lease.is_granted
    assert granted(book.leases()) == ["kept"]
    kept.release()
    assert book.leases() == ()


def test_who_gives_up_inside_a_lease_is_told_of_that_lease_and_not_of_the_machine(book: LedgerBook) -> None:
    """Else he reads that far more is free than he asked for, and that the lease which he is part of is in his way."""
    with acquire(book, wish("around", 400)), acquire(book, wish("beside", 300, parent_id="around")):
        with pytest.raises(ReservationTimeout) as caught:
            acquire(book, wish("late", 200, parent_id="around"), timeout_s=0)
        assert str(caught.value).startswith(
            "late waited for 200 MiB, and 100 MiB are free inside around; held by beside"
        )
        assert caught.value.free_bytes == 100 * MIB
        assert len(caught.value.holders) == 1


def holding(book: LedgerBook, *names: str) -> bool:
    """Hold leases that nobody waits for, as stores do, in a process that then dies with them."""
    held = [take(book, wish(name, 1)) for name in names]
    return all(each.lease.is_granted for each in held)


@FORKS_BESIDE_THREADS
def test_a_ledger_full_of_the_dead_has_places(book: LedgerBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their leases are struck by whoever comes: nobody else might ever look, where all was granted at once."""
    monkeypatch.setattr(change, "SLOTS", 3)
    assert in_child(lambda: holding(book, "one", "two", "three"))
    assert len(book.leases()) == 3
    with acquire(book, wish("late", 10), timeout_s=0):
        assert granted(book.leases()) == ["late"]


@FORKS_BESIDE_THREADS
def test_leases_of_the_dead_do_not_pile_up(book: LedgerBook) -> None:
    """A thousand stores that were killed, one after the other, leave some tens to be read and told, and no more."""
    for number in range(0, 1000, 20):
        assert in_child(
            lambda number=number: holding(book, *(f"{each}" for each in range(number, number + 20)))
        )
    assert len(book.leases()) < 64


def test_who_finds_the_ledger_full_waits_for_a_place(
    book: LedgerBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else he would run at once without a reservation, before all who wait; inside a lease he never waits for that."""
    monkeypatch.setattr(change, "SLOTS", 2)
    asked: list[float] = []
    with acquire(book, wish("a", 10)) as held, acquire(book, wish("b", 10)):
        with pytest.raises(ReservationTimeout, match="c waited for"):
            acquire(book, wish("c", 10), timeout_s=0)
        with pytest.raises(LedgerError, match="and no more"):
            acquire(book, wish("inside", 10, parent_id="a"))

        def give_back() -> bool:
            asked.append(0.0)
            held.release()
            return False

        with acquire(book, wish("c", 10), withdrawn=give_back):
            assert granted(book.leases()) == ["b", "c"]
    assert asked
