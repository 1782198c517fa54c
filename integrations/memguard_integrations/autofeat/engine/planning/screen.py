"""Which engineered columns are worth a place, told from a score of each as it passes by.

Comes in: columns, one after the other, each seen once. Goes out: for each whether it is among the best. A column's
score is how much of what the given columns leave unexplained of the target it explains by itself.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Screen"]

# More rows than these tell scores apart no better than a selection can.
_MOST_ROWS: Final = 20_000


class Screen:
    """Takes the best of the columns that pass by twice: once to be scored, and once to be taken or not.

    Args:
        frame: the given columns, finite, without gaps in its index.
        target: shape (rows,).
        classes: whether the target tells classes.
        most: how many columns to take.
    """

    def __init__(self, frame: pd.DataFrame, target: NDArray[Any], *, classes: bool, most: int) -> None:
        self._step = -(-len(target) // _MOST_ROWS)
        self._given = _directions(frame.iloc[:: self._step].to_numpy(np.float64))
        self._left = self._unexplained(_values(target[:: self._step], classes))
        self._most = most
        self._scores: list[float] = []
        self._bar = np.inf
        self._taken = 0

    def score(self, values: NDArray[np.float32]) -> bool:
        """Note how good a column is; takes none."""
        self._scores.append(self._score(values))
        return False

    def close(self) -> None:
        """All were scored: the best of them are known."""
        scores = np.sort(self._scores)[::-1]
        self._bar = -np.inf if len(scores) <= self._most else float(scores[self._most - 1])

    def takes(self, values: NDArray[np.float32]) -> bool:
        """Tell whether a column, passing by again, is one of the best."""
        if self._taken >= self._most or self._score(values) < self._bar:
            return False
        self._taken += 1
        return True

    def _score(self, values: NDArray[np.float32]) -> float:
        part = self._unexplained(values[:: self._step].astype(np.float64)[:, np.newaxis])
        return float(np.abs(part.T @ self._left).max())

    def _unexplained(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what a linear model of the given columns leaves of some values, each of unit length or 0."""
        with np.errstate(all="ignore"):
            values = values - values.mean(axis=0)
            whole = np.sqrt(np.square(values).sum(axis=0))
            left = values - self._given @ (self._given.T @ values)
            size = np.sqrt(np.square(left).sum(axis=0))
            # Where nothing but rounding is left, there is nothing to tell.
            unit: NDArray[np.float64] = left / np.where(size > 1e-6 * whole, size, np.inf)
        return np.nan_to_num(unit, posinf=0.0, neginf=0.0)


def _values(target: NDArray[Any], classes: bool) -> NDArray[np.float64]:
    """Return what is to be explained, shape (rows, 1); of classes an indicator of each but one."""
    if not classes:
        return np.asarray(target, dtype=np.float64).reshape(len(target), 1)
    labels = np.unique(target)
    indicators: NDArray[np.float64] = (np.asarray(target)[:, np.newaxis] == labels[1:]).astype(np.float64)
    return indicators


def _directions(given: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return directions at right angles that span some columns about their means, shape (rows, directions)."""
    centred = given - given.mean(axis=0)
    size = np.sqrt(np.square(centred).sum(axis=0))
    centred = centred[:, size > 0] / size[size > 0]
    if not centred.shape[1]:
        return np.zeros((len(given), 1))
    vectors, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    return np.ascontiguousarray(vectors[:, lengths > 1e-9 * lengths[0]])
