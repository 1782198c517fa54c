"""What is remembered of one kind of job: a bounded number of observations, and who is near whom. Pure.

Comes in: features and peaks in the order in which they are learned; no clock is asked, so none can mislead. Goes out:
the observations that count, as rows of numbers with their neighbours. What is forgotten first is what is oldest, but
never the largest peaks. This module predicts nothing. Read `History` first.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import sub
from typing import Any, Final

__all__ = [
    "MOST_RUNTIME_S",
    "NEIGHBOURS",
    "WIDE",
    "History",
    "Observation",
    "clean_features",
    "log_size",
    "restored",
]

NEIGHBOURS: Final = 5
# Remembered of each: the first tell its peak, all of them how far off such guesses are there.
WIDE: Final = 16
# Enough for a rate of 2 % to be seen five times; a prediction from so many takes a few milliseconds.
MOST_OBSERVATIONS: Final = 256
# The largest are kept however old they are: they are what a retry goes to.
_EXTREMES: Final = 8
_MOST_FEATURES: Final = 16
# Thirty years: longer runs are faults of a clock, and would outweigh all others.
MOST_RUNTIME_S: Final = 1e9
_PAGE: Final = 4096
# Where one of two jobs lacks a feature they differ in it by so much: a factor of e.
_UNKNOWN_DISTANCE: Final = 1.0
_LARGEST: Final = 1e300
_BEYOND_GROWTH: Final = math.log(2)
_MOST_GROWTH: Final = math.log(16)


@dataclass(frozen=True, slots=True)
class Observation:
    """One job that has ended, or was killed at a limit.

    Attributes:
        id: the caller's, or a running number.
        features: names and finite numbers.
        peak_bytes: what it used at most; of a killed one the limit that it passed.
        runtime_s: how long it ran; 1 where nobody told.
        censored: whether the peak lay above ``peak_bytes``.
    """

    id: str
    features: Mapping[str, float]
    peak_bytes: float
    runtime_s: float = 1.0
    censored: bool = False

    @property
    def log_peak(self) -> float:
        """The logarithm of the peak, at least a page's; of a censored one that of half a step to its retry."""
        return math.log(max(_PAGE, self.peak_bytes)) + (math.log(1.25) if self.censored else 0.0)


def restored(state: Mapping[str, Any]) -> Observation:
    """Return the observation that a state tells of.

    Raises:
        KeyError: if something is missing.
        TypeError: if something is of another type.
        ValueError: if a figure is none that could have been learned.
    """
    features, left = clean_features(state["features"])
    peak, runtime = float(state["peak_bytes"]), float(state["runtime_s"])
    if left or not 0 <= peak <= _LARGEST or not 0 < runtime <= MOST_RUNTIME_S:
        raise ValueError(
            f"an observation has figures that nobody can have measured: {left or (peak, runtime)}"
        )
    return Observation(str(state["id"]), features, peak, runtime, bool(state["censored"]))


