"""The probe: seven channels read inside the process, some ten microseconds an iteration, more at ends of blocks."""

from __future__ import annotations

import gc
import math
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from memguard.host.allocation import (
    MallocBooks,
    NewSharedMemory,
    anonymous_bytes_now,
    exact_private_bytes_now,
    open_descriptors_now,
    threads_now,
)
from memguard.leaks.records import Channel
from memguard.leaks.series import CHANNELS, Series

__all__ = ["Sampler", "is_collecting", "tracked_objects_now"]

_PLACE: Final = {channel: place for place, channel in enumerate(CHANNELS)}
_USS: Final = _PLACE[Channel.USS]
_LIVE: Final = _PLACE[Channel.LIVE]
_BLOCKS: Final = _PLACE[Channel.BLOCKS]
_OBJECTS: Final = _PLACE[Channel.OBJECTS]
_FDS: Final = _PLACE[Channel.FDS]
_THREADS: Final = _PLACE[Channel.THREADS]
_SHARED: Final = _PLACE[Channel.SHARED]
_CHEAP: Final = (_USS, _LIVE, _BLOCKS, _FDS, _THREADS, _SHARED)
# Between two readings, in multiples of what one takes.
_LEAST_PAUSE: Final = 300
# But a trend of iterations shorter than that must be seen as well.
_MOST_REPEATS: Final = 31
# The first is what Python 3.13 and later have.
_forget_attributes: Final[Callable[[], object]] = getattr(
    sys, "_clear_internal_caches", getattr(sys, "_clear_type_cache", lambda: None)
)


def tracked_objects_now() -> int:
    """Return how many objects the collector knows, without a list of them: a millisecond for 100,000.

    To freeze moves all of them to a generation that can be counted where it is, and back; which makes young ones
    old, as a full collection does, so it is meant for right after one. Where the program froze objects itself they
    must stay frozen: then they are listed after all.
    """
    frozen = gc.get_freeze_count()
    if frozen:
        return frozen + len(gc.get_objects())
    gc.freeze()
    try:
        return gc.get_freeze_count()
    finally:
        gc.unfreeze()


class Sampler:
    """Reads the channels into a `Series`; for one thread, in the process that is watched.

    Args:
        series: where to.
        forcing: whether ends of blocks collect garbage and give free memory back; without, they only read.
    """

    def __init__(self, series: Series, *, forcing: bool = True) -> None:
        self.series = series
        self._forcing = forcing
        # One that forces for a suspicion only goes on reading seldom.
        self._is_sparing = not forcing
        self._books = MallocBooks()
        self._shared = NewSharedMemory()
        # The exact figure less the counted one, as the last end of a block had it: pages of files that only this
        # process maps, less pages that it shares with whom it was forked from.
        self._correction = float(exact_private_bytes_now() - anonymous_bytes_now())
        # What the watching itself takes, by channel; it is left out of all readings.
        self._own = array("d", [0.0]) * len(CHANNELS)
        self._read_at_s, self._cost_s, self._repeats = -math.inf, 0.0, 0
        self._before = array("d", [math.nan]) * len(CHANNELS)
        self._after = array("d", [math.nan]) * len(CHANNELS)

    @property
    def can_read_malloc(self) -> bool:
        """Whether the ``live`` channel can be read."""
        return self._books.can_read

    def probe(self) -> None:
        """Read what is cheap, at the end of an iteration; ``objects`` is left to the ends of blocks.

        Malloc's books take longer the more pieces its heap is in, up to a millisecond. A sampler that was
        made without forcing reads so seldom that this takes a third of a percent of the processor time at most, or each
        32nd time, and else repeats what it read.
        """
        # Of the processor, not of the clock: else a busy machine makes the pauses short in terms of what was worked.
        began_s = time.process_time()
        if self._is_sparing and self._repeats < _MOST_REPEATS and self._was_just_read(began_s):
            self._repeat()
            return
        self._repeats = 0
        self._read_cheap()
        self._cost_s = (self._cost_s + time.process_time() - began_s) / 2
        self._read_at_s = began_s
        self.series.advance()

    def _was_just_read(self, now_s: float) -> bool:
        return now_s - self._read_at_s < _LEAST_PAUSE * self._cost_s

    def _repeat(self) -> None:
        series = self.series
        self._repeats += 1
        for place in _CHEAP:
            series.put(place, series.last(place))
        series.advance()

    def _read_cheap(self) -> None:
        put = self.series.put
        own = self._own
        put(_LIVE, self._books.live_bytes() - own[_LIVE])
        put(_BLOCKS, sys.getallocatedblocks() - own[_BLOCKS])
        put(_USS, anonymous_bytes_now() + self._correction - own[_USS])
        put(_FDS, open_descriptors_now())
        put(_THREADS, threads_now())
        put(_SHARED, self._shared.bytes_now())

    def end_block(self, *, last: bool = False) -> None:
        """Read everything; collect what the collector would have found by itself sooner or later, and read again.

        Where the program turned the collector off nothing is collected until the end: garbage that nobody takes away
        is what such a program leaks, and the channels shall show it.

        Args:
            last: whether the look is over, so that a collection may tell what of it was garbage.
        """
        collecting = is_collecting()
        self._shared.drop_foreign()
        if self._forcing:
            # The interpreter remembers 4096 attributes that were looked up, and keeps their names alive: work that
            # makes names up fills it for hundreds of iterations, a block each, as a small leak would.
            _forget_attributes()
        self._read(self._before)
        found = gc.collect() if self._forcing and (collecting or last) else 0
        if self._forcing:
            self._books.trim()
        self._read(self._after)
        self._repeats = _MOST_REPEATS
        self.series.end_block(found, collecting, gc.get_freeze_count(), self._before, self._after)

    def _read(self, into: array[float]) -> None:
        into[_LIVE] = self._books.live_bytes()
        into[_BLOCKS] = sys.getallocatedblocks()
        into[_OBJECTS] = tracked_objects_now() if self._forcing else math.nan
        exact = exact_private_bytes_now()
        self._correction = float(exact - anonymous_bytes_now())
        into[_USS] = exact
        into[_FDS] = open_descriptors_now()
        into[_THREADS] = threads_now()
        into[_SHARED] = self._shared.bytes_now()
        for place, size in enumerate(self._own):
            into[place] -= size

    def force(self, forcing: bool = True) -> None:
        """Collect and trim at ends of blocks from now on, or do so no longer."""
        self._forcing = forcing

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave out of all later readings what the block keeps for itself; nobody else should be at work meanwhile.

        Meant for right after `end_block`: garbage of the program would else be taken for the block's.
        """
        before = array("d", self._before)
        self._read(before)
        yield
        if self._forcing:
            if is_collecting():
                gc.collect()
            self._books.trim()
        self._read(self._after)
        for place in (_LIVE, _BLOCKS, _OBJECTS, _USS):
            more = self._after[place] - before[place]
            self._own[place] += 0.0 if math.isnan(more) else more


def is_collecting() -> bool:
    """Tell whether the interpreter collects garbage by itself."""
    return gc.isenabled() and gc.get_threshold()[0] > 0
