"""A cross-validated lasso from sums: what scikit-learn's ``LassoLarsCV(cv=5)`` finds, without its copies.

Each fold's path is walked on the sums of the other four. The squares and products of the residuals of held-out
rows, which make its error curve, follow from the sums of the fifth: no residual is ever formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.selection.curves import Curve, best_alpha, long_past_the_best
from memguard_integrations.autofeat.engine.selection.lars import (
    GramColumns,
    LassoPath,
    lasso_path,
)
from memguard_integrations.autofeat.engine.selection.sample import N_FOLDS
from memguard_integrations.autofeat.engine.selection.sums import FoldSums

__all__ = ["CrossValidated", "cross_validated_lasso"]

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """The model with the least held-out error.

    ``coefs`` has shape (features,), ``alphas`` (alphas,) and ``errors`` (alphas, folds).
    """

    coefs: Vector
    alpha: float
    alphas: Vector
    errors: Vector


@dataclass(frozen=True, slots=True)
class _Centred:
    """Sums over some folds, taken about the means of the same rows."""

    n_samples: int
    means: Vector
    target_mean: float
    covariance: Vector
    gram: GramColumns


def cross_validated_lasso(sums: FoldSums, *, thorough: bool = True) -> CrossValidated:
    """Choose alpha by five-fold cross-validation and fit all rows with it.

    Args:
        sums: The sums of the design.
        thorough: Walk every path as far as scikit-learn does. Otherwise a path ends when the error of its fold has
            long been growing: what is left of it costs most of the time, and says nothing but in rare cases.

    Raises:
        ValueError: No alpha has a finite error.
    """
    curves = [_fold_curve(sums, fold, thorough) for fold in range(N_FOLDS)]
    alpha, alphas, errors = best_alpha(curves)
    whole = _centred(sums, range(N_FOLDS))
    path = lasso_path(whole.gram, whole.covariance, whole.n_samples, alpha_min=alpha)
    return CrossValidated(path.last(len(whole.means)), alpha, alphas, errors)


def _centred(sums: FoldSums, folds: Sequence[int]) -> _Centred:
    chosen = list(folds)
    count = sums.counts[chosen].sum()
    totals = sums.totals[chosen].sum(axis=0)
    target_mean = sums.target[chosen].sum() / count
    means = totals / count

    def column(feature: int, likely: object) -> Vector:
        found = sums.column(feature, chosen, likely)  # type: ignore[arg-type]
        found -= totals * means[feature]
        return found

    return _Centred(
        n_samples=int(count),
        means=means,
        target_mean=float(target_mean),
        covariance=sums.with_target[chosen].sum(axis=0) - totals * target_mean,
        gram=GramColumns(column, sums.squares[chosen].sum(axis=0) - totals * means),
    )


def _fold_curve(sums: FoldSums, fold: int, thorough: bool) -> Curve:
    centred = _centred(sums, [other for other in range(N_FOLDS) if other != fold])

    def enough(path: LassoPath) -> bool:
        return long_past_the_best(_held_out(sums, fold, centred, path))

    path = lasso_path(
        centred.gram, centred.covariance, centred.n_samples, enough=None if thorough else enough
    )
    return _held_out(sums, fold, centred, path)


def _held_out(sums: FoldSums, fold: int, centred: _Centred, path: LassoPath) -> Curve:
    """Form the products of residuals of a fold's rows from its sums, about the means of the training rows."""
    used = path.support
    count, totals = sums.counts[fold], sums.totals[fold][used]
    means, target_mean = centred.means[used], centred.target_mean
    gram = sums.square(used, fold)
    gram = gram - np.outer(totals, means) - np.outer(means, totals) + count * np.outer(means, means)
    with_target = (
        sums.with_target[fold][used]
        - totals * target_mean
        - means * sums.target[fold]
        + count * means * target_mean
    )
    squares = sums.target_squares[fold] - 2 * target_mean * sums.target[fold] + count * target_mean**2
    coefs = path.coefs
    fitted = coefs @ with_target
    products = (coefs @ gram @ coefs.T - fitted - fitted[:, np.newaxis] + squares) / count
    # Where rounding let alpha grow at the last knot, neighbours on the axis are not neighbours on the path.
    order = np.argsort(path.alphas, kind="stable")
    return Curve(path.alphas[order], products.diagonal()[order], products[order[:-1], order[1:]])
