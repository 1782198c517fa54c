"""What a row of a batch costs, from past jobs of a kind: their first batch was a guess, the next one's need not be.

Comes in: peaks and batches of past jobs. Goes out: bytes for a row. All that a job held at its peak is shared among the
rows of its largest batch, so it is the more too much the smaller that was: of recent jobs the one with the largest
batch tells. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from memguard.estimate.likeness import Likeness
from memguard.forecasting.past import PastJob

__all__ = ["RowBook"]

_MOST_KINDS: Final = 1000
_REMEMBERED: Final = 8


class RowBook:
    """Bytes for a row and rows of a batch that past jobs had, by kind and world."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: OrderedDict[tuple[str, str], tuple[tuple[float, int], ...]] = OrderedDict()

    def learn(self, job: PastJob) -> None:
        """Remember the batches of a job that completed."""
        if not job.batch_rows or not job.peak_bytes:
            return
        key = (job.kind, job.world)
        seen = (job.peak_bytes / job.batch_rows, job.batch_rows)
        self._known[key] = (*self._known.get(key, ()), seen)[-_REMEMBERED:]
        self._known.move_to_end(key)
        if len(self._known) > _MOST_KINDS:
            self._known.popitem(last=False)

    def forecast(self, likeness: Likeness) -> tuple[float, int]:
        """Return bytes for a row and the batch that they are from; zeros where nothing is known."""
        known = self._known.get((likeness.kind, likeness.world), ())
        return max(known, key=lambda seen: seen[1], default=(0.0, 0))
