"""How many columns a feature engineering could make at most, as autofeat counts them for ``max_gb``. Pure."""

from __future__ import annotations

from math import comb
from typing import Final

__all__ = ["most_columns", "rows_within"]

_VALUES_PER_GB: Final = 250_000_000  # float32 values in 10**9 bytes
_COMBINATIONS: Final = 4  # x + y, x * y, x - y, y - x


def most_columns(features: int, steps: int, transformations: int) -> int:
    """Return autofeat's upper bound for the columns after some steps, sums of the highest level left out.

    Args:
        features: columns to start with, >= 0.
        steps: ``feateng_steps``.
        transformations: how many are in the list; one less counts, for of ``abs`` and ``sqrt`` or ``log`` only
            one kind applies to a column.
    """
    per_column = transformations - 1
    old, new = features, 0
    sums = 0
    step = 1
    if steps >= step:
        old += features * per_column
        step += 1
    if steps >= step:
        new = _COMBINATIONS * _pairs(old)
        sums += _sums_among(new)
        step += 1
    while steps >= step:
        new += new * per_column
        step += 1
        if steps < step:
            return old + new - sums
        across = _COMBINATIONS * old * new
        sums += _sums_among(across)
        step += 1
        if steps < step:
            return old + new + across - sums
        within = _COMBINATIONS * _pairs(new)
        sums += _sums_among(within)
        step += 1
        old, new = old + new, across + within
    return old + new - sums


def _pairs(columns: int) -> int:
    # autofeat counts one pair where there is a single column; kept, for its bound decides how many rows are taken.
    return max(1, comb(columns, 2))


def _sums_among(combined: int) -> int:
    return 3 * combined // 4


def rows_within(max_gb: float, columns: int) -> int:
    """Return how many rows of that many float32 columns fit into ``max_gb`` times 10**9 bytes."""
    return int(max_gb * _VALUES_PER_GB / columns)
