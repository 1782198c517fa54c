"""Sharing a budget inside one process: what is granted, who waits, what happens to those who cannot be served."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from memguard.allocator import Reservation, ResourceAllocator, _book
from memguard.errors import CapacityExceeded, JobInterrupted, ReservationTimeout
from memguard.units import MIB


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def allocator(mib: int = 100, parent: ResourceAllocator | None = None) -> ResourceAllocator:
    return ResourceAllocator(mib * MIB, name="test" if parent is None else "inner", parent=parent)


class Line:
    """Puts threads into an allocator's line one after the other, so that their order is certain."""

    def __init__(self, shared: ResourceAllocator, threads: ThreadPoolExecutor) -> None:
        self.shared, self.threads = shared, threads

    def join(self, mib: int, name: str, then: Callable[[Reservation], None]) -> Future[None]:
        waiting = self.shared.statistics().waiting
        future = self.threads.submit(lambda: then(self.shared.reserve(mib * MIB, name)))
        while self.shared.statistics().waiting == waiting and not future.done():
            threading.Event().wait(0.001)
        return future


@pytest.mark.requirement("T1.2")
def test_room_is_given_and_given_back() -> None:
    """What is reserved is not free, what is released is, and releasing twice counts once."""
    shared = allocator()
    first = shared.reserve(60 * MIB, "first")
    assert shared.free_bytes == 40 * MIB
    with shared.reserve(40 * MIB, "second") as second:
        assert (second.name, second.size_bytes, shared.free_bytes) == ("second", 40 * MIB, 0)
        assert repr(second) == "Reservation('second', 40 MiB)"
    first.release()
    first.release()
    assert shared.free_bytes == 100 * MIB
    figures = shared.statistics()
    assert (figures.reservations, figures.reserved_bytes, figures.granted, figures.waiting) == (0, 0, 2, 0)


def test_an_error_in_a_block_releases() -> None:
    """However a block ends, its room is free again."""
    shared = allocator()
    with pytest.raises(ValueError, match="mine"), shared.reserve(MIB, "x"):
        raise ValueError("mine")
    assert shared.free_bytes == 100 * MIB


@pytest.mark.parametrize("mib", [101, 10_000])
def test_more_than_the_budget_is_refused_at_once(mib: int) -> None:
    """What can never be given is not waited for; the error has the figures."""
    with pytest.raises(CapacityExceeded, match=r"big asks for .* of a budget of 100 MiB \(test\)") as caught:
        allocator().reserve(mib * MIB, "big")
    assert (caught.value.requested_bytes, caught.value.capacity_bytes) == (mib * MIB, 100 * MIB)
    assert caught.value.limited_by == "test"


def test_a_negative_size_is_no_size() -> None:
    """Nobody makes room for others by asking for less than nothing."""
    shared = allocator()
    with pytest.raises(ValueError, match="not negative"):
        shared.reserve(-1, "x")
    held = shared.reserve(10, "x")
    with pytest.raises(ValueError, match="not negative"):
        held.grow_nowait(-5)
    assert shared.free_bytes == 100 * MIB - 10


@pytest.mark.requirement("T1.2", "T5.1")
def test_waiters_are_served_in_turn(threads: ThreadPoolExecutor) -> None:
    """A small request that would fit waits behind a large one that came before it."""
    shared, served = allocator(), []
    line = Line(shared, threads)
    holder = shared.reserve(70 * MIB, "holder")

    def keep(reservation: Reservation) -> None:
        served.append(reservation.name)
        reservation.release()

    futures = [line.join(mib, f"asks {mib}", keep) for mib in (80, 10, 90, 20)]
    assert shared.statistics().waiting == 4
    assert served == []
    holder.release()
    for future in futures:
        future.result(timeout=30)
    assert served == ["asks 80", "asks 10", "asks 90", "asks 20"]
    assert shared.statistics().waited_s > 0


def test_not_waiting_at_all() -> None:
    """A timeout of 0 asks once: granted if there is room, else refused with who holds what."""
    shared = allocator()
    held = shared.reserve(80 * MIB, "holder", timeout_s=0)
    with pytest.raises(ReservationTimeout) as caught:
        shared.reserve(30 * MIB, "late", timeout_s=0)
    assert (
        str(caught.value) == "late waited for 30 MiB, and 20 MiB of 100 MiB are free; held by holder: 80 MiB"
    )
    assert isinstance(caught.value, TimeoutError)
    held.release()
    shared.reserve(100 * MIB, "now", timeout_s=0).release()


