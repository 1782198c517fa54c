"""Sums of products per fold: all that lasso paths and their held-out errors need to know of the rows.

One pass over the rows adds up, for each of the five folds, X'X, X'y and the rest, in float64 and in blocks of
bounded size. The sums of a training set are those of four folds, those of the full fit are all five, and those of
the held-out rows are the fifth: so no fold is ever copied. Products among real columns are summed once per run
(``RealSums``) and serve every model of that run; a model adds what its noise columns need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.selection.blas import add_cross, add_own
from memguard_integrations.autofeat.engine.selection.blocks import Block, Design, Rows, for_each_block
from memguard_integrations.autofeat.engine.selection.sample import N_FOLDS

__all__ = ["FoldSums", "Margins", "RealSums", "full_sums", "target_sums"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FoldSums:
    """Sums of a design, one row per fold.

    ``counts``, ``target`` (sums of y) and ``target_squares`` have shape (folds,); ``totals`` (sums of columns),
    ``with_target`` (X'y) and ``squares`` (the diagonal of X'X) have shape (folds, features).
    ``column(j, folds, likely)`` returns column j of X'X summed over some folds, shape (features,); ``likely``
    orders features by how likely they are asked for next. ``square(features, fold)`` returns rows and columns of
    some features of one fold's X'X.
    """

    counts: NDArray[np.float64]
    target: Matrix
    target_squares: Matrix
    totals: Matrix
    with_target: Matrix
    squares: Matrix
    column: Callable[[int, Sequence[int], Callable[[], NDArray[np.intp]] | None], Matrix]
    square: Callable[[NDArray[np.intp], int], Matrix]


class Margins:
    """The sums that are not of two columns."""

    def __init__(self, n_features: int) -> None:
        self.totals = np.zeros((N_FOLDS, n_features))
        self.with_target = np.zeros((N_FOLDS, n_features))

    def add(self, fold: int, values: Matrix, target: Matrix) -> None:
        """Add some rows of a fold: columns, shape (features, rows), and their target."""
        self.totals[fold] += values.sum(axis=1)
        self.with_target[fold] += values @ target


class RealSums:
    """Sums of products among real columns, for every fold; folds x columns² x 8 bytes.

    Args:
        rows: The rows of the run.
        columns: Indices of the columns.
    """

    def __init__(self, rows: Rows, columns: NDArray[np.intp]) -> None:
        size = len(columns)
        self.columns = columns
        self.place = {int(column): place for place, column in enumerate(columns)}
        self.products = [np.zeros((size, size), order="F") for _ in range(N_FOLDS)]
        self.margins = Margins(size)
        for_each_block(rows, Design(columns), self._add)
        for products in self.products:
            _mirror(products)

    def _add(self, block: Block) -> None:
        self.margins.add(block.fold, block.real, block.target)
        add_own(self.products[block.fold], block.real)

    @staticmethod
    def bytes_for(n_columns: int) -> int:
        """What the sums of so many columns take."""
        return 8 * N_FOLDS * n_columns**2

    def places(self, columns: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return where some columns are in these sums."""
        return np.array([self.place[int(column)] for column in columns], dtype=np.intp)


class _NoiseSums:
    """Sums of products of noise with real columns and with noise."""

    def __init__(self, rows: Rows, design: Design, n_noise: int) -> None:
        self.with_real = [np.zeros((n_noise, len(design.columns)), order="F") for _ in range(N_FOLDS)]
        self.products = [np.zeros((n_noise, n_noise), order="F") for _ in range(N_FOLDS)]
        self.margins = Margins(n_noise)
        if not n_noise:
            return
        for_each_block(rows, design, self._add)
        for products in self.products:
            _mirror(products)

    def _add(self, block: Block) -> None:
        self.margins.add(block.fold, block.noise, block.target)
        add_own(self.products[block.fold], block.noise)
        if len(block.real):
            add_cross(self.with_real[block.fold], block.noise, block.real)


def full_sums(rows: Rows, design: Design, real: RealSums) -> FoldSums:
    """Add up what a design has beyond the products of its real columns, and put both together."""
    places, size = real.places(design.columns), len(design)
    noise = _NoiseSums(rows, design, design.n_noise)

    def column(feature: int, folds: Sequence[int], likely: object = None) -> Matrix:
        found = np.zeros(size)
        head, tail = found[: len(places)], found[len(places) :]
        for fold in folds:
            if feature < len(places):
                head += real.products[fold][places, places[feature]]
                tail += noise.with_real[fold][:, feature]
            else:
                head += noise.with_real[fold][feature - len(places)]
                tail += noise.products[fold][:, feature - len(places)]
        return found

    def square(features: NDArray[np.intp], fold: int) -> Matrix:
        found = np.empty((features.size, features.size))
        mine = features < len(places)
        inside, outside = places[features[mine]], features[~mine] - len(places)
        found[np.ix_(mine, mine)] = real.products[fold][np.ix_(inside, inside)]
        found[np.ix_(~mine, ~mine)] = noise.products[fold][np.ix_(outside, outside)]
        found[np.ix_(~mine, mine)] = noise.with_real[fold][np.ix_(outside, features[mine])]
        found[np.ix_(mine, ~mine)] = found[np.ix_(~mine, mine)].T
        return found

    def both(left: Matrix, right: Matrix) -> Matrix:
        return np.concatenate([left[:, places], right], axis=1)

    return FoldSums(
        **target_sums(rows),
        totals=both(real.margins.totals, noise.margins.totals),
        with_target=both(real.margins.with_target, noise.margins.with_target),
        squares=both(_diagonals(real.products), _diagonals(noise.products)),
        column=column,
        square=square,
    )


def target_sums(rows: Rows) -> dict[str, Matrix]:
    """Return counts, sums and sums of squares of the target, per fold."""
    sizes = rows.sample.fold_sizes
    parts = np.split(rows.target, np.cumsum(sizes)[:-1])
    return {
        "counts": sizes.astype(np.float64),
        "target": np.array([part.sum() for part in parts]),
        "target_squares": np.array([part @ part for part in parts]),
    }


def _diagonals(products: Sequence[Matrix]) -> Matrix:
    return np.array([matrix.diagonal() for matrix in products])


# Columns that are mirrored at once: the triangle is turned over without a second matrix.
MIRRORED = 256


def _mirror(products: Matrix) -> None:
    """Copy the upper triangle to the lower one."""
    size = len(products)
    for start in range(0, size, MIRRORED):
        stop = min(size, start + MIRRORED)
        square = products[start:stop, start:stop]
        square[:] = np.triu(square) + np.triu(square, 1).T
        products[stop:, start:stop] = products[start:stop, stop:].T
