"""Where what stays was allocated: a short run of its own under tracemalloc, two to ten times as slow."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Allocation", "allocations_of"]

_MOST_SITES: Final = 5
_OWN_FOLDER: Final = os.path.dirname(os.path.abspath(__file__))
# What an iteration must leave at a line to be told: less is what dictionaries and frames settle by.
_LEAST_BYTES: Final = 16
_LEAST_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Allocation:
    """A line of a program at which memory was taken that stayed.

    Attributes:
        file: its file.
        line: its number, from 1.
        bytes_per_iteration: what stayed.
        blocks_per_iteration: in how many pieces.
    """

    file: str
    line: int
    bytes_per_iteration: float
    blocks_per_iteration: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "file": self.file,
            "line": self.line,
            "bytes_per_iteration": round(self.bytes_per_iteration, 1),
            "blocks_per_iteration": round(self.blocks_per_iteration, 3),
        }


def allocations_of(work: Callable[[int], object], *, warm_up: int, iterations: int) -> tuple[Allocation, ...]:
    """Call a function under tracemalloc and say which lines took memory that stayed, most bytes first.

    Sees what Python and numpy allocate, not what C libraries do by themselves. Does not change whether somebody else
    traces: where tracemalloc runs already, it runs on.

    Args:
        work: called with the number of the iteration.
        warm_up: calls before the first look.
        iterations: calls between the looks, 1 or more.
    """
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start(1)
    try:
        _taken()  # what looking itself keeps: compiled patterns
        for number in range(warm_up):
            work(number)
        before = _taken()
        for number in range(warm_up, warm_up + iterations):
            work(number)
        after = _taken()
    finally:
        if not was_tracing:
            tracemalloc.stop()
    sites = (_allocation(each, iterations) for each in after.compare_to(before, "lineno"))
    ranked = sorted(sites, key=lambda each: -each.bytes_per_iteration)[:_MOST_SITES]
    least = max(_LEAST_BYTES, _LEAST_SHARE * ranked[0].bytes_per_iteration) if ranked else 0.0
    return tuple(each for each in ranked if each.bytes_per_iteration >= least)


def _taken() -> tracemalloc.Snapshot:
    gc.collect()
    own = tracemalloc.Filter(inclusive=False, filename_pattern=os.path.join(_OWN_FOLDER, "*"))
    tracing = tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__)
    return tracemalloc.take_snapshot().filter_traces((own, tracing))


def _allocation(difference: tracemalloc.StatisticDiff, iterations: int) -> Allocation:
    frame = difference.traceback[0]
    return Allocation(
        frame.filename,
        frame.lineno,
        difference.size_diff / iterations,
        difference.count_diff / iterations,
    )
