"""Whether a stated miss rate is kept, and what to add where it is not. Pure.

Comes in: of each first attempt what was reserved and what was used. Goes out: whether more were missed than chance
allows, and by how much reservations grow until that ends. This module sizes nothing. Read `Watch` first.

Two lines: it widens when so many misses would be chance in one of a hundred windows (binomial), and stops when the
last ``1 / miss_rate`` attempts held at most one miss.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Calibration", "Watch", "binomial_tail", "finite"]

# Long enough to see twice the rate of 5 %, short enough to forget a world that is gone.
_WINDOW: Final = 100
_CHANCE: Final = 0.01
# A burst is seen in the last few as well: a new version shows in its first jobs.
_BURST: Final = 10
# No correction asks for more than this factor: beyond, cap and retry decide.
_MOST_EXTRA: Final = math.log(8)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well the rate was kept for one kind.

    Attributes:
        attempts: first attempts that were counted, ever.
        misses: of those, ever.
        recent_attempts: of the window.
        recent_misses: of the window.
        stated_rate: 0 to 1.
        chance: of at least so many misses in the window if the stated rate held.
        widened: whether reservations are larger now for it.
    """

    attempts: int
    misses: int
    recent_attempts: int
    recent_misses: int
    stated_rate: float
    chance: float
    widened: bool


class Watch:
    """The outcomes of one kind's first attempts."""

    def __init__(self, miss_rate: float) -> None:
        """Watch over a rate between 0 and 1."""
        self.miss_rate = miss_rate
        self.widened = False
        self._excess: deque[float] = deque(maxlen=_WINDOW)
        self._uncorrected: deque[float] = deque(maxlen=_WINDOW)
        self._rounds: deque[int] = deque(maxlen=_WINDOW)
        self._attempts = 0
        self._misses = 0

    def count(self, excess: float, uncorrected: float | None = None, begun_in: int | None = None) -> bool:
        """Count one first attempt.

        Args:
            excess: log(peak / reserved); above 0 is a miss.
            uncorrected: the same had `extra` not been added and nothing been capped; ``None`` where it is the same.
            begun_in: number of its round; jobs of one round heard nothing of each other. ``None`` for one of its own.

        Returns:
            Whether it has just begun to widen.
        """
        self._excess.append(_bounded(excess))
        self._uncorrected.append(_bounded(excess if uncorrected is None else uncorrected))
        self._rounds.append(-self._attempts - 1 if begun_in is None else begun_in)
        self._attempts += 1
        self._misses += excess > 0
        before, self.widened = self.widened, self._is_wide()
        return self.widened and not before

    def extra(self) -> float:
        """Return what to add to the logarithm of a reservation, at least 0.

        It is what the attempts of the window would have needed for the rate to be kept, as a conformal quantile of
        errors made in earnest: in a world that drifts those are larger than any that a history tells of itself. It is
        no more than two rounds of the last few needed, since a leap comes once and is in the history after it, while a
        drift comes again; while more are missed than chance allows it is just that.
        """
        recent = self._needed_twice()
        wanted = recent if self.widened else min(recent, _quantile(list(self._uncorrected), self.miss_rate))
        return min(_MOST_EXTRA, max(0.0, wanted))

    def _needed_twice(self) -> float:
        """Return what at least two of the last rounds needed."""
        most: dict[int, float] = {}
        for begun_in, needed in zip(self._rounds, self._uncorrected, strict=True):
            most[begun_in] = max(needed, most.get(begun_in, needed))
        # Rounds may be wide: two at least, however many attempts that takes.
        late = max(2, len(set(list(self._rounds)[-self._calm() :])))
        return sorted(list(most.values())[-late:])[-2] if len(most) > 1 else 0.0

    def strictness(self) -> float:
        """Return what to aim at: the stated rate, or less where more than that was missed of late."""
        # As if one miss had been seen at the stated rate before: one early miss is no proof.
        seen = (self._recent(_WINDOW) + 1) / (len(self._excess) + 1 / self.miss_rate)
        return self.miss_rate * min(1.0, self.miss_rate / seen)

    def is_calm(self) -> bool:
        """Return whether nothing speaks against the rate of late: misses that come together have a cause that stays."""
        return not self.widened and self._recent(self._calm() // 2) <= 1

    def calibration(self) -> Calibration:
        """Return the figures."""
        count = len(self._excess)
        misses = self._recent(_WINDOW)
        chance = binomial_tail(misses, count, self.miss_rate)
        return Calibration(self._attempts, self._misses, count, misses, self.miss_rate, chance, self.widened)

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        return {
            "excess": list(self._excess),
            "uncorrected": list(self._uncorrected),
            "rounds": list(self._rounds),
            "attempts": self._attempts,
            "misses": self._misses,
            "widened": self.widened,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another was."""
        self._excess = deque((finite(each) for each in state["excess"]), maxlen=_WINDOW)
        self._uncorrected = deque((finite(each) for each in state["uncorrected"]), maxlen=_WINDOW)
        # States of before rounds were counted take each attempt for one.
        rounds = state.get("rounds", range(-len(self._excess), 0))
        self._rounds = deque((int(each) for each in rounds), maxlen=_WINDOW)
        if not len(self._rounds) == len(self._excess) == len(self._uncorrected):
            raise ValueError("attempts and their rounds are not of one number")
        self._attempts, self._misses = int(state["attempts"]), int(state["misses"])
        self.widened = bool(state["widened"])

    def _calm(self) -> int:
        return min(_WINDOW, math.ceil(1 / self.miss_rate))

    def _recent(self, most: int) -> int:
        return sum(each > 0 for each in list(self._excess)[-most:])

    def _is_wide(self) -> bool:
        if self.widened:
            return self._recent(self._calm()) > 1
        return any(self._is_excessive(most) for most in (_BURST, _WINDOW))

    def _is_excessive(self, most: int) -> bool:
        return binomial_tail(self._recent(most), min(most, len(self._excess)), self.miss_rate) < _CHANCE


def _bounded(excess: float) -> float:
    return max(-50.0, min(50.0, excess))


def _quantile(values: list[float], miss_rate: float) -> float:
    """Return what the next value passes with at most this probability; 0 where there are too few to tell."""
    place = math.ceil((1 - miss_rate) * (len(values) + 1) - 1e-9)
    return sorted(values)[place - 1] if place <= len(values) else 0.0


def finite(value: Any) -> float:
    """Return a finite number; raise ValueError or TypeError if it is none."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a finite number is needed, not {number}")
    return number


def binomial_tail(misses: int, attempts: int, rate: float) -> float:
    """Return the probability of at least so many misses where each has this rate, independently."""
    below = sum(math.comb(attempts, k) * rate**k * (1 - rate) ** (attempts - k) for k in range(misses))
    return max(0.0, 1.0 - below)
