"""From a history and a job's features to a size: which guess is the cheapest, and what it needs on top. Pure.

Comes in: a history of one kind. Goes out: sizes as logarithms of bytes, and what each observation did to one. Made
anew when the history has changed; caps and promises are not its matter. Read `Sizer` first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from memguard.estimate.centres import Centre, all_centres
from memguard.estimate.headroom import RETRY_FACTOR, Law, cheapest_headroom
from memguard.estimate.history import History

__all__ = ["Aim", "Size", "Sizer"]

# Half the weight is gone after 138 jobs: a rate of 2 % can still be told, and a version of a year ago cannot.
_FADING: Final = 0.995
_STRONGEST: Final = 3


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


class Sizer:
    """Sizes by one state of a history, which must not be empty nor change."""

    def __init__(self, history: History, aim: Aim) -> None:
        """Let the guesses compete at an aim."""
        self._history = history
        count = len(history)
        self._weights = [_FADING ** (count - 1 - at) for at in range(count)]
        self._peaks = list(history.peaks)
        self._largest = max(self._peaks)
        laws = self._laws()
        self._centres = [centre for centre, _ in laws]
        contest = [(self._past_cost(centre, law, aim), centre, law) for centre, law in laws]
        _, self._centre, self._law = min(contest, key=lambda each: each[0])
        self._scores = _scores(self._peaks, self._centre)

    @property
    def effective(self) -> float:
        """How many observations there are, old ones counted for less."""
        return self._law.total

    def guesses(self, features: Mapping[str, float]) -> list[float]:
        """Return what each of the guesses says."""
        row = self._history.row_of(features)
        return [each.guess(row) for each in self._centres]

    def size(self, features: Mapping[str, float], aim: Aim) -> Size:
        """Return what a job with these features needs."""
        centre = self._centre.guess(self._history.row_of(features))
        return self._size(centre, self._law, aim)

    def moved_by(self, features: Mapping[str, float], aim: Aim) -> list[tuple[int, float]]:
        """Return positions of observations and how many bytes the size has more for each, the strongest first.

        Only those that can matter much are looked at: the nearest, and those that set the headroom. The guess itself
        is taken as it is but for the nearest.
        """
        if len(self._peaks) < 2:
            return [(0, math.exp(self.size(features, aim).reserve))]
        row = self._history.row_of(features)
        guess = self._centre.guess(row)
        whole = math.exp(self._size(guess, self._law, aim).reserve)
        top = sorted(range(len(self._scores)), key=lambda at: -self._scores[at])[:_STRONGEST]
        near = self._history.nearest(row)
        suspects = dict.fromkeys([*near[:_STRONGEST], *top])
        moved = [(at, whole - math.exp(self._without(at, guess, near, aim).reserve)) for at in suspects]
        return sorted(moved, key=lambda each: -abs(each[1]))

    def _without(self, at: int, guess: float, near: Sequence[int], aim: Aim) -> Size:
        law = Law(_dropped(self._scores, at), _dropped(self._weights, at))
        if "nearest" in self._centre.name and at in near:
            guess = self._guess_of([self._peaks[each] for each in near if each != at])
        return self._size(guess, law, aim)

    def _guess_of(self, peaks: Sequence[float]) -> float:
        if "largest" in self._centre.name:
            return max(peaks)
        return math.log(sum(math.exp(each - peaks[0]) for each in peaks) / len(peaks)) + peaks[0]

    def _size(self, centre: float, law: Law, aim: Aim) -> Size:
        floor = law.floor(aim.miss_rate, aim.strict_rate, aim.independent, aim.usual_spread)
        cheapest = cheapest_headroom(law, centre, self._largest)
        headroom = max(floor, cheapest)
        low = min(centre + law.quantile(aim.miss_rate), centre + headroom)
        name = self._centre.name
        return Size(centre + headroom, centre + law.quantile(0.5), low, headroom, floor > cheapest, name)

    def _laws(self) -> list[tuple[Centre, Law]]:
        centres = all_centres(self._history)
        return [(centre, Law(_scores(self._peaks, centre), self._weights)) for centre in centres]

    def _past_cost(self, centre: Centre, law: Law, aim: Aim) -> float:
        """Return what past jobs would have cost by this guess and the headroom that it has now, in byte seconds."""
        usual = sum(centre.past) / len(centre.past)
        floor = law.floor(aim.miss_rate, aim.strict_rate, aim.independent, aim.usual_spread)
        headroom = max(floor, cheapest_headroom(law, usual, self._largest))
        jobs = zip(self._history.observations, self._weights, centre.past, self._peaks, strict=True)
        return sum(
            weight * job.runtime_s * _cost(past + headroom, peak, self._largest)
            for job, weight, past, peak in jobs
        )


def _cost(reserved: float, peak: float, largest: float) -> float:
    held = math.exp(reserved)
    if peak <= reserved:
        return held - math.exp(peak)
    return held + max(RETRY_FACTOR * held, math.exp(largest)) - math.exp(peak)


def _scores(peaks: Sequence[float], centre: Centre) -> list[float]:
    return [peak - past for peak, past in zip(peaks, centre.past, strict=True)]


def _dropped(values: Sequence[float], at: int) -> list[float]:
    return [*values[:at], *values[at + 1 :]]
