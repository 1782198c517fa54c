"""Who gets memory next: pure decisions, held against a model that tries every way in which leases can end."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.host.readings import ProcessIdentity
from memguard.ledger.admission import AGING_S, admitted, can_grow, free_bytes, in_order, slack_bytes
from memguard.ledger.records import Lease, Room
from memguard.units import MIB

OWNER = ProcessIdentity("here", "boot", 1, 1)


def lease(name: str, reserved: int, *, used: int = 0, priority: int = 0, asked: float = 0.0) -> Lease:
    """Return a lease of so many MiB."""
    return Lease(name, OWNER, name, reserved * MIB, used * MIB, priority, asked, None, "", 0, 0)


def room(capacity: int, used: int = 0) -> Room:
    """Return a room of so many MiB."""
    return Room(capacity * MIB, (capacity - used) * MIB, "test")


def names(leases: list[Lease]) -> list[str]:
    """Return who they are."""
    return [each.name for each in leases]


sizes = st.integers(1, 12)
holders = st.lists(st.builds(lambda r, u: lease("h", r, used=u), sizes, sizes), max_size=5)
waiters = st.lists(
    st.builds(
        lambda n, r, p, a: lease(f"w{n}", r, priority=p, asked=a),
        st.integers(0, 10**6), sizes, st.integers(-1, 1), st.floats(0, 200),
    ),
    max_size=5,
    unique_by=lambda each: each.lease_id,
)  # fmt: skip


@pytest.mark.requirement("R1.3", "T1.2")
@given(holders, waiters, st.integers(0, 30), st.floats(200, 400))
def test_never_more_is_promised_than_there_is(
    granted: list[Lease], waiting: list[Lease], spare: int, now: float
) -> None:
    """What is used and what is promised beyond that stay inside the capacity, whatever is asked for."""
    used = sum(each.used_bytes for each in granted) // MIB
    outstanding = sum(each.outstanding_bytes for each in granted) // MIB
    there = room(used + outstanding + spare, used)
    chosen = admitted(there, granted, waiting, now)
    assert free_bytes(there, [*granted, *chosen]) >= 0
    assert len({each.lease_id for each in chosen}) == len(chosen)


@given(holders, waiters, st.integers(0, 30), st.floats(200, 400))
def test_nobody_behind_makes_the_first_wait_longer(
    granted: list[Lease], waiting: list[Lease], spare: int, now: float
) -> None:
    """Whichever leases end, the first in line could start after them just as it could if nobody had passed it."""
    used = sum(each.used_bytes for each in granted)
    outstanding = sum(each.outstanding_bytes for each in granted)
    there = Room(used + outstanding + spare * MIB, outstanding + spare * MIB, "test")
    chosen = admitted(there, granted, waiting, now)
    blocked = [each for each in in_order(waiting, now) if each not in chosen]
    if not blocked:
        return
    line = in_order(waiting, now)
    before = [each for each in chosen if line.index(each) < line.index(blocked[0])]
    passed = [each for each in chosen if line.index(each) > line.index(blocked[0])]
    free = free_bytes(there, [*granted, *before])
    taken = sum(each.reserved_bytes for each in passed)
    there_first = [*granted, *before]
    for count in range(len(there_first) + 1):
        for ended in itertools.combinations(there_first, count):
            after = free + sum(each.held_bytes for each in ended)
            assert after < blocked[0].reserved_bytes or after - taken >= blocked[0].reserved_bytes


@given(holders, waiters, st.floats(200, 400))
def test_an_empty_machine_lets_somebody_start(granted: list[Lease], waiting: list[Lease], now: float) -> None:
    """When everybody who held memory has ended, the first in line starts: nobody waits for ever."""
    there = room(12)
    if waiting:
        assert in_order(waiting, now)[0] in admitted(there, [], waiting, now)


def test_small_ones_pass_where_they_do_no_harm() -> None:
    """Behind one who waits for the large holder, what is left beside him may be used; not a byte more."""
    granted = [lease("large", 700)]
    waiting = [lease("first", 800, asked=1), lease("fits", 150, asked=2), lease("harms", 151, asked=3)]
    assert names(admitted(room(1000), granted, waiting, 5)) == ["fits"]
    waiting[1] = lease("more", 201, asked=2)
    assert names(admitted(room(1000), granted, waiting, 5)) == ["harms"]
    waiting[2] = lease("too much", 202, asked=2)
    assert names(admitted(room(1000), granted, waiting, 5)) == []


def test_a_first_one_that_only_everybody_could_make_room_for_is_not_passed() -> None:
    """Where even the end of all leases leaves nothing to spare, nobody passes."""
    granted = [lease("a", 300), lease("b", 300)]
    waiting = [lease("first", 1000, asked=1), lease("tiny", 1, asked=2)]
    assert admitted(room(1000), granted, waiting, 5) == []


def test_priority_then_age() -> None:
    """A higher priority goes first, equal ones in the order in which they came; who waits long is raised."""
    early, late, high = (
        lease("early", 1, asked=1),
        lease("late", 1, asked=2),
        lease("high", 1, priority=1, asked=3),
    )
    assert names(in_order([late, high, early], 4)) == ["high", "early", "late"]
    assert names(in_order([late, high, early], 1 + AGING_S)) == ["early", "high", "late"]


def test_use_is_not_counted_twice() -> None:
    """What a job uses already is part of the machine's use; only the rest of its promise is taken off."""
    granted = [lease("half", 600, used=300), lease("liar", 100, used=250)]
    assert free_bytes(room(1000, used=550), granted) == (1000 - 550 - 300) * MIB


