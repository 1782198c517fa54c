"""What is asked of a job, as the job sees it: it waits, gives back once, and can look."""

from __future__ import annotations

import math

import pytest

from memguard.ledger.beacon import Sight
from memguard.ledger.board import Ask, Entry
from memguard.worker.asked import Asked


class Seat:
    """A seat whose words are given one after the other; the last one stays."""

    def __init__(self, *asks: Ask, at_s: float = 1.0) -> None:
        self.asks = list(asks)
        self.at_s = at_s
        self.seen: Sight | None = None

    def entry(self) -> Entry:
        asked = self.asks[0] if len(self.asks) == 1 else self.asks.pop(0)
        return Entry(used_bytes=7, asked=asked, asked_at_s=self.at_s)

    def sight(self) -> Sight | None:
        return self.seen


@pytest.mark.requirement("R6.2")
def test_it_waits_until_it_is_released() -> None:
    """As long as it is asked to wait it does, and what must go on meanwhile goes on."""
    looks: list[int] = []
    Asked(Seat(Ask.WAIT, Ask.WAIT, Ask.FROZEN, Ask.NOTHING)).heed(lambda: looks.append(1))
    assert len(looks) == 2


def test_a_wait_can_be_ended_from_inside() -> None:
    """What is called meanwhile may raise: the wait ends with that."""

    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        Asked(Seat(Ask.WAIT)).heed(fail)


@pytest.mark.requirement("R7.4")
def test_it_gives_back_once_for_each_request() -> None:
    """Whatever is asked, pools are emptied once; a new request empties them again."""
    seat, given = Seat(Ask.SHED), list[int]()
    asked = Asked(seat)
    asked.on_shed(given.append)
    asked.heed()
    asked.shed_if_asked()
    assert given == [7]
    seat.at_s = 2.0
    asked.shed_if_asked()
    assert given == [7, 7]


@pytest.mark.parametrize(
    ("what", "light", "stop"),
    [(Ask.NOTHING, False, False), (Ask.SHED, False, False), (Ask.LIGHT, True, False), (Ask.STOP, True, True)],
)
def test_what_else_is_asked_can_be_seen(what: Ask, light: bool, stop: bool) -> None:
    """Light mode and an early end are the job's own to carry out."""
    asked = Asked(Seat(what))
    assert (asked.light, asked.stop) == (light, stop)


def test_without_a_ledger_nothing_is_asked() -> None:
    """No seat, no wait, no pressure, one job."""
    asked = Asked(None)
    asked.heed()
    assert (asked.now, asked.state, asked.running, asked.light, asked.stop) == (
        Ask.NOTHING,
        0,
        1,
        False,
        False,
    )


def test_an_old_sight_says_nothing() -> None:
    """What a sentinel saw that looks no more is not believed."""
    seat = Seat(Ask.NOTHING)
    seat.seen = Sight(0.0, 1, 1, 4, 0.0, 0.99, 1, 0, 0, 0.0, math.inf, 1.0, 3)
    asked = Asked(seat)
    assert (asked.state, asked.running) == (0, 1)
