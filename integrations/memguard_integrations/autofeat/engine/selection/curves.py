"""Held-out error along a path, and the alpha at which folds agree that it is least.

Between two knots of a path the coefficients, and so the residuals of held-out rows, are linear in alpha. Their
mean square at any alpha therefore follows from the mean squares at the knots and the mean products of neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_ALPHAS", "Curve", "best_alpha", "long_past_the_best"]

Vector = NDArray[np.float64]
# About the number of alphas at which folds are compared; scikit-learn's default.
MAX_ALPHAS = 1000
# An error that has not improved over so many knots, nor over half as many again as it took to get there, and not
# while alpha fell to a half, is taken to have had its minimum.
PATIENCE = 64


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean squared error on the rows of a fold along its path.

    ``alphas`` ascend, shape (knots,); ``squares`` are the errors there; ``products``, shape (knots - 1,), are the
    means of the product of the residuals at a knot and at the next one.
    """

    alphas: Vector
    squares: Vector
    products: Vector

    def errors(self, at: Vector) -> Vector:
        """Return the error at some alphas, ascending; constant beyond the ends of the path."""
        knots, squares, products = self.alphas, self.squares, self.products
        if knots[0] != 0:
            knots, squares = np.r_[0, knots], np.r_[squares[0], squares]
            products = np.r_[squares[0], products]
        if knots[-1] != at[-1]:
            knots, squares = np.r_[knots, at[-1]], np.r_[squares, squares[-1]]
            products = np.r_[products, squares[-1]]
        return _between(at, knots, squares, products)


def _between(at: Vector, knots: Vector, squares: Vector, products: Vector) -> Vector:
    if len(knots) < 2:
        return np.full(len(at), np.nan)
    right = np.clip(np.searchsorted(knots, at), 1, len(knots) - 1)
    left = right - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (at - knots[left]) / (knots[right] - knots[left])
    found: Vector = (
        np.square(1 - share) * squares[left]
        + 2 * share * (1 - share) * products[left]
        + np.square(share) * squares[right]
    )
    return found


def best_alpha(curves: Sequence[Curve]) -> tuple[float, Vector, Vector]:
    """Return the alpha of least mean error, all alphas compared, and their errors, shape (alphas, folds).

    Raises:
        ValueError: No alpha has a finite error in every fold.
    """
    alphas = np.unique(np.concatenate([curve.alphas for curve in curves]))
    alphas = alphas[:: max(1, len(alphas) // MAX_ALPHAS)]
    errors = np.column_stack([curve.errors(alphas) for curve in curves])
    finite = np.isfinite(errors).all(axis=1)
    if not finite.any():
        raise ValueError("attempt to get argmin of an empty sequence")
    alphas, errors = alphas[finite], errors[finite]
    return float(alphas[np.argmin(errors.mean(axis=1))]), alphas, errors


def long_past_the_best(curve: Curve) -> bool:
    """Whether the error has long been growing towards smaller alphas."""
    best = int(np.argmin(curve.squares))
    knots_before = len(curve.alphas) - 1 - best
    return best >= max(PATIENCE, knots_before / 2) and curve.alphas[0] <= curve.alphas[best] / 2
