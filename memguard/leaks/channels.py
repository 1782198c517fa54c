"""What one channel did: floors of blocks, their slope, and whether they move as a leak moves them. Pure.

A leak adds about the same with each iteration, for ever, and takes nothing back. Everything else differs in one of
these: transients and saw-teeth take back (floors), caches and warm-up fade, tables that are loaded late come in one
step, random walks go both ways. Each is tried apart, so that the report can say which it was.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from memguard.leaks.records import Channel, ChannelFinding, Shape
from memguard.leaks.series import BlockEnd, Series
from memguard.leaks.trend import Slope, Staircase, mann_kendall, staircase, suffix_minima, theil_sen

__all__ = ["Least", "Window", "examine", "may_grow", "window_of"]


@dataclass(frozen=True, slots=True)
class Least:
    """Below this a channel is flat: the interpreter and malloc move by as much when nothing leaks.

    Attributes:
        growth: units in the whole window.
        rate: units per iteration.
    """

    growth: float
    rate: float


# Measured on loops that do nothing, and on innocent ones: an adaptive interpreter, free lists, malloc's own bins.
# Private memory moves by pages, and pymalloc takes a mebibyte at once of which it touches page after page.
_LEAST: Final = {
    Channel.USS: Least(96 * 1024, 150.0),
    Channel.LIVE: Least(2048, 12.0),
    Channel.BLOCKS: Least(5, 0.05),
    Channel.OBJECTS: Least(3, 0.05),
    Channel.FDS: Least(3, 0.02),
    Channel.THREADS: Least(3, 0.02),
    Channel.SHARED: Least(1, 0.0),
}
# So few floors can be in order by chance: 5 % for six, and for ten one in two hundred, since more are asked for.
_SHORT_FLOORS: Final = 8
_CHANCE_SHORT: Final = 0.05
_CHANCE_LONG: Final = 0.005
# A step or two are no trend; three equal ones, evenly spaced, are the least that can be told from them.
_LEAST_STEPS: Final = 2.6
_LEAST_STEPS_LONG: Final = 3.6
# Rises between floors must be this many of their own errors above nothing, where floors also fall: for a random
# walk that is Student's t with as many degrees of freedom as rises less one; one in two hundred, and it must pass
# all other tests too.
_LEAST_T: Final = {4: 9.9, 5: 5.8, 6: 4.6, 7: 4.0, 8: 3.7, 9: 3.5, 10: 3.4}
_LEAST_T_LONG: Final = 3.25
# A series that hardly ever falls needs no floors: what it has at the end is what it kept.
_CLEAN_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a series that is judged.

    Attributes:
        start: iterations left out as warm-up.
        stop: iterations in all.
        edges: where blocks end, the start included; increasing.
        ends: readings around collections, at some or all of the edges.
    """

    start: int
    stop: int
    edges: tuple[int, ...]
    ends: tuple[BlockEnd, ...]


