"""How many rows the next batch gets: additive growth, multiplicative shrinking, one record for each decision. Pure.

Comes in: what a finished batch had and cost, what is free, how short the machine's memory is. Goes out: a
`BatchDecision` with its reason. It does not measure, and it does not slice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from memguard.guard.pressure import Pressure

__all__ = ["BatchController", "BatchDecision", "BatchReason", "PastBatches"]

# Of the room that is free, a batch may take this share: its results, copies and the next batch need the rest.
_SHARE_OF_ROOM: Final = 0.25
# The first batch gets less, for what processing a row costs is not known yet.
_FIRST_SHARE_OF_ROOM: Final = 0.05
_FIRST_SHARE_OF_ROWS: Final = 1 / 16
_FIRST_ROWS_WITHOUT_SIZE: Final = 1000
_MOST_FIRST_ROWS: Final = 10**9
# A step upwards, as a share of the first size.
_STEP_SHARE: Final = 0.5
# A size that does not fit shrinks by a fifth at least, else one that is hardly too large is changed at every batch;
# and by half at most, for one odd batch says little about the next.
_SMALLEST_SHRINK: Final = 0.8
_LARGEST_SHRINK: Final = 0.5
# Below this share of the first size a batch costs more than it saves, unless the room itself asks for it.
_SMALLEST_SHARE: Final = 1 / 64
# Peaks are seen by samples and by a mark that only rises, so one cheap measurement proves little: sixteen do.
_REMEMBERED: Final = 16
_SMOOTHING: Final = 0.3


class BatchReason(StrEnum):
    """Why a size is what it is.

    ``started``: predicted from what a row weighs. ``recalled``: the first one too, from what past work of the kind took
    for a row. ``grew``: there was room for a step. ``held``: there was not, or a size near by failed lately.
    ``unproven``: the last batch had under half of the rows that it was allowed, so it says nothing about more.
    ``shrank``: it did not fit its share of the room any more. ``pressure``: memory is short on the machine.
    ``retried``: a batch ran out of memory and is done again in parts.
    """

    STARTED = "started"
    RECALLED = "recalled"
    GREW = "grew"
    HELD = "held"
    UNPROVEN = "unproven"
    SHRANK = "shrank"
    PRESSURE = "pressure"
    RETRIED = "retried"


@dataclass(frozen=True, slots=True)
class BatchDecision:
    """One decision.

    Attributes:
        rows_before: the size before it; 0 for the first.
        rows: the size from now on, at least 1.
        reason: why.
        bytes_per_row: what a row is reckoned to cost; 0 where nothing is known.
        free_bytes: what was free.
    """

    rows_before: int
    rows: int
    reason: BatchReason
    bytes_per_row: float
    free_bytes: int

    @property
    def is_change(self) -> bool:
        """Whether there was a size before, and it was another one."""
        return self.rows_before not in (0, self.rows)


@dataclass(frozen=True, slots=True)
class PastBatches:
    """What batches of past work of the same kind took.

    Attributes:
        bytes_per_row: what a row cost at most, all that was held beside it included.
        most_rows: the largest batch that was worked on to its end, at least 1.
    """

    bytes_per_row: float
    most_rows: int


class _RowCost:
    """What a row costs: smoothed, never below what it weighs at rest nor below the last measurements."""

    def __init__(self, at_rest_bytes: float, predicted_bytes: float) -> None:
        self._at_rest = at_rest_bytes
        self._smoothed = predicted_bytes
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)

    def learn(self, bytes_per_row: float) -> None:
        self._recent.append(bytes_per_row)
        self._smoothed += _SMOOTHING * (bytes_per_row - self._smoothed)

    @property
    def bytes_per_row(self) -> float:
        return max(self._at_rest, self._smoothed, *self._recent, 0.0)


class BatchController:
    """Sizes batches by additive increase and multiplicative decrease.

    Args:
        at_rest_bytes: what a row weighs at rest, 0 for unknown; processing it costs more, and is measured.
        free_bytes: what is free.
        total_rows: how many rows there are, ``None`` for unknown.
        predicted_bytes: what processing a row is thought to cost; ``None`` for what it weighs.
        pressure: how short the machine's memory is.
        past: what past work of the kind took, where nobody predicts; ``None`` for none. No first batch is larger than
            those were.

    Attributes:
        rows: the size of the next batch, at least 1.
        started: the decision on the first size.
    """

    def __init__(
        self,
        at_rest_bytes: float,
        free_bytes: int,
        total_rows: int | None = None,
        *,
        predicted_bytes: float | None = None,
        pressure: Pressure = Pressure.NORMAL,
        past: PastBatches | None = None,
    ) -> None:
        recalled = past if predicted_bytes is None else None
        if recalled is not None:
            predicted_bytes = recalled.bytes_per_row
        self._cost = _RowCost(at_rest_bytes, at_rest_bytes if predicted_bytes is None else predicted_bytes)
        share = _FIRST_SHARE_OF_ROOM if predicted_bytes is None else _SHARE_OF_ROOM
        # Who remembers needs no small trial first.
        trial_of = total_rows if recalled is None else None
        first = _first_rows(self._cost.bytes_per_row, free_bytes * share, trial_of)
        if recalled is not None:
            first = max(1, min(first, recalled.most_rows))
        self._step = max(1, int(first * _STEP_SHARE))
        self._smallest = max(1, int(first * _SMALLEST_SHARE))
        self._failed_rows: int | None = None
        self._since_failure = 0
        self.rows = self._smallest if pressure is Pressure.CRITICAL else first
        self.started = self._told(
            0, BatchReason.STARTED if recalled is None else BatchReason.RECALLED, free_bytes
        )

    @property
    def bytes_per_row(self) -> float:
        """What a row is reckoned to cost, by prediction and measurement; 0 where nothing is known."""
        return self._cost.bytes_per_row

    def finished(
        self, batch_rows: int, cost_bytes: int, free_bytes: int, pressure: Pressure = Pressure.NORMAL
    ) -> BatchDecision:
        """Learn from a finished batch and size the next one.

        Args:
            batch_rows: how many rows it had.
            cost_bytes: by how much use rose while it ran; negative counts as nothing.
            free_bytes: what is free now.
            pressure: how short the machine's memory is now.
        """
        if batch_rows > 0:
            self._cost.learn(max(0, cost_bytes) / batch_rows)
        self._forget_failure_in_time()
        before = self.rows
        self.rows, reason = self._next(batch_rows, free_bytes, pressure)
        return self._told(before, reason, free_bytes)

    def failed(self, batch_rows: int, free_bytes: int) -> BatchDecision:
        """Learn from a batch that ran out of memory: from now on at most half of what it had."""
        before = self.rows
        self._failed_rows, self._since_failure = batch_rows, 0
        self.rows = max(1, min(self.rows, batch_rows // 2))
        return self._told(before, BatchReason.RETRIED, free_bytes)

    def _told(self, before: int, reason: BatchReason, free_bytes: int) -> BatchDecision:
        return BatchDecision(before, self.rows, reason, self.bytes_per_row, free_bytes)

    def _forget_failure_in_time(self) -> None:
        self._since_failure += 1
        if self._since_failure > _REMEMBERED:
            self._failed_rows = None

    def _next(self, batch_rows: int, free_bytes: int, pressure: Pressure) -> tuple[int, BatchReason]:
        if pressure >= Pressure.HIGH and self.rows > self._smallest:
            half = max(self._smallest, self._shrunk_to(0))
            return self._smallest if pressure is Pressure.CRITICAL else half, BatchReason.PRESSURE
        fitting = self._fitting_rows(free_bytes)
        if fitting is not None and fitting < self.rows and self.rows > 1:
            return self._shrunk_to(min(fitting, self.rows * _SMALLEST_SHRINK)), BatchReason.SHRANK
        return self._grown(batch_rows, fitting, pressure)

    def _fitting_rows(self, free_bytes: int) -> float | None:
        """Return how many rows fit their share of the room; ``None`` where nothing is known of them."""
        cost = self.bytes_per_row
        return free_bytes * _SHARE_OF_ROOM / cost if cost > 0 else None

    def _shrunk_to(self, rows: float) -> int:
        return max(1, int(max(rows, self.rows * _LARGEST_SHRINK)))

    def _grown(self, batch_rows: int, fitting: float | None, pressure: Pressure) -> tuple[int, BatchReason]:
        # After a deep fall the step is the size itself, so that the way back is short.
        larger = self.rows + min(self._step, self.rows)
        has_room = fitting is None or larger <= fitting
        if not has_room or (self._failed_rows is not None and larger >= self._failed_rows):
            return self.rows, BatchReason.HELD
        if pressure > Pressure.NORMAL:
            return self.rows, BatchReason.PRESSURE
        if 2 * batch_rows < self.rows:
            return self.rows, BatchReason.UNPROVEN
        return larger, BatchReason.GREW


def _first_rows(bytes_per_row: float, room_bytes: float, total_rows: int | None) -> int:
    if bytes_per_row <= 0:
        return _FIRST_ROWS_WITHOUT_SIZE
    fitting = room_bytes / bytes_per_row
    most = _MOST_FIRST_ROWS if total_rows is None else total_rows * _FIRST_SHARE_OF_ROWS
    return max(1, int(min(fitting, max(_FIRST_ROWS_WITHOUT_SIZE, most))))
