"""The first model of a run, walked in float32 on copies of rows, to the last bit as autofeat's.

The first model sees float32 columns, so its Gram matrix has errors of about 1e-7, and engineered columns are so
alike that these decide which of them come in. Nobody else's float32 sums have the same errors. So where one copy
of the sample fits in memory, this model is walked on the rows themselves by scikit-learn's own path; beyond that,
on sums in float64, which err less but not alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LassoLars, lars_path

from memguard_integrations.autofeat.engine.selection.blocks import Rows
from memguard_integrations.autofeat.engine.selection.curves import (
    Curve,
    best_alpha,
)
from memguard_integrations.autofeat.engine.selection.lars import EPS, MAX_ITER

__all__ = ["single_bytes", "single_precision_weights"]

Single = NDArray[np.float32]
Double = NDArray[np.float64]
# Rows whose residuals are formed at once, for all knots of a path.
RESIDUAL_ROWS = 512


def single_bytes(n_rows: int, n_columns: int) -> int:
    """What the largest copies take: the sample in float32, the Gram matrix and two copies of it."""
    return 4 * n_columns * (n_rows + 3 * min(n_rows, n_columns))


def single_precision_weights(rows: Rows, columns: NDArray[np.intp]) -> Double:
    """Return the size of every column's coefficient in a cross-validated lasso of float32 columns.

    Raises:
        ValueError: No alpha has a finite error.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # paths that end early are what the errors are then compared on
        edges = np.concatenate(([0], np.cumsum(rows.sample.fold_sizes)))
        curves = [_fold_curve(rows, columns, np.arange(start, stop)) for start, stop in pairwise(edges)]
        alpha, _, _ = best_alpha(curves)
        values = _copied(rows, columns, np.arange(len(rows.sample)))
        model = LassoLars(alpha=alpha, eps=EPS, max_iter=MAX_ITER, copy_X=len(values) <= len(columns))
        weights: Double = np.abs(model.fit(values, rows.target).coef_).astype(np.float64)
        return weights


def _fold_curve(rows: Rows, columns: NDArray[np.intp], held_out: NDArray[np.intp]) -> Curve:
    training = np.setdiff1d(np.arange(len(rows.sample)), held_out)
    values = _copied(rows, columns, training)
    means = values.mean(axis=0)
    values -= means
    target = rows.target[training]
    target_mean = target.mean()
    rows.on_step()
    alphas, _, coefs = lars_path(
        values,
        target - target_mean,
        Gram="auto",
        copy_X=False,
        copy_Gram=False,
        method="lasso",
        max_iter=MAX_ITER,
        eps=EPS,
    )
    del values
    order = np.argsort(alphas, kind="stable")
    residuals = _residuals(
        rows, columns, held_out, means=means, target_mean=target_mean, coefs=coefs[:, order]
    )
    return _curve(alphas[order], residuals, len(held_out))


def _copied(rows: Rows, columns: NDArray[np.intp], positions: NDArray[np.intp]) -> Single:
    """Copy rows of the sample, one after another, shape (positions, columns)."""
    found = np.empty((len(positions), len(columns)), dtype=np.float32)
    where = rows.sample.rows[positions]
    size = max(1, rows.block_bytes // (8 * max(1, len(columns))))
    order = np.argsort(where, kind="stable")
    for start in range(0, len(order), size):
        some = order[start : start + size]
        rows.on_step()
        found[some] = rows.data.gather(columns.tolist(), where[some]).T
    return found


def _residuals(
    rows: Rows,
    columns: NDArray[np.intp],
    held_out: NDArray[np.intp],
    *,
    means: Single,
    target_mean: float,
    coefs: Double,
) -> Iterator[Double]:
    """Yield residuals of some held-out rows at every knot, shape (rows, knots)."""
    used = np.flatnonzero(coefs.any(axis=1))
    for start in range(0, len(held_out), RESIDUAL_ROWS):
        some = held_out[start : start + RESIDUAL_ROWS]
        values = _copied(rows, columns[used], some) - means[used]
        yield values @ coefs[used] - (rows.target[some] - target_mean)[:, np.newaxis]


def _curve(alphas: Double, residuals: Iterator[Double], size: int) -> Curve:
    squares, products = np.zeros(len(alphas)), np.zeros(len(alphas) - 1)
    for values in residuals:
        squares += np.einsum("ij,ij->j", values, values)
        products += np.einsum("ij,ij->j", values[:, :-1], values[:, 1:])
    return Curve(alphas, squares / size, products / size)
