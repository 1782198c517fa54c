"""Whom it meets: the one that is most over what it asked for, and nobody who keeps to it while another does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.guard.victims import choose_victims, in_order_of_blame
from memguard.host.readings import ProcessIdentity
from memguard.ledger.records import Lease
from memguard.units import MIB

OWNER = ProcessIdentity("here", "boot", 1, 1)


def job(name: str, reserved: int, used: int, *, priority: int = 0, since: float = 1.0) -> Lease:
    """Return a running job with so many MiB."""
    return Lease(name, OWNER, name, reserved * MIB, used * MIB, priority, since, since, "", 0, 0)


jobs = st.lists(
    st.builds(
        lambda n, r, u, p, s: job(f"j{n}", r, u, priority=p, since=s),
        st.integers(0, 10**6), st.integers(0, 50), st.integers(0, 100), st.integers(-2, 2), st.floats(0, 100),
    ),
    max_size=8,
    unique_by=lambda each: each.lease_id,
)  # fmt: skip


@pytest.mark.requirement("R6.2", "R2.4")
@given(jobs, st.integers(1, 300))
def test_nobody_innocent_while_somebody_is_guilty(running: list[Lease], wanted: int) -> None:
    """As long as one is over its reservation, only such are stopped; and never more of them than it takes."""
    chosen = choose_victims(running, wanted * MIB)
    if any(each.overrun_bytes for each in running):
        assert all(victim.lease.overrun_bytes > 0 for victim in chosen)
    assert sum(victim.frees_bytes for victim in chosen[:-1]) < wanted * MIB
    assert len({victim.lease.lease_id for victim in chosen}) == len(chosen)


def test_the_order_of_blame() -> None:
    """Overrun, then low priority, then the youngest."""
    running = [
        job("honest old", 10, 5, since=1),
        job("honest young", 10, 5, since=9),
        job("honest low", 10, 5, priority=-1),
        job("over by 5", 10, 15),
        job("over by 50", 10, 60, priority=5),
    ]
    names = [lease.name for lease in in_order_of_blame(running)]
    assert names == ["over by 50", "over by 5", "honest low", "honest young", "honest old"]


def test_each_is_told_why_it_and_not_another() -> None:
    """The sentence has the figures that decided."""
    liar, honest = job("liar", 100, 400), job("honest", 600, 500)
    (victim,) = choose_victims([honest, liar], 10 * MIB)
    assert (victim.lease.name, victim.frees_bytes) == ("liar", 400 * MIB)
    assert victim.why == "it uses 300 MiB beyond the 100 MiB reserved; nobody else does"
    (victim,) = choose_victims([honest, job("low", 60, 50, priority=-1)], 10 * MIB)
    assert victim.why == "all keep to their reservation, and its priority -1 is the lowest"
    (victim,) = choose_victims([honest, job("young", 60, 50, since=9)], 10 * MIB)
    assert victim.why == "all keep to their reservation, and it has run for the shortest time"
    (victim,) = choose_victims([honest], 10 * MIB)
    assert victim.why.startswith("no other job")


def test_who_waits_or_uses_nothing_is_left_alone() -> None:
    """Stopping it would free nothing."""
    waiting = Lease("w", OWNER, "w", 5, 0, 0, 1.0, None, "", 0, 0)
    assert choose_victims([waiting, job("new", 100, 0)], MIB) == []
