"""Sums of products for designs that are too wide for all of them: a column is summed when a path first wants it.

A lasso path of 500 steps touches some hundred features however many there are. So of X'X only their columns are
summed, several in one pass over the rows: the one that is wanted and those that are most likely wanted next.
Memory is O(features x active) instead of O(features²); the price is a pass for every few columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.selection.blas import add_cross
from memguard_integrations.autofeat.engine.selection.blocks import Block, Design, Rows, for_each_block
from memguard_integrations.autofeat.engine.selection.sample import N_FOLDS
from memguard_integrations.autofeat.engine.selection.sums import FoldSums, Margins, target_sums

__all__ = ["lazy_sums"]

Matrix = NDArray[np.float64]
# Columns that are summed in one pass: enough for the arithmetic to outweigh the reading.
BATCH = 64


class _Columns:
    """Columns of X'X per fold, shape (folds, features) each; the oldest go when there is no room for another."""

    def __init__(self, rows: Rows, design: Design, memory_bytes: int) -> None:
        self.rows = rows
        self.design = design
        values_bytes = 8 * len(rows.sample) * len(design)
        # Wide tables are often short: then the rows themselves fit, and a pass need not make them again.
        self.blocks: list[Block] | None = [] if values_bytes <= memory_bytes / 2 else None
        left = memory_bytes - (0 if self.blocks is None else values_bytes)
        self.most = max(2 * BATCH, left // (8 * N_FOLDS * max(1, len(design))))
        self.held: dict[int, Matrix] = {}

    def each_block(self, work: Callable[[Block], None]) -> None:
        """Hand all rows to ``work``, those that are held or else made again."""
        if not self.blocks:
            for_each_block(self.rows, self.design, work)
        else:
            self.rows.on_step()
            for block in self.blocks:
                work(block)

    def get(self, feature: int, likely: Callable[[], NDArray[np.intp]] | None) -> Matrix:
        """Return a column; if it is not held, sum it together with likely ones."""
        if feature not in self.held:
            others = [] if likely is None else [int(other) for other in likely()[: 8 * BATCH]]
            self._sum([feature, *(other for other in others if other != feature and other not in self.held)])
        return self.held[feature]

    def square(self, features: NDArray[np.intp], fold: int) -> Matrix:
        """Return rows and columns of some features; they are summed on their own where not all are held."""
        if all(feature in self.held for feature in features.tolist()):
            found = [self.held[feature][fold][features] for feature in features.tolist()]
            return np.array(found).reshape(features.size, features.size)
        summed = np.zeros((features.size, features.size), order="F")

        def add(block: Block) -> None:
            if block.fold == fold:
                values = _values(block)[features]
                add_cross(summed, values, values)

        self.each_block(add)
        return summed

    def _sum(self, features: Sequence[int]) -> None:
        wanted = list(features)[:BATCH]
        found = [np.zeros((len(wanted), len(self.design)), order="F") for _ in range(N_FOLDS)]

        def add(block: Block) -> None:
            values = _values(block)
            add_cross(found[block.fold], values[wanted], values)

        self.each_block(add)
        for oldest in list(self.held)[: max(0, len(self.held) + len(wanted) - self.most)]:
            del self.held[oldest]
        for place, feature in enumerate(wanted):
            self.held[feature] = np.array([products[place] for products in found])


def _values(block: Block) -> Matrix:
    return np.concatenate([block.real, block.noise]) if len(block.noise) else block.real


def lazy_sums(rows: Rows, design: Design, memory_bytes: int) -> FoldSums:
    """Return the sums of a design whose columns are summed on demand.

    Args:
        rows: The rows.
        design: The columns.
        memory_bytes: What columns may take that are held for later paths.
    """
    columns = _Columns(rows, design, memory_bytes)
    margins, squares = Margins(len(design)), np.zeros((N_FOLDS, len(design)))

    def add(block: Block) -> None:
        values = _values(block)
        if columns.blocks is not None:
            columns.blocks.append(replace(block, real=values, noise=values[:0]))
        margins.add(block.fold, values, block.target)
        squares[block.fold] += np.einsum("ij,ij->i", values, values)

    for_each_block(rows, design, add)

    def column(
        feature: int, folds: Sequence[int], likely: Callable[[], NDArray[np.intp]] | None = None
    ) -> Matrix:
        found: Matrix = columns.get(feature, likely)[list(folds)].sum(axis=0)
        return found

    return FoldSums(
        **target_sums(rows),
        totals=margins.totals,
        with_target=margins.with_target,
        squares=squares,
        column=column,
        square=columns.square,
    )
