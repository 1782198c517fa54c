"""How much each column weighs in a cross-validated lasso of the target on a sample of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.selection.lasso import DOUBLE, SINGLE, cross_validated_lasso
from memguard_integrations.autofeat.engine.selection.noise import Noise, PermutedNoise
from memguard_integrations.autofeat.engine.selection.single import single_bytes, single_precision_weights
from memguard_integrations.autofeat.engine.selection.sums import (
    Design,
    FoldSums,
    RealSums,
    Rows,
    full_sums,
)

__all__ = ["RegressionModels"]


class RegressionModels:
    """The lasso models of one sample of rows; they share the sums of products of its columns.

    Args:
        rows: The sample, and its standardised target.
        columns: All columns that any of the models may see.
        memory_bytes: What the sums may take.
    """

    def __init__(self, rows: Rows, columns: NDArray[np.intp], memory_bytes: int) -> None:
        self.rows = rows
        self.columns = columns
        self.memory_bytes = memory_bytes
        self.real: RealSums | None = None

    def weights(
        self,
        columns: Sequence[int],
        noise: Noise | None,
        random: np.random.RandomState,
    ) -> NDArray[np.float64]:
        """Return the size of the coefficient of every column, real ones first, then noise.

        A first model, without noise, is walked in the mixture of float32 and float64 that autofeat's is.

        Raises:
            ValueError: No model could be chosen, neither on the rows as they are nor on shuffled ones.
        """
        design = Design(np.asarray(columns, dtype=np.intp), noise)
        try:
            return self._weights(design)
        except ValueError:
            order = random.permutation(len(self.rows.sample))
            again = None if noise is None else PermutedNoise(noise, order)
            models = RegressionModels(self.rows.permuted(order), design.columns, self.memory_bytes)
            return models._weights(Design(design.columns, again))

    def _weights(self, design: Design) -> NDArray[np.float64]:
        if design.noise is None and single_bytes(len(self.rows.sample), len(design)) <= self.memory_bytes:
            return single_precision_weights(self.rows, design.columns)
        precisions = SINGLE if design.noise is None else DOUBLE
        return np.abs(cross_validated_lasso(self._sums(design), precisions).coefs)

    def _sums(self, design: Design) -> FoldSums:
        if self.real is None:
            self.real = RealSums(self.rows, self.columns)
        return full_sums(self.rows, design, self.real)
