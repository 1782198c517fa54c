"""The rows of one run, in the random order in which autofeat's models see them, and the folds of that order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["N_FOLDS", "Piece", "Sample", "run_sample"]

N_FOLDS = 5
# Share of the rows that a run sees, and the least number.
SHARE = 0.85
FEWEST = 10


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of one fold: where they are stored (ascending), and their positions in the sample."""

    fold: int
    rows: NDArray[np.intp]
    positions: NDArray[np.intp]


class Sample:
    """Rows in sample order.

    Args:
        rows: The stored row of each position, shape (n,).

    The folds are those of an unshuffled 5-fold split of the positions, as in scikit-learn's ``KFold``.
    """

    def __init__(self, rows: NDArray[np.intp]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def permuted(self, permutation: NDArray[np.intp]) -> Sample:
        """Return the same rows in another order."""
        return Sample(self.rows[permutation])

    @cached_property
    def ranked(self) -> NDArray[np.intp]:
        """Positions in the order in which their rows are stored."""
        return np.argsort(self.rows, kind="stable")

    @cached_property
    def fold_sizes(self) -> NDArray[np.intp]:
        """Rows of each fold.

        Raises:
            ValueError: There are fewer rows than folds.
        """
        size = len(self)
        if size < N_FOLDS:
            raise ValueError(
                f"Cannot have number of splits n_splits={N_FOLDS} greater than the number of samples: "
                f"n_samples={size}."
            )
        return size // N_FOLDS + (np.arange(N_FOLDS) < size % N_FOLDS)

    def chunks(self, size: int) -> Iterator[NDArray[np.intp]]:
        """Yield positions in storage order, at most ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.ranked[start : start + size]

    def pieces(self, positions: NDArray[np.intp]) -> Iterator[Piece]:
        """Split positions that are in storage order by fold, keeping that order."""
        folds = np.searchsorted(np.cumsum(self.fold_sizes), positions, side="right")
        for fold in range(N_FOLDS):
            mine = positions[folds == fold]
            if len(mine):
                yield Piece(fold, self.rows[mine], mine)


def run_sample(n_rows: int, random: np.random.RandomState) -> Sample:
    """Draw the rows of a run: a random 85 %, at least ten, of all rows."""
    return Sample(random.permutation(n_rows)[: max(FEWEST, int(SHARE * n_rows))].astype(np.intp, copy=False))