def test_who_gives_up_holds_up_nobody(threads: ThreadPoolExecutor) -> None:
    """The one behind a waiter that timed out is served, though nothing was released meanwhile."""
    shared = allocator()
    holder = shared.reserve(50 * MIB, "holder")
    impatient = threads.submit(shared.reserve, 90 * MIB, "impatient", timeout_s=0.05)
    behind = threads.submit(shared.reserve, 20 * MIB, "behind", timeout_s=30)
    assert isinstance(impatient.exception(timeout=30), ReservationTimeout)
    behind.result(timeout=30).release()
    holder.release()


def test_a_wish_is_withdrawn(threads: ThreadPoolExecutor) -> None:
    """A waiter that is told to go leaves the line; one that waits for nothing is not asked."""
    shared = allocator()
    gone = threading.Event()
    assert shared.reserve(MIB, "at once", withdrawn=lambda: True).size_bytes == MIB
    holder = shared.reserve(99 * MIB, "holder")
    future = threads.submit(shared.reserve, 50 * MIB, "asks", withdrawn=gone.is_set)
    while shared.statistics().waiting == 0:
        threading.Event().wait(0.001)
    shared.wake_waiters()
    assert not future.done()
    gone.set()
    shared.wake_waiters()
    assert isinstance(future.exception(timeout=30), JobInterrupted)
    assert shared.statistics().waiting == 0
    holder.release()


def test_growing_never_waits(threads: ThreadPoolExecutor) -> None:
    """A reservation grows only into free room that nobody waits for, and not after its release."""
    shared = allocator()
    held = shared.reserve(50 * MIB, "held")
    assert held.grow_nowait(30 * MIB)
    assert not held.grow_nowait(30 * MIB)
    assert (held.size_bytes, shared.free_bytes) == (80 * MIB, 20 * MIB)
    future = Line(shared, threads).join(30, "waits", Reservation.release)
    assert not held.grow_nowait(10 * MIB)
    held.release()
    future.result(timeout=30)
    assert not held.grow_nowait(MIB)
    assert shared.free_bytes == 100 * MIB


class TestNested:
    """An allocator inside another one: what is reserved inside is reserved outside too."""

    def test_both_count(self) -> None:
        """Inner reservations take of the outer budget, and give back to it."""
        outer = allocator(100)
        inner = allocator(80, outer)
        with inner.reserve(60 * MIB, "job") as held:
            assert (inner.free_bytes, outer.free_bytes) == (20 * MIB, 40 * MIB)
            assert [(each.name, size) for each, size in held.lineage()] == [
                ("inner", 60 * MIB),
                ("test", 60 * MIB),
            ]
            assert held.grow_nowait(10 * MIB)
            assert outer.free_bytes == 30 * MIB
        assert (inner.free_bytes, outer.free_bytes) == (80 * MIB, 100 * MIB)

    def test_the_outer_budget_is_the_last_word(self) -> None:
        """Room inside is of no use without room outside; a failed request leaves nothing behind."""
        outer = allocator(100)
        inner = allocator(80, outer)
        holder = outer.reserve(70 * MIB, "holder")
        with pytest.raises(ReservationTimeout, match="holder: 70 MiB"):
            inner.reserve(50 * MIB, "job", timeout_s=0.01)
        assert (inner.free_bytes, outer.free_bytes) == (80 * MIB, 30 * MIB)
        held = inner.reserve(20 * MIB, "small")
        assert not held.grow_nowait(20 * MIB)
        assert held.size_bytes == 20 * MIB
        holder.release()

    def test_what_the_outer_budget_can_never_give_is_not_waited_for(self) -> None:
        """A request larger than the outer budget is refused at once, though the inner one is busy."""
        outer = allocator(100)
        inner = allocator(200, outer)
        with inner.reserve(90 * MIB, "busy"), pytest.raises(CapacityExceeded, match=r"100 MiB \(test\)"):
            inner.reserve(150 * MIB, "job")

    def test_a_wish_outside_is_withdrawn(self, threads: ThreadPoolExecutor) -> None:
        """Waking the inner allocator reaches who waits in the outer one."""
        outer = allocator(100)
        inner = allocator(80, outer)
        gone = threading.Event()
        with outer.reserve(70 * MIB, "holder"):
            future = threads.submit(inner.reserve, 50 * MIB, "asks", withdrawn=gone.is_set)
            while outer.statistics().waiting == 0:
                threading.Event().wait(0.001)
            gone.set()
            inner.wake_waiters()
            assert isinstance(future.exception(timeout=30), JobInterrupted)
        assert (inner.free_bytes, outer.free_bytes) == (80 * MIB, 100 * MIB)

    def test_nobody_waits_for_itself(self) -> None:
        """Who holds room already, here or outside, is refused what only its own release could give."""
        outer = allocator(100)
        inner = allocator(80, outer)
        block = inner.reserve(60 * MIB, "block")
        with pytest.raises(CapacityExceeded, match="block around it holds 60 MiB"):
            inner.reserve(30 * MIB, "job", held=[block])
        with pytest.raises(CapacityExceeded, match="start job outside of it"):
            outer.reserve(50 * MIB, "job", held=[block])
        inner.reserve(20 * MIB, "job", held=[block]).release()


