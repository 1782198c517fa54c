"""How jobs stand, in records and sentences: pure, from leases, figures and a room."""

from __future__ import annotations

import dataclasses
import time

import pytest

from memguard.host.readings import ProcessIdentity
from memguard.ledger.board import Ask, Entry
from memguard.ledger.records import Bound, Lease, Room, domain_of
from memguard.ledger.standing import JobState, Standings, stand
from memguard.units import MIB

ROOM = Room(1000 * MIB, 1000 * MIB, "test")


def lease(
    name: str, reserved: int, *, used: int | None = None, pid: int = 1, parent: str = "", **more: object
) -> Lease:
    """Return a lease of so many MiB, granted at second 10 where ``used`` is given; asked for at second 5."""
    owner = ProcessIdentity("here", "boot", pid, 1)
    granted = None if used is None else 10.0
    made = Lease(name, owner, name, reserved * MIB, (used or 0) * MIB, 0, 5.0, granted, parent, 0, 0)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def look(*leases: Lease, room: Room = ROOM, available: int | None = None, dead: int = 0) -> Standings:
    """Return how they stand on a machine on which so many MiB are unused; by default nobody else uses any."""
    used = sum(each.used_bytes for each in leases if not each.parent_id)
    left = room.capacity_bytes - used if available is None else available * MIB
    there = dataclasses.replace(room, available_bytes=left)
    return stand(leases, lambda _: Entry(), there, 30.0, lambda owner: owner.pid != dead)


def why(standings: Standings, name: str) -> str:
    """Return why one waits."""
    return next(each.waits_for for each in standings.jobs if each.lease.name == name)


def test_the_sums_are_those_of_the_machine() -> None:
    """Reserved, used and promised are summed over those who draw on the machine; who is inside one is part of it."""
    standings = look(
        lease("a", 600, used=500),
        lease("inside", 300, used=200, parent="a"),
        lease("b", 100, used=150),
        lease("waits", 900),
    )
    assert standings.reserved_bytes == 700 * MIB
    assert standings.used_bytes == 650 * MIB
    assert standings.promised_bytes == 100 * MIB
    assert standings.free_bytes == 250 * MIB
    assert (standings.running, standings.waiting) == (2, 1)
    assert [(each.lease.name, each.depth) for each in standings.jobs] == [
        ("a", 0),
        ("inside", 1),
        ("b", 0),
        ("waits", 0),
    ]


@pytest.mark.parametrize("ask", Ask)
def test_each_thing_asked_is_a_state_of_its_own(ask: Ask) -> None:
    """What the sentinel asks shows as a state; who waits is waiting whatever stands on the board."""
    jobs = stand([lease("a", 1, used=1), lease("b", 1)], lambda _: Entry(asked=ask), ROOM, 30.0).jobs
    assert jobs[0].state is list(JobState)[[0, 2, 3, 4, 5, 6, 7][ask]]
    assert jobs[1].state is JobState.WAITING


def test_who_waits_is_told_who_has_what_is_lacking() -> None:
    """What is needed, what is free, who holds how much: the largest first, and no more than three."""
    one = look(lease("job0", 600, used=500, pid=12), lease("job1", 600))
    assert why(one, "job1") == "needs 600 MiB, 400 MiB are free; held by job0 (pid 12): 600 MiB"
    many = look(*(lease(f"j{n}", 100 + n, used=100, pid=n + 2) for n in range(5)), lease("w", 600))
    held = "held by j4 (pid 6): 104 MiB, j3 (pid 5): 103 MiB, j2 (pid 4): 102 MiB, 2 more"
    assert why(many, "w") == f"needs 600 MiB, 490 MiB are free; {held}"


def test_other_programs_are_blamed_for_what_they_use() -> None:
    """Where jobs do not hold what is lacking, the rest is said to be used by others; and only where it is so."""
    alone = look(lease("w", 600), available=100)
    assert why(alone, "w") == "needs 600 MiB, 100 MiB are free; other programs use 900 MiB"
    both = look(lease("a", 200, used=50, pid=3), lease("w", 600), available=400)
    told = "needs 600 MiB, 250 MiB are free; held by a (pid 3): 200 MiB; other programs use 550 MiB"
    assert why(both, "w") == told


