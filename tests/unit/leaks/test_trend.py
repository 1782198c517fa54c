"""Slopes, their intervals, the probability of an order, and staircases."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.leaks.trend import mann_kendall, staircase, suffix_minima, theil_sen


def test_a_straight_line_has_its_slope_and_no_interval() -> None:
    """Points on a line give its slope exactly."""
    slope = theil_sen([1.0, 2.0, 4.0, 8.0], [3.0, 5.0, 9.0, 17.0])
    assert (slope.low, slope.middle, slope.high) == (2.0, 2.0, 2.0)


def test_two_wrong_points_of_ten_do_not_move_the_slope() -> None:
    """A fifth of outliers leaves the slope where it is."""
    values = [3.0 * place for place in range(10)]
    values[2], values[7] = 1e6, -1e6
    assert theil_sen(list(range(10)), values).middle == 3.0


@pytest.mark.parametrize("count", [4, 5, 6, 7])
def test_the_exact_probability_is_that_of_counting_all_orders(count: int) -> None:
    """For few values the probability equals the share of permutations with as much order."""
    values = [2.0, 1.0, *(float(place) for place in range(3, count + 1))]

    def score(order: tuple[float, ...]) -> int:
        return sum((b > a) - (b < a) for a, b in itertools.combinations(order, 2))

    orders = list(itertools.permutations(values))
    as_much = sum(score(order) >= score(tuple(values)) for order in orders)
    assert mann_kendall(values) == pytest.approx(as_much / len(orders))


def test_ties_are_no_order() -> None:
    """Equal values have no trend, and one rise among them is not significant."""
    assert mann_kendall([1.0] * 10) == 1.0
    assert mann_kendall([1.0] * 5 + [2.0]) > 0.05


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_suffix_minima_never_fall_and_lie_below(values: list[float]) -> None:
    """What is never given back only becomes more, and is never above what there is."""
    minima = suffix_minima(values)
    assert all(early <= late for early, late in itertools.pairwise(minima))
    assert all(low <= value for low, value in zip(minima, values, strict=True))
    assert minima[-1] == values[-1]


def test_a_ramp_has_as_many_steps_as_points_and_is_even() -> None:
    """Equal rises count each, and half of them come in the first half."""
    stairs = staircase(range(101), [float(place) for place in range(101)])
    assert stairs.steps == pytest.approx(100)
    assert stairs.first_half == pytest.approx(0.5)
    assert max(stairs.lead, stairs.lag) < 0.02


def test_one_step_is_one_step_wherever_it_comes() -> None:
    """A single rise counts once, early or late, and shows as a lead or a lag."""
    early = staircase(range(11), [0.0, *[5.0] * 10])
    late = staircase(range(11), [*[0.0] * 10, 5.0])
    assert (early.steps, late.steps) == (1.0, 1.0)
    assert early.lead > 0.85
    assert late.lag > 0.85


def test_fading_growth_leads() -> None:
    """Growth that fades has more than half of itself in the first half."""
    stairs = staircase(range(101), [1 - math.exp(-place / 25) for place in range(101)])
    assert stairs.first_half > 0.8
