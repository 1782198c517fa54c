"""Who may have room now, and who never will: the rules, against plain search."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.admission import Account, Request, are_deadlocked, has_turn


@dataclass(eq=False)
class Held:
    """Room that somebody has."""

    size_bytes: int
    name: str = "x"


def account(limit: int, *sizes: int) -> Account:
    return Account(limit, [Held(size) for size in sizes])


class TestTurns:
    """A request has its turn when it fits and nobody before it has a claim on the same room."""

    def test_first_come_first_served(self) -> None:
        """One that fits waits behind one that does not, and not behind one that came later."""
        shared = account(100, 40)
        large, small = Request(80, [shared]), Request(10, [shared])
        assert not has_turn(large, [large, small])
        assert not has_turn(small, [large, small])
        assert has_turn(small, [small, large])

    def test_other_accounts_are_another_matter(self) -> None:
        """A line for one budget holds up nobody who asks of another."""
        full, other = account(10, 10), account(10)
        first, second = Request(5, [full]), Request(5, [other])
        assert has_turn(second, [first, second])

    def test_who_could_not_use_the_room_has_no_claim_on_it(self) -> None:
        """While a nested budget is full, those who wait for it do not block the outer one; later they do again."""
        outer, inner = account(100), account(50, 50)
        nested, plain = Request(20, [inner, outer]), Request(90, [outer])
        assert has_turn(plain, [nested, plain])
        inner.held.clear()
        assert has_turn(nested, [nested, plain])
        assert not has_turn(plain, [nested, plain])

    @pytest.mark.requirement("R2.4")
    def test_who_holds_room_is_kept_waiting_by_nobody(self) -> None:
        """A job inside a block overtakes a request that may wait for that block."""
        block = Held(50)
        shared = Account(100, [block])
        large, inside = Request(80, [shared]), Request(30, [shared], [block])
        assert has_turn(inside, [large, inside])


class TestDeadlocks:
    """Requests whose askers hold what the others need are told from those that only have to be patient."""

    def test_two_blocks_that_need_each_others_room(self) -> None:
        """Both are stuck, in the order in which they came."""
        one, two = Held(100), Held(100)
        shared = Account(200, [one, two])
        first, second = Request(60, [shared], [one]), Request(60, [shared], [two])
        assert are_deadlocked([first, second]) == (first, second)

    def test_a_job_that_runs_will_end(self) -> None:
        """While somebody who does not wait holds enough, nobody is stuck."""
        one, two = Held(50), Held(50)
        shared = Account(200, [one, two, Held(100)])
        line = [Request(60, [shared], [one]), Request(60, [shared], [two])]
        assert are_deadlocked(line) == ()

    def test_across_budgets(self) -> None:
        """A circle through two budgets is seen."""
        one, two = Held(9), Held(9)
        left, right = Account(10, [one]), Account(10, [two])
        line = [Request(5, [right], [one]), Request(5, [left], [two])]
        assert are_deadlocked(line) == tuple(line)
        assert are_deadlocked(line[:1]) == ()

    def test_who_holds_nothing_is_never_to_blame(self) -> None:
        """A request without holdings waits as long as it takes."""
        assert are_deadlocked([Request(5, [account(10, 10)])]) == ()

    @given(
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), max_size=4),
        st.integers(0, 6),
        st.integers(6, 12),
    )
    def test_the_same_as_trying_every_order(
        self, waiters: list[tuple[int, int]], running: int, limit: int
    ) -> None:
        """Nobody is stuck exactly when, in some order, everybody can be served and then gives back all he has."""
        holdings = [Held(size) for size, _ in waiters]
        shared = Account(limit, [*holdings, Held(running)])
        line = [
            Request(wanted, [shared], [held]) for (_, wanted), held in zip(waiters, holdings, strict=True)
        ]
        stuck = are_deadlocked(line)
        assert bool(stuck) is not any(
            served_in_order(order, limit) for order in itertools.permutations(waiters)
        )
        assert list(stuck) == [each for each in line if each in stuck]


def served_in_order(order: tuple[tuple[int, int], ...], limit: int) -> bool:
    """Whether these can be served one after the other, each ending before the next, when all that run have ended."""
    held = sum(size for size, _ in order)
    for size, wanted in order:
        if held + wanted > limit:
            return False
        held -= size
    return True
