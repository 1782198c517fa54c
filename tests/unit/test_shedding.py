"""Caches and pools that give memory back on request: who is asked, for how much, and what is told of it."""

from __future__ import annotations

import gc
import mmap
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import memguard
from memguard import CleanupManager, register_sheddable
from memguard.cleanup import HandlerOutcome
from memguard.host import read_process_memory
from memguard.memory import shed_all, shedding
from tests.support.forks import FORKS_BESIDE_THREADS, held_by_another, in_child

MIB = 1024**2
# The table of this process, where parts of the engine may be registered.
REAL = shedding._members


class Cache:
    """Holds so many bytes and gives back what is wanted."""

    def __init__(self, name: str, held_bytes: int, answer: Callable[[int], Any] | None = None) -> None:
        self.name, self.held_bytes, self.answer = name, held_bytes, answer
        self.asked: list[int] = []

    def shed(self, wanted_bytes: int) -> Any:
        self.asked.append(wanted_bytes)
        given = min(wanted_bytes, self.held_bytes)
        self.held_bytes -= given
        return given if self.answer is None else self.answer(wanted_bytes)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start from nobody known, and hold that nobody is left."""
    monkeypatch.setattr(shedding, "_members", shedding._Members())
    yield
    assert shed_all(1) == ()


def told(wanted_bytes: int) -> list[tuple[str, int, int]]:
    return [(each.name, each.asked_bytes, each.given_back_bytes) for each in shed_all(wanted_bytes)]


@pytest.mark.requirement("R7.4", "T5.2")
def test_the_largest_holder_is_asked_first_until_there_is_enough() -> None:
    """Each is asked for what the ones before it left over; who is not needed, or holds nothing, is left alone."""
    caches = [Cache("small", 10), Cache("large", 100), Cache("empty", 0), Cache("middle", 50)]
    for cache in caches:
        register_sheddable(cache)
    assert told(120) == [("large", 120, 100), ("middle", 20, 20)]
    assert told(1000) == [("middle", 1000, 30), ("small", 970, 10)]
    assert told(0) == []


@given(st.lists(st.integers(0, 100), max_size=8), st.integers(-5, 500))
def test_what_is_wanted_is_given_as_far_as_there_is(held: list[int], wanted: int) -> None:
    """All together give back what was wanted, or all that they hold; nobody gives what was not asked for."""
    caches = [Cache(str(number), size) for number, size in enumerate(held)]
    for cache in caches:
        register_sheddable(cache)
    given = sum(each.given_back_bytes for each in shed_all(wanted))
    assert given == max(0, min(wanted, sum(held)))
    assert sum(cache.held_bytes for cache in caches) == sum(held) - given


def test_registering_keeps_nobody_alive() -> None:
    """A pool dies by its last reference, and is out then; asking leaves nothing that holds it."""
    cache = Cache("mine", 10)
    register_sheddable(cache)
    gone = weakref.ref(cache)
    gc.disable()
    try:
        assert told(5) == [("mine", 5, 5)]
        del cache
        assert gone() is None
    finally:
        gc.enable()
    assert told(5) == []
    register_sheddable(Cache("next", 1))
    assert len(shedding._members._members) == 1


def test_who_is_taken_out_is_asked_no_more() -> None:
    """The function that registering returns takes it out, once or many times; twice in, it is asked once."""
    cache = Cache("twice", 10)
    takes_out = [register_sheddable(cache), register_sheddable(cache)]
    assert told(5) == [("twice", 5, 5)]
    takes_out[0]()
    takes_out[0]()
    assert told(2) == [("twice", 2, 2)]
    takes_out[1]()
    assert told(2) == []


class Dumb(Cache):
    """Cannot say what it holds, or what it is called."""

    @property
    def held_bytes(self) -> int:
        raise ValueError("lost count")

    @held_bytes.setter
    def held_bytes(self, _: int) -> None:
        """Forget it."""

    @property
    def name(self) -> str:
        raise ValueError("lost name")

    @name.setter
    def name(self, _: str) -> None:
        """Forget it."""


def fail(_: int) -> int:
    raise OSError("disk on fire")


@pytest.mark.parametrize(
    ("bad", "name", "error"),
    [
        (Cache("bad", 99, fail), "bad", "OSError: disk on fire"),
        (Cache("bad", 99, lambda _: None), "bad", "said None instead of the bytes that it gave back"),
        (Cache("bad", 99, lambda _: True), "bad", "said True instead of the bytes that it gave back"),
        (Cache("bad", 99, lambda _: -5), "bad", "said that it gave back -5 bytes"),
        (Dumb("bad", 99), "Dumb", "cannot say what it holds: ValueError: lost count"),
    ],
    ids=["raises", "nothing", "no number", "less than nothing", "dumb"],
)
def test_what_one_does_wrong_is_told_and_keeps_nobody_from_his_turn(bad: Any, name: str, error: str) -> None:
    """An error is in the result of the one who made it, counts as nothing given, and the next one is asked."""
    good = Cache("good", 10)
    takes_out = [register_sheddable(bad), register_sheddable(good)]
    results = shed_all(8)
    assert [(each.name, each.given_back_bytes, each.error) for each in results] == [
        (name, 0, error),
        ("good", 8, ""),
    ]
    for take_out in takes_out:
        take_out()


def test_an_answer_may_be_a_number_of_numpy() -> None:
    """What counts as a whole number elsewhere does so here."""
    cache = Cache("numpy", 10, np.int64)
    register_sheddable(cache)
    assert told(5) == [("numpy", 5, 5)]


def test_who_is_being_asked_is_not_asked_in_the_midst_of_it() -> None:
    """A pool that asks for memory itself while it gives back is passed over, and asked again afterwards."""
    inner: list[Any] = []

    def ask_others(_: int) -> int:
        inner.append(told(1))
        return 0

    first, second = Cache("first", 100, ask_others), Cache("second", 10)
    register_sheddable(first)
    register_sheddable(second)
    assert told(4) == [("first", 4, 0), ("second", 4, 4)]
    assert inner == [[("second", 1, 1)]]
    assert told(1)[0][0] == "first"


@FORKS_BESIDE_THREADS
def test_a_forked_copy_asks_its_own_pools() -> None:
    """Whoever held the lock or was being asked at the fork: the copy has its pools and can ask them all."""
    inside, release = threading.Event(), threading.Event()

    def wait(_: int) -> int:
        inside.set()
        release.wait(30)
        return 0

    slow = Cache("slow", 100, wait)
    register_sheddable(slow)
    asking = threading.Thread(target=shed_all, args=(1,))
    asking.start()
    assert inside.wait(30)

    def ask_in_copy() -> bool:
        shedding._members.start_over()  # what the hook does for the table of the process, which a test must not fill
        release.set()
        return told(1) == [("slow", 1, 0)]

    with held_by_another(shedding._members._lock):
        assert in_child(ask_in_copy)
    release.set()
    asking.join()


@FORKS_BESIDE_THREADS
def test_the_lock_of_the_process_is_renewed_at_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook is there: a copy made while another thread holds the real table's lock does not hang."""
    with monkeypatch.context() as inner:
        inner.setattr(shedding, "_members", REAL)
        with held_by_another(shedding._members._lock):
            assert in_child(lambda: shed_all(0) == ())


