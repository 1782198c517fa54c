"""The given columns, standardised: what autofeat compares every new column with in the end.

Comes in: the frame as it was given. Goes out: for a block of candidates, which are correlated with a given column by
less than 0.9. Nothing is computed before the first candidate that gets as far.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from memguard_integrations.autofeat.engine import kernels
from memguard_integrations.autofeat.engine.columns import Floats
from memguard_integrations.autofeat.engine.expansion.decisions import Moments, standardised_band

__all__ = ["References"]

_UNLIKE: Final = 0.9
# A product of a few columns takes the same path through BLAS as one of many; of a single one it does not.
_WIDE: Final = 16


class References:
    """The given columns in standard units; thread safe.

    Args:
        frame: as it was given; every column counts, also those that nothing is made from.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self._lock = threading.Lock()
        self._columns: Floats | None = None

    def is_unlike(
        self, values: Floats, chosen: list[int], shifts: list[float], moments: list[Moments]
    ) -> list[bool]:
        """Tell which candidates are unlike all given columns.

        Args:
            values: candidates, shape (candidates, rows).
            chosen: which of them are asked about.
            shifts: of each chosen one, the value about which its sums were taken.
            moments: of each chosen one.

        Raises:
            ValueError: if a given column has an infinite value.
        """
        columns = self._prepared()
        if self._has_gaps:
            return [False] * len(chosen)
        products = np.empty((len(values), len(columns)))
        all_shifts = np.zeros(len(values), dtype=np.float32)
        all_shifts[chosen] = shifts
        kernels.against(values, np.array(chosen, dtype=np.int64), all_shifts, columns, products)
        return [
            self._decide(values[index], products[index], float(all_shifts[index]), each)
            for index, each in zip(chosen, moments, strict=True)
        ]

    def _decide(self, values: Floats, products: NDArray[np.float64], shift: float, moments: Moments) -> bool:
        band = standardised_band(moments, is_single=self._is_single)
        if band < np.inf:
            sums = products - (moments.mean - shift) * self._sums
            highest = float(np.abs(sums).max()) / (moments.n_rows * moments.deviation)
            if abs(highest - _UNLIKE) > band:
                return highest < _UNLIKE
        return self._exact(values) < _UNLIKE

    def _exact(self, values: Floats) -> float:
        """Compute the largest correlation the way autofeat does, NaN and all."""
        wide = np.repeat(values[np.newaxis], _WIDE, axis=0).T
        with np.errstate(all="ignore"):
            scaled = StandardScaler().fit_transform(wide)
            return float(np.max(np.abs(np.dot(scaled.T, self._scaled()) / len(values)), axis=1)[0])

    def _prepared(self) -> Floats:
        with self._lock:
            if self._columns is None:
                scaled = self._scaled()
                self._is_single = scaled.dtype == np.float32
                columns = np.ascontiguousarray(scaled.T, dtype=np.float32)
                self._sums = columns.sum(axis=1, dtype=np.float64)
                self._has_gaps = bool(np.isnan(self._sums).any())
                self._columns = columns
            return self._columns

    def _scaled(self) -> NDArray[Any]:
        # Again for each that is in doubt: few are, and it is more than the columns that are kept.
        scaled: NDArray[Any] = StandardScaler().fit_transform(self._frame)
        return scaled
