"""The model on the chosen columns of a tall table: the same as scikit-learn's LassoLarsCV, from sums.

For each fold scikit-learn holds the residuals of the held-out rows at a thousand alphas, 8,000 bytes a row and more
than the columns themselves. The error at each alpha follows from sums of the fold as well; see ``lasso.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LassoLarsCV

from memguard_integrations.autofeat.engine.selection.lasso import cross_validated_lasso
from memguard_integrations.autofeat.engine.selection.sample import N_FOLDS
from memguard_integrations.autofeat.engine.selection.sums import FoldSums

__all__ = ["fit_tall_lasso"]

Matrix = NDArray[np.float64]
_BLOCK_ROWS = 16_384


def fit_tall_lasso(rows: Callable[[int, int], Matrix], target: NDArray[Any]) -> LassoLarsCV:
    """Fit ``LassoLarsCV(cv=5)`` without its copies.

    Args:
        rows: gives some rows, from the first to before the second, shape (rows, columns).
        target: shape (n_rows,).

    Returns:
        The fitted model: its coefficients, intercept, alpha and error curves; its path is not kept.

    Raises:
        ValueError: if no alpha has a finite error.
    """
    # About some values of the same size: sums of squares of what is far from zero would lose the digits that differ.
    origin = rows(0, min(len(target), _BLOCK_ROWS)).mean(axis=0)
    target_origin = float(np.mean(target))
    sums = _sums(lambda start, stop: rows(start, stop) - origin, np.asarray(target) - target_origin)
    found = cross_validated_lasso(sums)
    model = LassoLarsCV(cv=5)
    count = sums.counts.sum()
    means = origin + sums.totals.sum(axis=0) / count
    model.coef_, model.alpha_ = found.coefs, found.alpha
    model.intercept_ = target_origin + sums.target.sum() / count - float(found.coefs @ means)
    model.cv_alphas_, model.mse_path_ = found.alphas, found.errors
    model.n_features_in_ = len(found.coefs)
    return model


def _sums(rows: Callable[[int, int], Matrix], target: NDArray[np.float64]) -> FoldSums:
    folds = np.array_split(np.arange(len(target)), N_FOLDS)
    size = rows(0, 1).shape[1]
    products = [np.zeros((size, size)) for _ in folds]
    totals, with_target = np.zeros((N_FOLDS, size)), np.zeros((N_FOLDS, size))
    for fold, members in enumerate(folds):
        for start in range(members[0], members[-1] + 1, _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, members[-1] + 1)
            block = rows(start, stop)
            products[fold] += block.T @ block
            totals[fold] += block.sum(axis=0)
            with_target[fold] += target[start:stop] @ block

    def column(feature: int, chosen: Sequence[int], likely: object = None) -> Matrix:
        found: Matrix = sum((products[fold][feature] for fold in chosen), np.zeros(size))
        return found

    def square(features: NDArray[np.intp], fold: int) -> Matrix:
        found: Matrix = products[fold][np.ix_(features, features)]
        return found

    return FoldSums(
        counts=np.array([float(len(members)) for members in folds]),
        target=np.array([target[members].sum() for members in folds]),
        target_squares=np.array([np.square(target[members]).sum() for members in folds]),
        totals=totals,
        with_target=with_target,
        squares=np.array([each.diagonal() for each in products]),
        column=column,
        square=square,
    )