@pytest.mark.requirement("R7.4", "T5.2", "R6.3")
def test_an_emergency_asks_the_pools_first_and_tells_of_it() -> None:
    """Real memory of a real cache is given back and measured; its error, too, is in the report."""

    class Blocks:
        """Blocks of memory."""

        name = "blocks"

        def __init__(self) -> None:
            # Mapped: what the C library hands out it may keep when it is freed.
            self.blocks = [mmap.mmap(-1, 4 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(10)]
            for block in self.blocks:
                block.write(bytes([1]) * (4 * MIB))

        @property
        def held_bytes(self) -> int:
            return sum(len(block) for block in self.blocks)

        def shed(self, _: int) -> int:
            before, self.blocks = self.held_bytes, []
            return before

    blocks, bad = Blocks(), Cache("bad", 1, fail)
    register_sheddable(blocks)
    take_out = register_sheddable(bad)
    before = read_process_memory().private_bytes
    (report,) = memguard.emergency_memory_cleanup()
    # Less than 40 MiB, for an emergency may be the first to import what it needs.
    assert before - read_process_memory().private_bytes > 35 * MIB
    assert report.order == ("blocks", "bad", "garbage collection")
    assert report.results[0].freed_bytes == 40 * MIB
    assert report.measured_bytes is not None
    assert report.measured_bytes > 35 * MIB
    assert report.failures == ("bad failed: OSError: disk on fire",)
    take_out()


def test_an_emergency_asks_the_others_for_what_the_pools_left_over() -> None:
    """A target that the pools meet leaves nothing for what a manager has; else it is asked for the rest."""
    pool, own = Cache("pool", 60), Cache("own", 100)
    register_sheddable(pool)
    with CleanupManager() as cleanup:
        cleanup.register_sheddable("own", own)
        cleanup.run_emergency(target_bytes=50)
        assert (pool.asked, own.asked) == ([50], [])
        cleanup.run_emergency(target_bytes=50)
        assert (pool.asked, own.asked) == ([50, 50], [40])


def test_ctrl_c_in_a_pool_ends_no_cleanup() -> None:
    """An interrupt in the midst of a pool is raised after the other stages, and what was done before it is told."""

    def interrupt(_: int) -> int:
        raise KeyboardInterrupt

    first, second = Cache("first", 100), Cache("second", 10, interrupt)
    register_sheddable(first)
    take_out = register_sheddable(second)
    with CleanupManager() as cleanup:
        with pytest.raises(KeyboardInterrupt):
            cleanup.run_emergency()
        assert cleanup.last_report is not None
        assert cleanup.last_report.order == ("first", "garbage collection")
        assert HandlerOutcome.OK in {each.outcome for each in cleanup.last_report.results}
    take_out()
