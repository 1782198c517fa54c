"""Columns scaled to mean 0 and variance 1, made a block at a time and never kept.

The scaling is autofeat's: moments and quotients in float64, the result rounded to float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ColumnSource", "Standardised", "moments"]

# Rows that are summed at once, so that a long column needs no float64 copy of its own.
SUMMED_ROWS = 1 << 20
# A column whose spread is so small against its mean may be constant: then the order of summation decides whether
# its variance is zero, and it is summed as autofeat sums, one value after another.
SUSPICIOUS_SPREAD = 1e-6


class ColumnSource(Protocol):
    """What selection needs of columns; ``Columns`` of the engine satisfies it."""

    @property
    def n_rows(self) -> int:
        """Rows of every column."""

    def __len__(self) -> int:
        """How many columns there are."""

    def column(self, index: int) -> NDArray[Any]:
        """Return one column, shape (n_rows,), not to be written to."""

    def expect(self, indices: Sequence[int], start: int, stop: int) -> None:
        """Have some rows of some columns brought from where they are: they are about to be looked at."""

    def let_go_of_pages(self) -> None:
        """Keep nothing that only was brought: all that is looked at now has been."""


class Standardised:
    """The scaled view of some columns.

    Args:
        columns: Where they come from.

    Raises:
        ValueError: A column holds NaN or infinity, or only one value: scaled, it would hold NaN, and autofeat's
            models refuse that with the same words.
    """

    def __init__(self, columns: ColumnSource) -> None:
        self.columns = columns
        found = [self._moments(index) for index in range(len(columns))]
        self.mean = np.array([mean for mean, _ in found])
        self.std = np.array([std for _, std in found])
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise ValueError("Input X contains NaN.")

    def _moments(self, index: int) -> tuple[float, float]:
        self.columns.expect([index], 0, self.columns.n_rows)
        found = moments(self.columns.column(index))
        self.columns.let_go_of_pages()
        return found

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def n_rows(self) -> int:
        """Rows of every column."""
        return self.columns.n_rows

    def gather(self, indices: Sequence[int], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return some rows of some columns, scaled: float32 values held as float64, one column after another.

        Args:
            indices: The columns.
            rows: The rows, in any order; neighbours are read together.

        Returns:
            Shape (len(indices), len(rows)).
        """
        scaled = np.empty((len(indices), len(rows)))
        rounded = np.empty(len(rows), dtype=np.float32)
        first, stop = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
        local = rows - first
        self.columns.expect(indices, first, stop)
        for target, index in zip(scaled, indices, strict=True):
            self._scale(index, self.columns.column(index)[first:stop].take(local), target)
            rounded[:] = target
            target[:] = rounded
        self.columns.let_go_of_pages()
        return scaled

    def _scale(self, index: int, values: NDArray[Any], target: NDArray[np.float64]) -> None:
        np.subtract(values, self.mean[index], out=target, dtype=np.float64)
        np.divide(target, self.std[index], out=target)


def moments(column: NDArray[Any]) -> tuple[float, float]:
    """Return mean and standard deviation (of the population) of a column, summed in float64."""
    with np.errstate(all="ignore"):
        mean, std = _summed(column, _sum)
        if 0 <= std <= SUSPICIOUS_SPREAD * abs(mean):
            mean, std = _summed(column, _sum_in_order)
    return mean, std


def _summed(column: NDArray[Any], total: Any) -> tuple[float, float]:
    size = len(column)
    mean = total(column, lambda values: values) / size
    return mean, float(np.sqrt(total(column, lambda values: np.square(values - mean)) / size))


def _sum(column: NDArray[Any], of: Any) -> float:
    starts = range(0, len(column), SUMMED_ROWS)
    return float(sum(of(column[at : at + SUMMED_ROWS].astype(np.float64)).sum() for at in starts))


def _sum_in_order(column: NDArray[Any], of: Any) -> float:
    total = 0.0
    for at in range(0, len(column), SUMMED_ROWS):
        values = of(column[at : at + SUMMED_ROWS].astype(np.float64))
        total = float(np.cumsum(np.concatenate(([total], values)))[-1])
    return total
