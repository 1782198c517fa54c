"""The guesses at a peak that compete: a constant, a line, a power law, the nearest neighbours. Pure.

Comes in: a history of one kind. Goes out: centres, each a function from features to the logarithm of a peak, with the
scores log(peak / centre) of all past jobs, each made without the job that it judges. No centre wins on all kinds, so
none is chosen here. Read `Centre` first.

A line's errors without the point itself come from its leverage, e / (1 - h) (Allen's PRESS), so no fit is repeated.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Final

from memguard.estimate.history import NEIGHBOURS, WIDE, History

__all__ = ["Centre", "Row", "all_centres"]

Row = Sequence[float | None]

# Below, two points make a line and their neighbours are all there are.
_LEAST_FOR_LINE: Final = 4
_LEAST_FOR_NEIGHBOURS: Final = 3
# Those that tell most about the peak; a handful of jobs tells nothing about more.
_MOST_COLUMNS: Final = 4
# Of a column in standard units: keeps columns apart that say the same.
_RIDGE: Final = 0.1
_MOST_LEVERAGE: Final = 0.95
_LATEST: Final = 5
# A line through those near takes some that lie apart.
_LEAST_FOR_LOCAL: Final = 2 * NEIGHBOURS
_FLAT: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Centre:
    """One way to guess.

    Attributes:
        name: in words.
        guess: from a row of a history's features to the logarithm of a peak in bytes.
        past: what it would have guessed of each past job, had it not seen that job.
        beyond: what it says of jobs outside of what was seen; ``None`` if it says nothing of them.
    """

    name: str
    guess: Callable[[Row], float]
    past: Sequence[float]
    beyond: Callable[[Row], float] | None = None


def all_centres(history: History) -> list[Centre]:
    """Return what a history is enough for; it must not be empty."""
    peaks = tuple(history.peaks)
    found = [_constant(peaks)]
    if len(peaks) >= _LEAST_FOR_NEIGHBOURS:
        found.append(_latest(peaks))
    columns = _columns(history, peaks)
    if len(peaks) >= _LEAST_FOR_LINE and columns:
        found += [_line(history, peaks, columns), _power(history, peaks, columns)]
    if len(peaks) >= _LEAST_FOR_NEIGHBOURS and columns:
        found += _neighbours(history, peaks)
    if len(peaks) >= _LEAST_FOR_LOCAL and columns:
        found.append(_local_line(history, peaks, columns[0]))
    return found


def _constant(peaks: Sequence[float]) -> Centre:
    ordered = sorted(peaks)
    middle = _median(ordered)
    without = [_median_without(ordered, each) for each in peaks] if len(peaks) > 1 else [middle]
    return Centre("the median", lambda _: middle, without)


def _latest(peaks: Sequence[float]) -> Centre:
    """The mean of the last few: the guess of a world that drifts, without knowing by what."""
    before = [_log_mean(peaks[max(0, at - _LATEST) : at]) for at in range(1, len(peaks))]
    latest = _log_mean(peaks[-_LATEST:])
    return Centre("the mean of the latest", lambda _: latest, [peaks[1], *before])


def _median(ordered: Sequence[float]) -> float:
    last = len(ordered) - 1
    return (ordered[last // 2] + ordered[(last + 1) // 2]) / 2


def _median_without(ordered: Sequence[float], value: float) -> float:
    gone, last = bisect_left(ordered, value), len(ordered) - 2
    low, high = last // 2, (last + 1) // 2
    return (ordered[low + (low >= gone)] + ordered[high + (high >= gone)]) / 2


def _neighbours(history: History, peaks: Sequence[float]) -> list[Centre]:
    near = [[peaks[at] for at in found] for found in history.neighbours_of_all()]

    def mean(row: Row) -> float:
        return _log_mean([peaks[at] for at in history.nearest(row)])

    def most(row: Row) -> float:
        return max(peaks[at] for at in history.nearest(row))

    return [
        Centre("the mean of the nearest", mean, [_log_mean(each) for each in near]),
        Centre("the largest of the nearest", most, [max(each) for each in near]),
    ]


def _local_line(history: History, peaks: Sequence[float], column: _Column) -> Centre:
    """A power law of one feature through those near: a curve, without knowing which."""
    lowest = min(peaks)

    def at(near: Sequence[int], value: float, bounded: bool = True) -> float:
        values = [column.values[each] for each in near]
        targets = [peaks[each] for each in near]
        middle, mean = sum(values) / len(near), sum(targets) / len(near)
        gaps = [each - middle for each in values]
        # A job's worth of spread more: where all are in one place there is no slope.
        width = sum([gap * gap for gap in gaps]) * (1 + 1 / len(near)) + _FLAT
        slope = sum([gap * target for gap, target in zip(gaps, targets, strict=True)]) / width
        # No further than those near, unless asked what lies beyond: there a slope of theirs is a guess.
        step = value - middle
        return max(lowest, mean + slope * (min(max(step, min(gaps)), max(gaps)) if bounded else step))

    def guess(row: Row) -> float:
        return at(history.nearest(row, WIDE), _value(row, column))

    def beyond(row: Row) -> float:
        return at(history.nearest(row, WIDE), _value(row, column), bounded=False)

    near = history.neighbours_of_all(WIDE)
    past = [at(*each) for each in zip(near, column.values, strict=True)]
    return Centre("a line through the nearest", guess, past, beyond)


def _log_mean(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(each - top) for each in logs) / len(logs))


@dataclass(frozen=True, slots=True)
class _Column:
    """A feature that varies: its place in a row, and what stands for it where it is missing."""

    place: int
    values: tuple[float, ...]
    fill: float


def _columns(history: History, peaks: Sequence[float]) -> list[_Column]:
    """Return the features that vary, those that go with the peak most first."""
    found = []
    for place in range(len(history.names)):
        known = sorted(value for row in history.rows if (value := row[place]) is not None)
        if 2 * len(known) < len(peaks):
            continue
        fill = _median(known)
        values = tuple(fill if (value := row[place]) is None else value for row in history.rows)
        if known[-1] - known[0] > _FLAT:
            found.append(_Column(place, values, fill))
    return sorted(found, key=lambda column: -abs(_correlation(column.values, peaks)))[:_MOST_COLUMNS]


def _correlation(one: Sequence[float], other: Sequence[float]) -> float:
    here, there = sum(one) / len(one), sum(other) / len(other)
    both = sum((a - here) * (b - there) for a, b in zip(one, other, strict=True))
    mine, theirs = sum((a - here) ** 2 for a in one), sum((b - there) ** 2 for b in other)
    return both / math.sqrt(mine * theirs) if mine > 0 and theirs > 0 else 0.0


def _power(history: History, peaks: Sequence[float], columns: Sequence[_Column]) -> Centre:
    fit = _Fit([column.values for column in columns], peaks)

    # Far outside of what was seen an exponent has no bounds; below the smallest peak nothing is known.
    lowest, next_lowest = sorted(peaks)[:2]

    def guess(row: Row) -> float:
        return max(lowest, fit.at([_value(row, column) for column in columns]))

    past = [
        max(said, lowest if peak > lowest else next_lowest)
        for said, peak in zip(fit.without_itself(), peaks, strict=True)
    ]
    return Centre("a power law", guess, past, guess)


def _line(history: History, peaks: Sequence[float], columns: Sequence[_Column]) -> Centre:
    # In units of the largest peak, so that no sum of squares leaves the range of a float.
    top, least = max(peaks), min(peaks)
    scaled = [math.exp(each - top) for each in peaks]
    fit = _Fit([[math.expm1(value) for value in column.values] for column in columns], scaled)
    # Below the smallest peak that was seen a line knows nothing: it may be negative there.
    lowest = math.exp(least - top)

    def in_logs(value: float) -> float:
        return top + math.log(max(value, lowest))

    def guess(row: Row) -> float:
        return in_logs(fit.at([math.expm1(_value(row, column)) for column in columns]))

    return Centre("a line", guess, [in_logs(each) for each in fit.without_itself()], guess)


def _value(row: Row, column: _Column) -> float:
    value = row[column.place]
    return column.fill if value is None else value


class _Fit:
    """Least squares on columns in standard units, with a small ridge."""

    def __init__(self, columns: Sequence[Sequence[float]], targets: Sequence[float]) -> None:
        self._targets = targets
        self._scales = [_scale(column) for column in columns]
        standard = [
            [(value - middle) / width for value in column]
            for column, (middle, width) in zip(columns, self._scales, strict=True)
        ]
        self._rows = [(1.0, *row) for row in zip(*standard, strict=True)]
        self._inverse = _inverse(_normal_matrix([[1.0] * len(targets), *standard]))
        sums = [
            sum(a * b for a, b in zip(column, targets, strict=True))
            for column in zip(*self._rows, strict=True)
        ]
        self._slopes = _times(self._inverse, sums)

    def at(self, values: Sequence[float]) -> float:
        """Return the fitted value at a point."""
        offsets = zip(self._slopes[1:], values, self._scales, strict=True)
        return self._slopes[0] + sum(
            slope * (value - middle) / width for slope, value, (middle, width) in offsets
        )

    def without_itself(self) -> list[float]:
        """Return what a fit without each point would have said of it."""
        found = []
        for row, target in zip(self._rows, self._targets, strict=True):
            leverage = min(_MOST_LEVERAGE, _dot(row, _times(self._inverse, row)))
            found.append(target - (target - _dot(row, self._slopes)) / (1 - leverage))
        return found


def _scale(column: Sequence[float]) -> tuple[float, float]:
    middle = sum(column) / len(column)
    # Scaled by the largest first: squares of sizes near the end of the range would overflow.
    top = max(abs(value - middle) for value in column) or 1.0
    return middle, top * math.sqrt(
        sum(((value - middle) / top) ** 2 for value in column) / len(column)
    ) or 1.0


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return float(sum(map(mul, one, other)))


def _times(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    return [_dot(row, vector) for row in matrix]


def _normal_matrix(columns: Sequence[Sequence[float]]) -> list[list[float]]:
    return [
        [
            _dot(one, other) + (_RIDGE if here == there and here else 0.0)
            for there, other in enumerate(columns)
        ]
        for here, one in enumerate(columns)
    ]


def _inverse(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the inverse of a positive definite matrix; the ridge makes it one."""
    size = len(matrix)
    rows = [[*row, *(float(here == there) for there in range(size))] for here, row in enumerate(matrix)]
    for here in range(size):
        rows[here] = [value / rows[here][here] for value in rows[here]]
        for there in range(size):
            if there != here and (factor := rows[there][here]):
                rows[there] = [a - factor * b for a, b in zip(rows[there], rows[here], strict=True)]
    return [row[size:] for row in rows]
