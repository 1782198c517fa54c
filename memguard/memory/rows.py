"""What has rows: how many, what they weigh, and slices of them, without knowing any data library.

Frames and series are told by ``iloc``, Arrow tables and record batches by ``num_rows``; arrays and sequences have a
length. A *chunk* out of an iterator is cut only if there is no doubt that its length counts rows: a tuple may as well
be features and target.
"""

from __future__ import annotations

from typing import Any

__all__ = ["can_be_cut", "cut", "row_count", "row_weight_bytes"]


def row_count(data: Any) -> int:
    """Return the number of rows; 1 for what has none, which is handed on whole."""
    shape = getattr(data, "shape", None)  # first of all: a frame may have a column called num_rows
    if isinstance(shape, tuple) and shape:
        return int(shape[0])
    if hasattr(data, "num_rows"):
        return int(data.num_rows)
    return len(data) if hasattr(data, "__len__") else 1


def row_weight_bytes(data: Any) -> float:
    """Return what a row weighs at rest as far as the data says so at once, else 0.0."""
    usage = getattr(data, "memory_usage", None)
    if callable(usage):
        weights = usage(index=True)
        weight = float(weights.sum()) if hasattr(weights, "sum") else float(weights)
    else:
        weight = float(getattr(data, "nbytes", 0))
    rows = row_count(data)
    return weight / rows if rows else 0.0


def can_be_cut(chunk: Any) -> bool:
    """Whether a chunk is a frame, series, array, Arrow table, list or range: something whose parts are like it."""
    if isinstance(chunk, list | range) or hasattr(chunk, "iloc"):
        return True
    if hasattr(chunk, "num_rows"):
        return hasattr(chunk, "slice")
    has_rows = isinstance(shape := getattr(chunk, "shape", None), tuple) and bool(shape)
    return has_rows and hasattr(chunk, "ndim") and hasattr(chunk, "__getitem__")


def cut(data: Any, start: int, stop: int) -> Any:
    """Return rows ``start`` to ``stop`` (exclusive), without a copy where the data can do so."""
    if hasattr(data, "iloc"):
        return data.iloc[start:stop]
    if hasattr(data, "num_rows"):
        return data.slice(start, stop - start)
    return data[start:stop]
