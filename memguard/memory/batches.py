"""Batches of rows whose size follows the memory that is left.

Comes in: a frame, an array, an Arrow table, any sequence, or an iterator of chunks. Goes out: slices of it, in order,
every row exactly once. `BatchSizer` decides and is pure; `iterate_batches` slices and asks it between batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import index
from typing import Any, Final, SupportsIndex

from memguard.errors import DataError

__all__ = ["BatchSizer", "iterate_batches"]

# Of the room that is free, a batch may take this share: its results, copies and the next batch need the rest.
_SHARE_OF_ROOM: Final = 0.25
# One step never more than doubles or halves: a single odd batch says little about the next.
_LARGEST_STEP: Final = 2.0
_FIRST_ROWS_WITHOUT_SIZE: Final = 1000


@dataclass(slots=True)
class BatchSizer:
    """Decides how many rows the next batch gets.

    Attributes:
        rows: the current size, at least 1.
        bytes_per_row: the largest cost of a row seen so far, or predicted.
    """

    rows: int
    bytes_per_row: float

    @classmethod
    def starting_with(cls, bytes_per_row: float, free_bytes: int, total_rows: int) -> BatchSizer:
        """Begin with what a row weighs at rest; processing it costs more, and is measured from the first batch on."""
        if bytes_per_row <= 0:
            return cls(_FIRST_ROWS_WITHOUT_SIZE, 0.0)
        # A twentieth of the room, and a sixteenth of the rows: what processing them costs is not known yet.
        most_rows = max(_FIRST_ROWS_WITHOUT_SIZE, total_rows // 16)
        return cls(max(1, int(min(free_bytes * 0.05 / bytes_per_row, most_rows))), bytes_per_row)

    def next_rows(self, batch_rows: int, cost_bytes: int, free_bytes: int) -> int:
        """Learn from a finished batch.

        Args:
            batch_rows: how many rows it had.
            cost_bytes: by how much use rose while it ran; negative counts as nothing.
            free_bytes: what is free now.

        Returns:
            Rows for the next batch.
        """
        self.bytes_per_row = max(self.bytes_per_row, cost_bytes / batch_rows if batch_rows else 0.0)
        wanted = (
            free_bytes * _SHARE_OF_ROOM / self.bytes_per_row
            if self.bytes_per_row
            else self.rows * _LARGEST_STEP
        )
        self.rows = max(1, int(min(max(wanted, self.rows / _LARGEST_STEP), self.rows * _LARGEST_STEP)))
        return self.rows


def iterate_batches(
    data: Any,
    *,
    rows: int | None,
    free_bytes: Callable[[], int],
    used_bytes: Callable[[], int],
    peak_bytes: Callable[[], int],
    on_batch: Callable[[int], None],
    on_resize: Callable[[BatchSizer, int], None],
) -> Iterator[Any]:
    """Yield ``data`` in slices.

    Args:
        data: has rows: a frame or series (``iloc``), an Arrow table (``slice``), an array or sequence (``len``);
            an iterator of chunks is passed on as it comes.
        rows: a fixed batch size, or ``None`` to adapt.
        free_bytes: what may still be used.
        used_bytes: what is used now.
        peak_bytes: the highest use seen since it was asked last: what a batch needed may be free again at its end.
        on_batch: told the rows of each batch after it was worked on.
        on_resize: told the sizer and the rows before, when the next batch gets another size.

    Raises:
        DataError: at the first batch, for fixed sizes below 1.
    """
    fixed = None if rows is None else _checked(rows)
    if not hasattr(data, "__len__"):
        for chunk in data:
            yield chunk
            on_batch(len(chunk) if hasattr(chunk, "__len__") else 1)
        return
    total, start = _row_count(data), 0
    sizer = BatchSizer.starting_with(_bytes_per_row(data, total), free_bytes(), total)
    while start < total:
        count = min(fixed or sizer.rows, total - start)
        before, _ = used_bytes(), peak_bytes()
        yield _slice(data, start, count)
        on_batch(count)
        former = sizer.rows
        sizer.next_rows(count, max(used_bytes(), peak_bytes()) - before, free_bytes())
        start += count
        if fixed is None and sizer.rows != former and start < total:
            on_resize(sizer, former)


def _checked(rows: int) -> int:
    if not isinstance(rows, SupportsIndex) or isinstance(rows, bool) or index(rows) < 1:
        raise DataError(
            f"{rows!r:.40} is no size of a batch",
            subject="rows",
            remedy="give a whole number of rows, at least 1, or None to let the size follow the memory that is left",
        )
    return index(rows)


def _row_count(data: Any) -> int:
    return int(data.num_rows) if hasattr(data, "num_rows") else len(data)


def _bytes_per_row(data: Any, total: int) -> float:
    usage = getattr(data, "memory_usage", None)
    if callable(usage):
        weights = usage(index=True)
        weight = float(weights.sum()) if hasattr(weights, "sum") else float(weights)
    else:
        weight = float(getattr(data, "nbytes", 0))
    return weight / total if total else 0.0


def _slice(data: Any, start: int, count: int) -> Any:
    if hasattr(data, "iloc"):
        return data.iloc[start : start + count]
    if hasattr(data, "num_rows"):
        return data.slice(start, count)
    return data[start : start + count]
