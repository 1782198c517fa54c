"""How much more than a guess to reserve: what a miss costs against what a reserved byte costs. Pure.

Comes in: scores, that is the logarithms of peak over centre of past jobs, each made without the job that it judges.
Goes out: the headroom above the next centre, as a logarithm. This module knows no job and keeps no history. Read `Law`
first.

Two rules are joined, and the larger wins. By cost: a reservation *a* that holds costs *a*, one that does not costs
*a* and then what the retry takes, so *a* + P(peak > *a*) * retry is made least under a law smoothed from the scores.
By promise: the conformal quantile of the scores, which the next score passes with at most the stated probability if
it is exchangeable with them (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; weights for
age as in Barber et al., "Conformal prediction beyond exchangeability", 2023). With few scores no such quantile exists;
the predictive quantile of a normal sample stands in, which is no promise.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

__all__ = ["Law", "cheapest_headroom", "deviation_of", "least_for_promise", "sure_rate", "t_quantile"]

# A job that passed its limit is tried again with so much more, or the largest seen.
RETRY_FACTOR: Final = 1.5
# Peaks of the very same job differ by some pages: no law is narrower, as a logarithm.
_LEAST_WIDTH: Final = 5e-4
_LEAST_TAIL: Final = 2e-3
# Of Silverman's 1.06: an oversmoothed law asks for headroom that no job ever used.
_WIDTH_FACTOR: Final = 0.5
# Candidates between the median and the largest score; more change the cost by less than a part in a thousand.
_CANDIDATES: Final = 16
_LEAST_FOR_SPREAD: Final = 3
# Other kinds stand for so many jobs of a kind of which one or two have ended.
_USUAL_WEIGHT: Final = 4.0


class Law:
    """The law of the next score: weighted past ones, smoothed, and a tail above the largest.

    It does not promise anything by itself; `promised_floor` does, where there are scores enough.
    """

    def __init__(self, scores: Sequence[float], weights: Sequence[float]) -> None:
        """Take scores and their weights, of equal length, at least one; weights above 0, at most 1."""
        ordered = sorted(zip(scores, weights, strict=True))
        self._scores: list[float] = [score for score, _ in ordered]
        self._below = [0.0, *accumulate(weight for _, weight in ordered)]
        self._moments = [0.0, *accumulate(score * weight for score, weight in ordered)]
        self.total = self._below[-1]
        self.largest = self._scores[-1]
        self.spread = deviation_of(scores)
        self._width = self._kernel_width()
        self._tail = self._tail_scale()
        self._tail_weight = 1.0 / (self.total + 1.0)

    def survival(self, headroom: float) -> float:
        """Return the probability that the next score is above a headroom, 0 to 1."""
        low = bisect_left(self._scores, headroom - self._width)
        high = bisect_right(self._scores, headroom + self._width)
        inside = self._below[high] - self._below[low]
        partly = self._moments[high] - self._moments[low] + (self._width - headroom) * inside
        body = (self.total - self._below[high] + partly / (2 * self._width)) / self.total
        beyond = max(0.0, headroom - self.largest)
        return (1 - self._tail_weight) * body + self._tail_weight * math.exp(-beyond / self._tail)

    def candidates(self) -> list[float]:
        """Return headrooms worth looking at: upper scores, just above each, and steps into the tail."""
        count = len(self._scores)
        upper = {
            self._scores[(count - 1) * (_CANDIDATES + step) // (2 * _CANDIDATES)]
            for step in range(_CANDIDATES + 1)
        }
        above = {score + self._width for score in upper}
        tail = {self.largest + self._tail * step / 2 for step in range(1, 9)}
        return sorted(upper | above | tail)

    def floor(self, miss_rate: float, strict_rate: float, independent: float, usual_spread: float) -> float:
        """Return the headroom that is passed with about this probability.

        Args:
            miss_rate: the stated one, between 0 and 1.
            strict_rate: what is aimed at, at most ``miss_rate``; the largest is taken where scores are too few for it.
            independent: how many scores count as independent of each other and of the next, at most their number.
            usual_spread: standard deviation of such scores among other kinds; one or two scores tell none.
        """
        possible = (1 - miss_rate) * (self.total + 1) <= self.total
        if not possible or independent < least_for_promise(miss_rate):
            return max(self.largest, self._short_floor(miss_rate, independent, usual_spread))
        plain = self._at_weight((1 - strict_rate) * (self.total + 1))
        sure = self._at_weight((1 - sure_rate(miss_rate, self.total)) * (self.total + 1))
        # One absurd score must not be the headroom of all, unless the rate itself asks for it.
        return max(plain, min(sure, self._scores[-2]))

    def quantile(self, fraction: float) -> float:
        """Return a weighted quantile of the scores."""
        return self._at_weight(fraction * self.total)

    def _at_weight(self, weight: float) -> float:
        return self._scores[max(0, bisect_left(self._below, min(weight, self.total) - 1e-9) - 1)]

    def _short_floor(self, miss_rate: float, independent: float, usual_spread: float) -> float:
        normal = self._normal_floor(miss_rate, independent, usual_spread)
        if len(self._scores) < _LEAST_FOR_SPREAD:
            return normal
        # Of two modes the normal law makes a third, far above: the largest and an exponential tail bound it.
        return min(normal, self.largest + self._tail * max(0.0, -math.log((independent + 1) * miss_rate)))

    def _normal_floor(self, miss_rate: float, independent: float, usual_spread: float) -> float:
        # The upper half alone: one job that failed early says nothing of how large others become.
        count, middle = len(self._scores), self.quantile(0.5)
        upper = [score - middle for score in self._scores if score >= middle]
        squares, freedom = sum(each**2 for each in upper), max(len(upper) - 1.0, 0.0)
        if count < _LEAST_FOR_SPREAD:
            # The spread of other kinds stands for what is missing, as so many observations more.
            squares, freedom = squares + _USUAL_WEIGHT * usual_spread**2, freedom + _USUAL_WEIGHT
            independent += _USUAL_WEIGHT
            # So few tell of no rarer thing than one of them and the next: to ask for it is to ask for the request.
            miss_rate = max(miss_rate, 1 / (count + _USUAL_WEIGHT + 1))
        deviation = math.sqrt(squares / max(1.0, freedom) * (1 + 1 / count))
        return middle + t_quantile(1 - miss_rate, independent - 1) * deviation

    def _kernel_width(self) -> float:
        count = len(self._scores)
        quarter = self._scores[min(count - 1, 3 * count // 4)] - self._scores[count // 4]
        scale = min(self.spread, quarter / 1.35) if quarter > 0 else self.spread
        return max(_LEAST_WIDTH, _WIDTH_FACTOR * scale * math.pow(count, -0.2))

    def _tail_scale(self) -> float:
        top = self._scores[-max(2, len(self._scores) // 5) - 1 :]
        return max(_LEAST_TAIL, sum(score - top[0] for score in top) / len(top))


def deviation_of(values: Sequence[float]) -> float:
    """Return the standard deviation of all of a population; 0 of nothing."""
    # Not the standard library's, whose exact fractions take a millisecond for 250 values.
    mean = math.fsum(values) / max(1, len(values))
    return math.sqrt(math.fsum((each - mean) ** 2 for each in values) / max(1, len(values)))


def cheapest_headroom(law: Law, centre: float, largest: float, scale: float = 1.0) -> float:
    """Return the headroom of the least expected cost, in units of the scale.

    Args:
        law: of the scores.
        centre: logarithm of the guess, in bytes.
        largest: logarithm of the largest peak seen, in bytes; a retry takes it, or 1.5 times what failed.
        scale: what a score counts for here.
    """
    least_retry = math.exp(min(largest - centre, 60.0))

    def cost(headroom: float) -> float:
        held = math.exp(min(headroom * scale, 60.0))
        return held + law.survival(headroom) * max(RETRY_FACTOR * held, least_retry)

    return min(law.candidates(), key=cost)


def least_for_promise(miss_rate: float) -> int:
    """Return how many scores a promise takes: above the largest of n lies the next with probability 1 / (n + 1)."""
    return math.ceil(1 / miss_rate - 1 - 1e-9)


def sure_rate(miss_rate: float, count: float) -> float:
    """Return what to aim at for the rate to be kept by most histories, not only by their mean.

    The share that passes a quantile of so many scores varies from history to history like a Beta variable (Vovk,
    "Conditional validity of inductive conformal predictors", ACML 2012): half of them miss more than was aimed at.
    So the aim is half a standard deviation below the stated rate: r + sqrt(r (1 - r) / count) / 2 = miss_rate, with
    1 - r taken as 1 - miss_rate.
    """
    root = math.sqrt((1 - miss_rate) / max(1.0, count)) / 2
    return ((math.sqrt(root * root + 4 * miss_rate) - root) / 2) ** 2


def t_quantile(probability: float, freedom: float) -> float:
    """Return a quantile of Student's t.

    Exact for one and two degrees of freedom, by Hill's expansion (CACM 13, 1970, algorithm 396) from three on, between
    them linear in the logarithm; fewer than one count as one.

    Args:
        probability: above 0.5, below 1.
        freedom: degrees of freedom, any number.
    """
    if freedom >= 3:
        return _hill(probability, freedom)
    freedom = max(1.0, freedom)
    one, three = math.tan(math.pi * (probability - 0.5)), _hill(probability, 3)
    two = (2 * probability - 1) * math.sqrt(2 / (4 * probability * (1 - probability)))
    low, high, share = (one, two, freedom - 1) if freedom < 2 else (two, three, freedom - 2)
    return math.exp((1 - share) * math.log(low) + share * math.log(high))


def _hill(probability: float, freedom: float) -> float:
    z = statistics.NormalDist().inv_cdf(probability)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return float(z + first / freedom + second / freedom**2 + third / freedom**3)
