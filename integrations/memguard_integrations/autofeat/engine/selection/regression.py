"""How much each column weighs in a cross-validated lasso of the target on a sample of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.selection.blocks import Design, Rows, one_blas_thread
from memguard_integrations.autofeat.engine.selection.lasso import cross_validated_lasso
from memguard_integrations.autofeat.engine.selection.lazy_sums import lazy_sums
from memguard_integrations.autofeat.engine.selection.noise import Noise, PermutedNoise
from memguard_integrations.autofeat.engine.selection.single import single_bytes, single_precision_weights
from memguard_integrations.autofeat.engine.selection.sums import FoldSums, RealSums, full_sums

__all__ = ["EXACT_BYTES", "RegressionModels"]

# Up to here the first model is walked on copies of rows, and all paths as far as scikit-learn walks them, so that
# the choice is autofeat's to the last bit, where BLAS sums alike with one thread and with several (autofeat's own
# changes where it does not). With more data the same costs as much time and half the memory as autofeat, and columns
# are told apart by more rows: the choice depends less on the last bits.
EXACT_BYTES = 32 << 20
# Share of the memory that the sums among real columns may take if all of them are to be had at once; those with
# noise columns, the columns of a path and the blocks have the rest.
FULL_SHARE = 0.75


class RegressionModels:
    """The lasso models of one sample of rows; they share the sums of products of its columns.

    Args:
        rows: The sample, its standardised target, and how many threads may work on it; BLAS may have fewer.
        columns: All columns that any of the models may see.
        memory_bytes: What the sums may take.
    """

    def __init__(self, rows: Rows, columns: NDArray[np.intp], memory_bytes: int) -> None:
        self.rows = rows
        self.columns = columns
        self.memory_bytes = memory_bytes
        self.real: RealSums | None = None
        needed = single_bytes(len(rows.sample), len(columns))
        self.exact = needed <= min(EXACT_BYTES, memory_bytes)

    def weights(
        self,
        columns: Sequence[int],
        noise: Noise | None,
        random: np.random.RandomState,
    ) -> NDArray[np.float64]:
        """Return the size of the coefficient of every column, real ones first, then noise.

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
        if design.noise is None and self.exact:
            return single_precision_weights(self.rows, design.columns)
        with one_blas_thread() as threads:
            sums = self._sums(replace(self.rows, threads=min(threads, self.rows.threads)), design)
            return np.abs(cross_validated_lasso(sums, thorough=self.exact).coefs)

    def _sums(self, rows: Rows, design: Design) -> FoldSums:
        if RealSums.bytes_for(len(self.columns)) > FULL_SHARE * self.memory_bytes:
            return lazy_sums(rows, design, int(FULL_SHARE * self.memory_bytes))
        if self.real is None:
            self.real = RealSums(rows, self.columns)
        return full_sums(rows, design, self.real)