def clean_features(features: Mapping[str, Any]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the features that are finite numbers of at least 0, and what was left out, in words."""
    kept: dict[str, float] = {}
    left = []
    for name, value in features.items():
        number = _number(value)
        if number is None:
            left.append(f"the feature {str(name)[:40]!r} is no finite number of at least 0 and was left out")
        elif len(kept) < _MOST_FEATURES:
            kept[str(name)] = number
        else:
            left.append(f"the feature {str(name)[:40]!r} is one too many ({_MOST_FEATURES} count)")
    return kept, tuple(left)


def _number(value: Any) -> float | None:
    try:
        number = float(value) if not isinstance(value, str | bytes) else math.nan
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number <= _LARGEST else None


def log_size(value: float) -> float:
    """Return log(1 + value), in which features are compared: they are sizes and counts."""
    return math.log1p(value)


class History:
    """The observations of one kind that count, oldest first, and the nearest others of each."""

    def __init__(self, most: int = MOST_OBSERVATIONS) -> None:
        """Keep at most so many observations."""
        self._most = most
        self.names: list[str] = []
        self.observations: list[Observation] = []
        self.peaks: list[float] = []
        self.rows: list[list[float | None]] = []
        self.neighbours: list[list[tuple[float, int]] | None] = []
        self._serial = 0
        self._serials: list[int] = []
        self._places: list[list[int]] | None = None

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def largest(self) -> float:
        """The logarithm of the largest peak."""
        return max(self.peaks)

    def copy(self) -> History:
        """Return a history that does not change with this one."""
        other = History(self._most)
        other.names, other.observations, other.peaks = [*self.names], [*self.observations], [*self.peaks]
        other.rows = [[*row] for row in self.rows]
        other.neighbours = [None if near is None else [*near] for near in self.neighbours]
        other._serial, other._serials = self._serial, [*self._serials]
        return other

    def add(self, observation: Observation) -> None:
        """Learn one; the oldest that is no extreme is forgotten where there are too many."""
        self._places = None
        self._learn_names(observation.features)
        row = self.row_of(observation.features)
        self._serial += 1
        mine = []
        for position, other in enumerate(self.rows):
            gap = _distance(row, other)
            mine.append((gap, -self._serials[position]))
            if (near := self.neighbours[position]) is not None:
                _keep_nearest(near, (gap, -self._serial))
        self.neighbours.append(sorted(mine)[:WIDE])
        self.rows.append(row)
        self.observations.append(observation)
        self.peaks.append(observation.log_peak)
        self._serials.append(self._serial)
        if len(self.observations) > self._most:
            self.remove(self._oldest_common())

    def remove(self, position: int) -> None:
        """Forget the observation at a position."""
        self._places = None
        gone = -self._serials[position]
        for each in (self.observations, self.peaks, self.rows, self.neighbours, self._serials):
            del each[position]
        for here, near in enumerate(self.neighbours):
            if near is not None and any(serial == gone for _, serial in near):
                # Found anew when somebody asks: whole histories are imported without a question.
                self.neighbours[here] = None

    def position_of(self, id_: str) -> int | None:
        """Return where an observation is; ``None`` if it is not here."""
        return next((at for at, each in enumerate(self.observations) if each.id == id_), None)

    def row_of(self, features: Mapping[str, float]) -> list[float | None]:
        """Return features as a row, in logarithms, ``None`` where one is missing."""
        return [log_size(features[name]) if name in features else None for name in self.names]

    def growth(self, features: Mapping[str, float]) -> float:
        """Return how much larger a job is than the observation that it outgrows least; that must not be empty.

        It is the logarithm of the largest ratio of a feature to that one's, at least 0 and within a factor of 16: rows
        and bytes are one growth and not two, less data asks for no more memory, and a number may be no size at all.
        """
        row = self.row_of(features)
        return min(_MOST_GROWTH, *(_growth(row, other) for other in self.rows))

    def bound(self, features: Mapping[str, float]) -> float:
        """Return the logarithm of what a job uses at most if memory grows as its data; the history must not be empty.

        The largest peak of those that it outgrows least, times by how much, and twice that for whatever else.
        """
        row = self.row_of(features)
        grown = [_growth(row, other) for other in self.rows]
        least = min(grown)
        largest = max(peak for peak, each in zip(self.peaks, grown, strict=True) if each <= least)
        return largest + least + _BEYOND_GROWTH

    def is_outside(self, row: Sequence[float | None]) -> bool:
        """Return whether a feature lies outside of what was seen of it, where it was seen to vary."""
        for place, value in enumerate(row):
            known = [each for other in self.rows if (each := other[place]) is not None]
            if (
                value is not None
                and known
                and min(known) < max(known)
                and not min(known) <= value <= max(known)
            ):
                return True
        return False

    def nearest(self, row: Sequence[float | None], most: int = NEIGHBOURS) -> list[int]:
        """Return the positions of the nearest observations, nearest first, among equals the latest; at most `WIDE`."""
        found = self._nearest(row, skip=-1)[:most]
        return [bisect_left(self._serials, -serial) for _, serial in found]

    def neighbours_of_all(self, most: int = NEIGHBOURS) -> list[list[int]]:
        """Return for each observation the positions of at most `WIDE` nearest to it, itself not among them."""
        if self._places is None:
            place = {-serial: at for at, serial in enumerate(self._serials)}
            self._places = [[place[serial] for _, serial in self._near(at)] for at in range(len(self.rows))]
        return [near[:most] for near in self._places]

    def _near(self, position: int) -> list[tuple[float, int]]:
        found = self.neighbours[position]
        if found is None:
            found = self.neighbours[position] = self._nearest(self.rows[position], skip=position)
        return found

    def _nearest(self, row: Sequence[float | None], skip: int) -> list[tuple[float, int]]:
        gaps = [
            (_distance(row, other), -self._serials[at]) for at, other in enumerate(self.rows) if at != skip
        ]
        return sorted(gaps)[:WIDE]

    def _learn_names(self, features: Mapping[str, float]) -> None:
        new = sorted(name for name in features if name not in self.names)
        new = new[: _MOST_FEATURES - len(self.names)]
        if new:
            self.names += new
            for row in self.rows:
                row.extend([None] * len(new))
            self.neighbours = [None] * len(self.rows)

    def _oldest_common(self) -> int:
        line = sorted(self.peaks)[-min(_EXTREMES, len(self.peaks))]
        return next((at for at, peak in enumerate(self.peaks) if peak < line), 0)


def _keep_nearest(near: list[tuple[float, int]], candidate: tuple[float, int]) -> None:
    if len(near) < WIDE or candidate < near[-1]:
        insort(near, candidate)
        del near[WIDE:]


def _growth(one: Sequence[float | None], other: Sequence[float | None]) -> float:
    pairs = zip(one, other, strict=True)
    grown = [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]
    return max(0.0, *grown) if grown else 0.0


def _distance(one: Sequence[float | None], other: Sequence[float | None]) -> float:
    if None not in one and None not in other:
        return float(sum(map(abs, map(sub, one, other))))
    total = 0.0
    for mine, theirs in zip(one, other, strict=True):
        if mine is not None and theirs is not None:
            total += abs(mine - theirs)
        elif mine is not theirs:
            total += _UNKNOWN_DISTANCE
    return total