def window_of(series: Series, warm_up: int | None = None) -> Window:
    """Choose what is judged: the last three quarters, without ten iterations at least, cut into blocks.

    Args:
        series: all samples.
        warm_up: iterations to leave out; by default a quarter of all, ten at least.
    """
    stop = series.iterations
    wanted = max(10, stop // 4) if warm_up is None else warm_up
    ends = series.ends()
    later = [end.iterations for end in ends if end.iterations >= wanted]
    start = min(later, default=wanted)
    edges = sorted({start, *later})
    if len(edges) < 4:
        start = min(wanted, stop)
        edges = _equal_edges(start, stop, 6 if stop - start < 60 else 10)
    while len(edges) > 13:
        edges = [*edges[:-1:2], edges[-1]]
    return Window(start, stop, tuple(edges), tuple(end for end in ends if end.iterations >= start))


def _equal_edges(start: int, stop: int, blocks: int) -> list[int]:
    length = max(1, (stop - start) // blocks)
    return [edge for edge in range(stop - length * blocks, stop + 1, length) if edge >= start]


@dataclass(frozen=True, slots=True)
class _Points:
    """All readings of a channel in a window, in time: samples, and readings after collections.

    ``falls`` is how much it fell from sample to sample and from collection to collection. Not from a sample to a
    collection: that takes the interpreter's free lists as well.
    """

    places: tuple[float, ...]
    values: tuple[float, ...]
    falls: float

    def floors(self, edges: Sequence[int]) -> tuple[list[float], list[float]]:
        """Return the middle and the least reading of each block that has one."""
        middles, floors = [], []
        for left, right in itertools.pairwise(edges):
            inside = [v for p, v in zip(self.places, self.values, strict=True) if left < p <= right]
            if inside:
                middles.append((left + right) / 2)
                floors.append(min(inside))
        return middles, floors


def _points(series: Series, channel: Channel, window: Window) -> _Points:
    # The collection at the end of all, where the program's collector is off, only tells what was garbage. And the first
    # is left out, since a census comes right after it, whose own needs are subtracted only about as exactly as they
    # can be measured: a step there would look like growth that fades.
    kept = [e for e in window.ends if e.iterations > window.start and (e.collecting or not e.found)]
    after = [(float(end.iterations), 1, end.kept[channel]) for end in kept]
    samples = [
        (float((cell + 1) * series.stride), 0, value)
        for cell, value in enumerate(series.samples(channel))
        if (cell + 1) * series.stride > window.start
    ]
    collections = {place for place, _, _ in after}
    falls = sum(
        max(0.0, early[2] - late[2])
        for readings in (after, samples)
        for early, late in itertools.pairwise(readings)
        if readings is after or early[0] not in collections
    )
    known = sorted(each for each in (*samples, *after) if not math.isnan(each[2]))
    return _Points(tuple(each[0] for each in known), tuple(each[2] for each in known), falls)


def may_grow(series: Series, channel: Channel) -> bool:
    """Tell whether samples differ by enough to be looked at: microseconds, where `examine` takes half a millisecond."""
    values = series.samples(channel)
    return bool(values) and not max(values) - min(values) < _LEAST[channel].growth


def examine(series: Series, channel: Channel, window: Window) -> ChannelFinding | None:
    """Tell what a channel did; ``None`` if it could not be read."""
    points = _points(series, channel, window)
    middles, floors = points.floors(window.edges)
    if not points.values:
        return None
    if len(floors) < 4:
        return ChannelFinding(channel, Shape.UNCLEAR, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, max(10, 40 - window.stop))
    evidence = _Evidence.of(points, middles, floors)
    shape, more = _shape(evidence, _LEAST[channel], window.stop)
    slope = evidence.slope
    return ChannelFinding(
        channel=channel,
        shape=shape,
        slope=slope.middle,
        low=slope.low,
        high=slope.high,
        growth=evidence.growth,
        scatter=evidence.scatter,
        probability=evidence.probability,
        more_iterations=more,
    )


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Everything that a shape is told from."""

    floors: tuple[float, ...]
    slope: Slope
    probability: float
    stairs: Staircase
    t: float
    clean: bool
    growth: float
    scatter: float

    @classmethod
    def of(cls, points: _Points, middles: Sequence[float], floors: Sequence[float]) -> _Evidence:
        clean = _is_clean(points)
        top = points.values[-1] if clean else floors[-1]
        last = points.places[-1] if clean else middles[-1]
        minima = suffix_minima(points.values)
        kept = [(p, min(v, top)) for p, v in zip(points.places, minima, strict=True) if p <= last]
        stairs = staircase([p for p, _ in kept], [v for _, v in kept])
        slope = theil_sen(middles, floors)
        return cls(
            floors=tuple(floors),
            slope=slope,
            probability=mann_kendall(floors),
            stairs=stairs,
            t=_rise_over_error(middles, floors),
            clean=clean,
            growth=max(stairs.growth, floors[-1] - floors[0]) if clean else floors[-1] - floors[0],
            scatter=_scatter(middles, floors, slope.middle),
        )

    @property
    def is_short(self) -> bool:
        return len(self.floors) < _SHORT_FLOORS


def _is_clean(points: _Points) -> bool:
    return points.falls <= _CLEAN_SHARE * max(0.0, points.values[-1] - points.values[0])


def _rise_over_error(middles: Sequence[float], floors: Sequence[float]) -> float:
    """Return the mean rate of the rises between floors over its own error."""
    pairs = zip(itertools.pairwise(middles), itertools.pairwise(floors), strict=True)
    rates = [(late - early) / (there - here) for (here, there), (early, late) in pairs]
    error = statistics.stdev(rates) / math.sqrt(len(rates))
    mean = statistics.fmean(rates)
    return mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0


def _scatter(middles: Sequence[float], floors: Sequence[float], slope: float) -> float:
    rest = [floor - slope * middle for middle, floor in zip(middles, floors, strict=True)]
    center = statistics.median(rest)
    # 1.4826 makes the median deviation that of a normal distribution.
    return 1.4826 * statistics.median(abs(each - center) for each in rest)


def _shape(evidence: _Evidence, least: Least, iterations: int) -> tuple[Shape, int]:
    """Tell the shape, and how many more iterations would tell one that is unclear."""
    chance = _CHANCE_SHORT if evidence.is_short else _CHANCE_LONG
    rate = max(evidence.slope.middle, evidence.growth / max(1, iterations))
    if evidence.growth < least.growth or rate < least.rate:
        return Shape.FLAT, 0
    if _has_settled(evidence.floors, least):
        return (Shape.STEP if evidence.stairs.steps < 1.5 else Shape.FADING), 0
    if evidence.probability >= chance:
        return _noise(evidence, chance, iterations)
    return _kind_of_trend(evidence, iterations)


def _noise(evidence: _Evidence, chance: float, iterations: int) -> tuple[Shape, int]:
    if evidence.stairs.steps < 1.5:
        return Shape.STEP, 0
    # Near the border more floors can decide; far from it there is no trend to decide about.
    doubtful = evidence.probability < 4 * chance or evidence.clean
    return (Shape.UNCLEAR, iterations) if doubtful else (Shape.NOISE, 0)


def _kind_of_trend(evidence: _Evidence, iterations: int) -> tuple[Shape, int]:
    stairs = evidence.stairs
    least_steps = _LEAST_STEPS if evidence.is_short else _LEAST_STEPS_LONG
    # Of n equal steps at random times, a half has a half give or take 0.5 / sqrt(n).
    chance = 0.45 / math.sqrt(max(1.0, stairs.steps))
    if stairs.steps < least_steps:
        return (Shape.STEP, 0) if stairs.steps < 1.5 else (Shape.UNCLEAR, iterations)
    if stairs.first_half > 0.5 + max(0.1, chance):
        return Shape.FADING, iterations
    if stairs.lag > max(0.25, 1.5 * chance):
        return Shape.UNCLEAR, iterations
    if not evidence.clean and evidence.t < _least_t(len(evidence.floors)):
        return Shape.UNCLEAR, _until_told(evidence.t, _least_t(len(evidence.floors)), iterations)
    return Shape.GROWING, 0


def _least_t(floors: int) -> float:
    return _LEAST_T.get(floors, _LEAST_T_LONG)


def _until_told(t: float, wanted: float, iterations: int) -> int:
    """Growth adds up with n, its error with the root of it at worst: t grows with the root."""
    ratio = wanted / t if t > 0 else 3.0
    return max(10, int(iterations * (min(3.0, ratio) ** 2 - 1)))


def _has_settled(floors: Sequence[float], least: Least) -> bool:
    """Tell whether the last third did not rise any more."""
    last = floors[-max(3, len(floors) // 3) :]
    total = floors[-1] - floors[0]
    return total >= least.growth and last[-1] - last[0] <= 0.02 * total