def test_who_is_behind_another_is_told_so() -> None:
    """The line counts: how many are before one and who, also where what one needs is free."""
    standings = look(
        lease("job0", 600, used=600, pid=2),
        lease("big", 900, pid=3),
        lease("next", 700, pid=4, asked_at_s=6.0),
        lease("small", 300, pid=5, asked_at_s=7.0),
    )
    assert why(standings, "big") == "needs 900 MiB, 400 MiB are free; held by job0 (pid 2): 600 MiB"
    before = "1 before it: big (pid 3): 900 MiB; held by job0 (pid 2): 600 MiB"
    assert why(standings, "next") == f"needs 700 MiB, 400 MiB are free; {before}"
    longer = "2 before it would wait longer: big (pid 3): 900 MiB, next (pid 4): 700 MiB"
    assert why(standings, "small") == f"needs 300 MiB, 400 MiB are free; {longer}"


def test_who_could_start_is_told_that_it_will() -> None:
    """Between the moment when memory is free and the waiter's next look nobody is blamed."""
    assert why(look(lease("w", 600)), "w") == "needs 600 MiB, 1000 MiB are free: it starts at its next look"


def test_a_wish_inside_a_lease_waits_for_those_beside_it() -> None:
    """Of a lease those inside share what is reserved; the machine's memory has no part in it."""
    standings = look(
        lease("outer", 500, used=400, pid=2),
        lease("a", 300, used=10, pid=3, parent="outer"),
        lease("b", 300, pid=4, parent="outer"),
    )
    assert why(standings, "b") == "needs 300 MiB, 200 MiB are free inside outer; held by a (pid 3): 300 MiB"


def test_while_memory_is_short_nothing_is_given_out() -> None:
    """A closed gate is the reason then, and nothing is free for jobs."""
    closed = look(lease("w", 600), room=dataclasses.replace(ROOM, is_closed=True))
    assert why(closed, "w") == "needs 600 MiB; nothing is given out while memory is short"
    assert closed.free_bytes == 0


def test_the_dead_hold_nothing() -> None:
    """A lease whose owner is proven dead is shown last, as gone; what was inside it draws on the machine."""
    standings = look(
        lease("dead", 600, used=500, pid=7),
        lease("inside", 200, used=100, pid=8, parent="dead"),
        lease("w", 700),
        available=900,
        dead=7,
    )
    assert [(each.lease.name, each.state, each.depth) for each in standings.jobs] == [
        ("inside", JobState.RUNNING, 0),
        ("w", JobState.WAITING, 0),
        ("dead", JobState.GONE, 0),
    ]
    assert standings.reserved_bytes == 200 * MIB
    assert why(standings, "w").endswith("it starts at its next look")


def test_a_share_counts_its_own_and_the_machine_counts_all() -> None:
    """Jobs of a share of the machine count against the machine; those outside it do not count in the share."""
    inside, outside = domain_of("", "1GiB"), ""
    leases = lease("in", 300, used=100, domain=inside), lease("out", 400, used=100, domain=outside)
    bounds = (Bound("", 5000 * MIB),)
    machine = dataclasses.replace(ROOM, bounds=bounds, domain=outside)
    share = dataclasses.replace(ROOM, bounds=bounds, domain=inside, share_bytes=1000 * MIB)
    assert look(*leases, room=machine).reserved_bytes == 700 * MIB
    assert look(*leases, room=share).reserved_bytes == 300 * MIB
    other = look(*leases, lease("w", 500, domain=inside), room=machine)
    assert why(other, "w").startswith("needs 500 MiB of other memory than this process's")


def test_a_thousand_that_wait_are_told_quickly() -> None:
    """The work grows with their number and not with its square."""
    waiting = [lease(f"w{n}", 600, asked_at_s=float(n)) for n in range(1000)]
    began = time.process_time()
    standings = look(lease("a", 600, used=500), *waiting)
    assert time.process_time() - began < 0.5
    assert why(standings, "w999").count("996 more") == 1
