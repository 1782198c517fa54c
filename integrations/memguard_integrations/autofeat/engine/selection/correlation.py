"""Columns that are not nearly the same as a column before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.selection.sample import Sample
from memguard_integrations.autofeat.engine.selection.standard import Standardised

__all__ = ["MOST_CORRELATION", "correlations", "uncorrelated"]

# autofeat's bound for the correlation of two selected columns.
MOST_CORRELATION = 0.9
BLOCK_BYTES = 16 << 20


def uncorrelated(matrix: NDArray[np.float64], n_kept: int) -> list[int]:
    """Return the places of the columns after the first ``n_kept`` that correlate with no earlier one.

    Earlier ones count whether they were taken or not.

    Args:
        matrix: Correlations, shape (columns, columns).
        n_kept: Columns that are taken anyway, >= 1.
    """
    return [
        place
        for place in range(n_kept, len(matrix))
        if np.abs(matrix[place, :place]).max() < MOST_CORRELATION
    ]


def correlations(
    data: Standardised, columns: Sequence[int], on_step: Callable[[], None]
) -> NDArray[np.float64]:
    """Return Pearson's correlations of columns over all rows, shape (len(columns), len(columns))."""
    size = len(columns)
    totals, products = np.zeros(size), np.zeros((size, size))
    everything = Sample(np.arange(data.n_rows))
    for rows in everything.chunks(max(1024, BLOCK_BYTES // (8 * max(1, size)))):
        on_step()
        values = data.gather(columns, rows)
        totals += values.sum(axis=1)
        products += values @ values.T
    products -= np.outer(totals, totals) / data.n_rows
    spread = np.sqrt(products.diagonal())
    return products / np.outer(spread, spread)
