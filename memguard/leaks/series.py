"""Samples in arrays that are made beforehand: a probe that allocates would be a leak of its own."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from memguard.leaks.records import Channel

__all__ = ["CHANNELS", "BlockEnd", "Series"]

CHANNELS: Final = tuple(Channel)
# Of each end of a block: the iteration, what the collection found, whether it would have run by itself, the frozen
# objects; then each channel before the collection, then after it.
_END_FACTS: Final = 4
_END_WIDTH: Final = _END_FACTS + 2 * len(CHANNELS)


@dataclass(frozen=True, slots=True)
class BlockEnd:
    """What was read around a forced collection.

    Attributes:
        iterations: how many were over then.
        found: unreachable objects that the collection found; 0 if there was none.
        collecting: whether the collector was on, so that it would have found them by itself sooner or later.
        frozen: objects that the program hid from the collector (`gc.freeze`).
        before: each channel before the collection.
        after: each channel after the collection, and after malloc gave back what it kept.
    """

    iterations: int
    found: int
    collecting: bool
    frozen: int
    before: dict[Channel, float]
    after: dict[Channel, float]

    @property
    def kept(self) -> dict[Channel, float]:
        """What the program keeps: garbage counts where its collector is off, and does not where it is on."""
        return self.after if self.collecting else self.before


class Series:
    """Samples of seven channels, one an iteration, and the readings at the ends of blocks.

    Memory is bounded: once ``capacity`` samples are full, each two neighbours become one, of which the lower stays,
    since what counts are floors. Nothing is allocated by adding but when that happens to the ends of blocks.

    Args:
        capacity: samples kept, an even number; 56 bytes each.
        ends: ends of blocks kept; the oldest half of them is thinned out when they are full.
    """

    def __init__(self, capacity: int = 4096, ends: int = 512) -> None:
        self._capacity = capacity + capacity % 2
        self._cells = tuple(array("d", [math.nan]) * self._capacity for _ in CHANNELS)
        self._ends = array("d", [math.nan]) * (ends * _END_WIDTH)
        self._most_ends = ends
        self._end_count = 0
        self.iterations = 0
        self.stride = 1

    @property
    def cells(self) -> int:
        """How many samples are kept: one for each ``stride`` iterations, the last one perhaps for fewer."""
        return -(-self.iterations // self.stride)

    def put(self, place: int, value: float) -> None:
        """Note one channel of the iteration that is under way; `advance` ends it.

        Args:
            place: the channel's place in `CHANNELS`.
            value: units of the channel; ``nan`` for what is not read at each iteration.
        """
        cell = self.iterations // self.stride
        kept = self._cells[place]
        if self.iterations % self.stride == 0 or value < kept[cell]:
            kept[cell] = value

    def advance(self) -> None:
        """End an iteration."""
        self.iterations += 1
        if self.iterations == self._capacity * self.stride:
            self._halve()

    def _halve(self) -> None:
        half = self._capacity // 2
        for kept in self._cells:
            for place in range(half):
                kept[place] = min(kept[2 * place], kept[2 * place + 1])
        self.stride *= 2

    def last(self, place: int) -> float:
        """Return the newest sample of a channel; ``nan`` if there is none."""
        return self._cells[place][self.cells - 1] if self.iterations else math.nan

    def samples(self, channel: Channel) -> array[float]:
        """Return a copy of one channel, oldest first; each stands for ``stride`` iterations."""
        return self._cells[CHANNELS.index(channel)][: self.cells]

    def end_block(
        self, found: int, collecting: bool, frozen: int, before: array[float], after: array[float]
    ) -> None:
        """Note an end of a block after the iteration that ended last; readings in the order of `CHANNELS`."""
        if self._end_count == self._most_ends:
            self._thin_ends()
        start = self._end_count * _END_WIDTH
        ends = self._ends
        ends[start], ends[start + 1] = self.iterations, found
        ends[start + 2], ends[start + 3] = collecting, frozen
        for place in range(len(CHANNELS)):
            ends[start + _END_FACTS + place] = before[place]
            ends[start + _END_FACTS + len(CHANNELS) + place] = after[place]
        self._end_count += 1

    def newest_end(self) -> BlockEnd:
        """Return the last end of a block.

        Raises:
            IndexError: if there is none.
        """
        if not self._end_count:
            raise IndexError("no block has ended yet")
        start = (self._end_count - 1) * _END_WIDTH
        return _block_end(self._ends[start : start + _END_WIDTH])

    def _thin_ends(self) -> None:
        kept = [row for number, row in enumerate(self._rows()) if number % 2]
        self._end_count = len(kept)
        for number, row in enumerate(kept):
            self._ends[number * _END_WIDTH : (number + 1) * _END_WIDTH] = row

    def _rows(self) -> Iterator[array[float]]:
        for number in range(self._end_count):
            yield self._ends[number * _END_WIDTH : (number + 1) * _END_WIDTH]

    @property
    def last_end(self) -> int:
        """How many iterations were over at the last end of a block; 0 if there was none."""
        return int(self._ends[(self._end_count - 1) * _END_WIDTH]) if self._end_count else 0

    def ends(self) -> tuple[BlockEnd, ...]:
        """Return the ends of blocks, oldest first."""
        return tuple(map(_block_end, self._rows()))

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for a file."""
        return {
            "iterations": self.iterations,
            "stride": self.stride,
            "samples": {channel.value: list(self.samples(channel)) for channel in CHANNELS},
            "ends": [list(row) for row in self._rows()],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Series:
        """Make it again from what `to_json` returned."""
        columns = [data["samples"][channel.value] for channel in CHANNELS]
        series = cls(max(2, len(columns[0]) + 1), max(1, len(data["ends"])))
        series.stride, series.iterations = data["stride"], data["iterations"]
        for kept, column in zip(series._cells, columns, strict=True):
            kept[: len(column)] = array("d", column)
        for number, row in enumerate(data["ends"]):
            series._ends[number * _END_WIDTH : (number + 1) * _END_WIDTH] = array("d", row)
        series._end_count = len(data["ends"])
        return series


def _block_end(row: array[float]) -> BlockEnd:
    before = row[_END_FACTS : _END_FACTS + len(CHANNELS)]
    after = row[_END_FACTS + len(CHANNELS) :]
    return BlockEnd(
        iterations=int(row[0]),
        found=int(row[1]),
        collecting=bool(row[2]),
        frozen=int(row[3]),
        before=dict(zip(CHANNELS, before, strict=True)),
        after=dict(zip(CHANNELS, after, strict=True)),
    )