def test_many_threads_never_overbook() -> None:
    """A crowd that reserves, grows and releases never holds more than the budget, and ends with nothing."""
    shared, overbooked = allocator(100), []

    def crowd(seed: int) -> None:
        for step in range(60):
            with shared.reserve((seed * 7 + step * 13) % 60 * MIB, f"{seed}") as held:
                held.grow_nowait(20 * MIB)
                if shared.free_bytes < 0:
                    overbooked.append(seed)

    workers = [threading.Thread(target=crowd, args=(seed,)) for seed in range(8)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert overbooked == []
    assert shared.free_bytes == 100 * MIB


def test_a_forked_copy_starts_empty() -> None:
    """A child made by fork holds nothing of its parent's, though a thread of the parent had the lock."""
    shared = allocator()
    held = shared.reserve(90 * MIB, "parent")
    # The lock is held while the fork happens, as it may be at any moment.
    _book.lock.acquire()
    pid = os.fork()
    if pid == 0:
        fine = shared.free_bytes == 100 * MIB and shared.reserve(100 * MIB, "child").size_bytes == 100 * MIB
        held.release()
        os._exit(0 if fine else 1)
    _book.lock.release()
    assert os.waitpid(pid, 0)[1] == 0
    assert shared.free_bytes == 10 * MIB


class TestHolding:
    """Who holds room and asks for more: a job started inside a block."""

    @pytest.mark.requirement("R2.4")
    def test_two_that_need_each_others_room(self, threads: ThreadPoolExecutor) -> None:
        """The last of those who would wait for each other is refused at once, and the other gets his room."""
        shared = allocator(200)
        one, two = shared.reserve(100 * MIB, "one"), shared.reserve(100 * MIB, "two")
        first = threads.submit(shared.reserve, 60 * MIB, "first", held=[one])
        while shared.statistics().waiting == 0:
            threading.Event().wait(0.001)
        with pytest.raises(ReservationTimeout, match="would wait for ever for 60 MiB") as caught:
            shared.reserve(60 * MIB, "second", held=[two])
        assert caught.value.holders == ("one: 100 MiB", "two: 100 MiB")
        assert not first.done()
        two.release()
        first.result(timeout=30).release()
        one.release()
        assert shared.free_bytes == 200 * MIB

    def test_the_line_does_not_hold_up_who_is_waited_for(self, threads: ThreadPoolExecutor) -> None:
        """A job inside a block is not kept waiting by a stranger who waits for that very block."""
        shared = allocator(200)
        block = shared.reserve(100 * MIB, "block")
        stranger = Line(shared, threads).join(150, "stranger", Reservation.release)
        shared.reserve(60 * MIB, "job", held=[block]).release()
        assert not stranger.done()
        block.release()
        stranger.result(timeout=30)

    def test_who_begins_to_wait_is_told_for_whom(self, threads: ThreadPoolExecutor) -> None:
        """The callback has the holders' names and sizes, is called once, and not for who need not wait."""
        shared, told = allocator(100), []
        holder = shared.reserve(70 * MIB, "holder", on_wait=told.append)
        future = threads.submit(shared.reserve, 50 * MIB, "asks", on_wait=told.append)
        while not told:
            threading.Event().wait(0.001)
        holder.release()
        future.result(timeout=30).release()
        assert told == ["holder: 70 MiB"]
