"""Trends of short series: slope with its interval, its probability, how evenly growth came. Pure, and without NumPy.

Sources: P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968), for slope and
interval; M. G. Kendall, "Rank correlation methods" (1975), for the distribution of S and its variance with ties.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Slope", "Staircase", "mann_kendall", "staircase", "suffix_minima", "theil_sen"]

# Up to here the distribution of S is counted out; beyond it the normal one is close.
_MOST_EXACT = 12


@dataclass(frozen=True, slots=True)
class Slope:
    """The median of the slopes between all pairs of points, and the interval (95 %) that the pairs leave it."""

    middle: float
    low: float
    high: float


def theil_sen(places: Sequence[float], values: Sequence[float]) -> Slope:
    """Estimate a slope; up to 29 % of the points may be wrong.

    Args:
        places: increasing.
        values: as many.
    """
    pairs = itertools.combinations(zip(places, values, strict=True), 2)
    slopes = sorted((late - early) / (there - here) for (here, early), (there, late) in pairs)
    if not slopes:
        return Slope(0.0, 0.0, 0.0)
    count = len(values)
    spread = 1.96 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, int((len(slopes) - spread) / 2))
    return Slope(statistics.median(slopes), slopes[low], slopes[-1 - low])


def mann_kendall(values: Sequence[float]) -> float:
    """Return the probability of as much order upwards, if the values were in random order; 0 to 1."""
    count = len(values)
    if count < 3:
        return 1.0
    score = sum((late > early) - (late < early) for early, late in itertools.combinations(values, 2))
    ties = [times for times in Counter(values).values() if times > 1]
    if count <= _MOST_EXACT and not ties:
        return _exact_probability(count, score)
    variance = count * (count - 1) * (2 * count + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)
    if variance <= 0:
        return 1.0
    z = (score - 1) / math.sqrt(variance / 18)
    return 0.5 * math.erfc(z / math.sqrt(2))


def _exact_probability(count: int, score: int) -> float:
    pairs = count * (count - 1) // 2
    fewest_inversions = (pairs - score) // 2
    return sum(_inversions(count)[: fewest_inversions + 1]) / math.factorial(count)


@functools.lru_cache(maxsize=_MOST_EXACT)
def _inversions(count: int) -> tuple[int, ...]:
    """Return how many orders of ``count`` things have 0, 1, 2, ... pairs the wrong way round."""
    if count == 1:
        return (1,)
    before = _inversions(count - 1)
    longest = len(before) + count - 1
    return tuple(sum(before[max(0, n - count + 1) : n + 1]) for n in range(longest))


def suffix_minima(values: Sequence[float]) -> list[float]:
    """Return for each value the least of it and all later ones: what was held then and never given back."""
    minima = list(itertools.accumulate(reversed(values), min))
    return minima[::-1]


@dataclass(frozen=True, slots=True)
class Staircase:
    """How growth came about.

    Attributes:
        growth: in all.
        steps: how many equal steps would be as uneven: ``(sum d)**2 / sum d**2``; 1 for a single one.
        first_half: share of the growth that came in the first half of the time; 0.5 for an even one.
        lead: how far growth ran ahead of the time at most, as a share; large when it came early, and fades.
        lag: how far it fell behind at most; large when it came late.
    """

    growth: float
    steps: float
    first_half: float
    lead: float
    lag: float


def staircase(places: Sequence[float], heights: Sequence[float]) -> Staircase:
    """Describe growth that never falls.

    Args:
        places: increasing or equal.
        heights: as many, none below the one before.
    """
    growth = heights[-1] - heights[0] if heights else 0.0
    if growth <= 0:
        return Staircase(0.0, 0.0, 0.5, 0.0, 0.0)
    rises = _rises_by_place(places, heights)
    start, length = places[0], places[-1] - places[0] or 1.0
    done, first_half, lead, lag = 0.0, 0.0, 0.0, 0.0
    for place, rise in rises.items():
        time = (place - start) / length
        # Just before the step and just after it.
        lag = max(lag, time - done / growth)
        done += rise
        lead = max(lead, done / growth - time)
        first_half += rise / growth if time <= 0.5 else 0.0
    squares = sum(rise * rise for rise in rises.values())
    return Staircase(growth, growth * growth / squares, first_half, lead, lag)


def _rises_by_place(places: Sequence[float], heights: Sequence[float]) -> Counter[float]:
    rises: Counter[float] = Counter()
    for place, (lower, higher) in zip(places[1:], itertools.pairwise(heights), strict=True):
        if higher > lower:
            rises[place] += higher - lower  # type: ignore[assignment]
    return rises