def test_growing_never_passes_those_who_wait() -> None:
    """A lease grows into what is free, unless somebody waits for it."""
    granted = [lease("a", 600)]
    assert can_grow(room(1000), granted, [], 400 * MIB)
    assert not can_grow(room(1000), granted, [], 401 * MIB)
    assert not can_grow(room(1000), granted, [lease("w", 900)], 1)


@given(st.integers(1, 40), st.integers(0, 39), holders)
def test_slack_errs_towards_the_first(wanted: int, free: int, granted: list[Lease]) -> None:
    """It is never more than what the tightest set of ended leases leaves."""
    found = slack_bytes(wanted * MIB, free * MIB, granted)
    sums = (
        sum(each.held_bytes for each in ended)
        for count in range(len(granted) + 1)
        for ended in itertools.combinations(granted, count)
    )
    left = [free * MIB + total - wanted * MIB for total in sums if free * MIB + total >= wanted * MIB]
    assert 0 <= found <= min(left, default=0)


def test_who_would_be_alone_may_have_a_part_of_the_reserve() -> None:
    """Else several who wait for nearly all could wait for ever for what they use themselves while they wait."""
    there = Room(900 * MIB, 860 * MIB, "test", spare_bytes=50 * MIB)
    waiting = [lease("first", 900, asked=1), lease("second", 10, asked=2)]
    assert names(admitted(there, [], waiting, 5)) == ["first"]
    assert names(admitted(there, [lease("holds", 1)], waiting, 5)) == []
    assert names(admitted(there, [], [lease("more", 911)], 5)) == []
    assert names(admitted(Room(900 * MIB, 860 * MIB, "test"), [], waiting, 5)) == []


def test_hundreds_that_wait_are_decided_about_in_a_moment() -> None:
    """Whoever decides keeps all others from the ledger meanwhile, also on a machine of a TiB."""
    there = room(1024 * 1024)
    granted = [lease(f"h{each}", 1310 + each % 7) for each in range(400)]
    waiting = [lease("first", 900 * 1024, asked=1)]
    waiting += [lease(f"w{each}", 600 + each, asked=2 + each) for each in range(400)]
    began_s = time.process_time()
    admitted(there, granted, waiting, 30.0)
    assert time.process_time() - began_s < 1.0
