"""Series of samples as a detector would have them, made from a formula for each channel."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping

from memguard.leaks.records import Channel
from memguard.leaks.series import CHANNELS, Series

__all__ = ["series_of"]

_BASE = {Channel.USS: 5e7, Channel.LIVE: 2e7, Channel.BLOCKS: 7e4, Channel.OBJECTS: 2e4, Channel.FDS: 5.0}


def series_of(
    iterations: int,
    channels: Mapping[Channel, Callable[[int], float]],
    *,
    block: int = 5,
    collecting: bool = True,
    found: int = 0,
) -> Series:
    """Return samples of some channels above what a process has anyway; the others stand still.

    Args:
        iterations: how many.
        channels: units above the base after an iteration, by its number from 1 on.
        block: iterations between two collections, the last one at the end.
        collecting: whether the program's collector is on.
        found: unreachable objects that the last collection finds, if it is off.
    """
    series = Series(iterations + 2)
    for number in range(1, iterations + 1):
        values = array("d", (_BASE.get(c, 0.0) + channels.get(c, _nothing)(number) for c in CHANNELS))
        for place, channel in enumerate(CHANNELS):
            series.put(place, float("nan") if channel is Channel.OBJECTS else values[place])
        series.advance()
        if (iterations - number) % block == 0:
            series.end_block(0, collecting, 0, values, values)
    if found:
        base = array("d", (_BASE.get(c, 0.0) for c in CHANNELS))
        series.end_block(found, collecting, 0, values, base)
    return series


def _nothing(_: int) -> float:
    return 0.0
