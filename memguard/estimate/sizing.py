"""From a history and a job's features to a size: which guess is the cheapest, and what it needs on top. Pure.

Comes in: a history of one kind. Goes out: sizes as logarithms of bytes, and what each observation did to one. Made
anew when the history has changed; caps and promises are not its matter. Read `Sizer` first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from memguard.estimate.centres import Centre, Row, all_centres
from memguard.estimate.headroom import RETRY_FACTOR, Law, cheapest_headroom, deviation_of
from memguard.estimate.history import History
from memguard.estimate.locality import LEAST_FOR_SCALES, Scales, local_scales, same_everywhere

__all__ = ["Aim", "Size", "Sizer", "bounded"]

# Half the weight is gone after 138 jobs: a rate of 2 % can still be told, and a version of a year ago cannot.
_FADING: Final = 0.995
_STRONGEST: Final = 3
# Of the guesses that were cheapest so many are tried with scaled errors as well: scales cost time.
_FINALISTS: Final = 3


@dataclass(frozen=True, slots=True)
class Aim:
    """What a size is to hold.

    Attributes:
        miss_rate: the stated one, 0 to 1.
        strict_rate: what is aimed at after more misses than stated, at most ``miss_rate``.
        independent: how many observations count as independent of what comes.
        usual_spread: of logarithms of peaks among other kinds.
    """

    miss_rate: float
    strict_rate: float
    independent: float
    usual_spread: float


@dataclass(frozen=True, slots=True)
class Size:
    """A size, all as logarithms of bytes.

    Attributes:
        reserve: what to reserve.
        centre: the guess.
        low: rarely less.
        headroom: ``reserve`` less ``centre``.
        by_promise: whether the promise asked for more than the cost.
        name: of the guess.
    """

    reserve: float
    centre: float
    low: float
    headroom: float
    by_promise: bool
    name: str


@dataclass(frozen=True, slots=True)
class _Way:
    """A guess, how its errors compare from job to job, and their law."""

    centre: Centre
    scales: Scales
    scores: Sequence[float]
    law: Law


class Sizer:
    """Sizes by one state of a history, which must not be empty nor change.

    Attributes:
        history: that one.
    """

    def __init__(self, history: History, aim: Aim) -> None:
        """Let the guesses compete at an aim."""
        self.history = history
        count = len(history)
        self._weights = [_FADING ** (count - 1 - at) for at in range(count)]
        self._peaks = list(history.peaks)
        self._largest = max(self._peaks)
        ways = [self._way_of(centre) for centre in all_centres(history)]
        self._centres = [way.centre for way in ways]
        best = sorted((self._past_cost(way, aim), at) for at, way in enumerate(ways))[:_FINALISTS]
        finals = [(cost, at, ways[at]) for cost, at in best]
        if count >= LEAST_FOR_SCALES and history.names:
            scaled = [self._scaled(ways[at]) for _, at in best]
            finals += [(self._past_cost(way, aim), len(ways) + at, way) for at, way in enumerate(scaled)]
        self._way = min(finals)[2]

    @property
    def effective(self) -> float:
        """How many observations there are, old ones counted for less."""
        return self._way.law.total

    @property
    def error_spread(self) -> float:
        """Standard deviation of the logarithms of what the cheapest guess was off."""
        return deviation_of(
            [peak - past for peak, past in zip(self._peaks, self._way.centre.past, strict=True)]
        )

    def guesses(self, features: Mapping[str, float]) -> list[float]:
        """Return what each of the guesses says."""
        row = self.history.row_of(features)
        return [each.guess(row) for each in self._centres]

    def size(self, features: Mapping[str, float], aim: Aim) -> Size:
        """Return what a job with these features needs."""
        row = self.history.row_of(features)
        return self._size(self._guess(row), self._way.law, self._way.scales.of(row), aim)

    def moved_by(self, features: Mapping[str, float], aim: Aim) -> list[tuple[int, float]]:
        """Return positions of observations and how many bytes the size has more for each, the strongest first.

        Only those that can matter much are looked at: the nearest, and those that set the headroom. The guess itself
        is taken as it is but for the nearest.
        """
        if len(self._peaks) < 2:
            return [(0, math.exp(self.size(features, aim).reserve))]
        row = self.history.row_of(features)
        guess, scale = self._guess(row), self._way.scales.of(row)
        whole = math.exp(self._size(guess, self._way.law, scale, aim).reserve)
        top = sorted(range(len(self._peaks)), key=lambda at: -self._way.scores[at])[:_STRONGEST]
        near = self.history.nearest(row)
        suspects = dict.fromkeys([*near[:_STRONGEST], *top])
        moved = [
            (at, whole - math.exp(self._without(at, guess, scale, near, aim).reserve)) for at in suspects
        ]
        return sorted(moved, key=lambda each: -abs(each[1]))

    def _guess(self, row: Row) -> float:
        """Return the guess; outside of what was seen the largest of those that reach there, within bounds."""
        guess = self._way.centre.guess(row)
        if not self.history.is_outside(row):
            return guess
        reaching = [each.beyond(row) for each in self._centres if each.beyond]
        # The last is the one that follows curves. No further up than what was seen is wide.
        most = 2 * self._largest - min(self._peaks)
        return max(guess, min(most, reaching[-1])) if reaching else guess

    def _without(self, at: int, guess: float, scale: float, near: Sequence[int], aim: Aim) -> Size:
        law = Law(_dropped(self._way.scores, at), _dropped(self._weights, at))
        if "of the nearest" in self._way.centre.name and at in near:
            guess = self._guess_of([self._peaks[each] for each in near if each != at])
        return self._size(guess, law, scale, aim)

    def _guess_of(self, peaks: Sequence[float]) -> float:
        if "largest" in self._way.centre.name:
            return max(peaks)
        return math.log(sum(math.exp(each - peaks[0]) for each in peaks) / len(peaks)) + peaks[0]

    def _size(self, centre: float, law: Law, scale: float, aim: Aim) -> Size:
        floor = law.floor(aim.miss_rate, aim.strict_rate, aim.independent, aim.usual_spread)
        cheapest = cheapest_headroom(law, centre, self._largest, scale)
        headroom = scale * max(floor, cheapest)
        low = min(centre + scale * law.quantile(aim.miss_rate), centre + headroom)
        middle = centre + scale * law.quantile(0.5)
        return Size(centre + headroom, middle, low, headroom, floor > cheapest, self._way.centre.name)

    def _way_of(self, centre: Centre) -> _Way:
        errors = [peak - past for peak, past in zip(self._peaks, centre.past, strict=True)]
        return _Way(centre, same_everywhere(len(errors)), errors, Law(errors, self._weights))

    def _scaled(self, way: _Way) -> _Way:
        scales = local_scales(self.history, way.scores)
        scores = [error / scale for error, scale in zip(way.scores, scales.past, strict=True)]
        return _Way(way.centre, scales, scores, Law(scores, self._weights))

    def _past_cost(self, way: _Way, aim: Aim) -> float:
        """Return what past jobs would have cost by this guess and the headroom that it has now, in byte seconds."""
        past = way.centre.past
        usual = sum(past) / len(past)
        floor = way.law.floor(aim.miss_rate, aim.strict_rate, aim.independent, aim.usual_spread)
        headroom = max(floor, cheapest_headroom(way.law, usual, self._largest))
        jobs = zip(self.history.observations, self._weights, past, way.scales.past, self._peaks, strict=True)
        return sum(
            weight * job.runtime_s * _cost(guess + headroom * scale, peak, self._largest)
            for job, weight, guess, scale, peak in jobs
        )


def bounded(size: Size, most: float) -> Size:
    """Return a size that is no larger than a bound, and no smaller than its guess."""
    reserve = max(size.centre, min(size.reserve, most))
    return size if reserve == size.reserve else replace(size, reserve=reserve, by_promise=False)


def _cost(reserved: float, peak: float, largest: float) -> float:
    held = math.exp(reserved)
    if peak <= reserved:
        return held - math.exp(peak)
    return held + max(RETRY_FACTOR * held, math.exp(largest)) - math.exp(peak)


def _dropped(values: Sequence[float], at: int) -> list[float]:
    return [*values[:at], *values[at + 1 :]]
