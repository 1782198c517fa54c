"""The lasso path by least angle regression, from columns of a Gram matrix that are asked for one by one.

The steps, their order and their tolerances are those of scikit-learn's solver (``lars_path`` with
``method="lasso"``), so that the path is the same up to rounding. It differs in what it holds: instead of two
copies of the whole Gram matrix that it permutes, only the columns of the features that are in the model. So a
source may compute a column when it is first wanted, and memory is O(features x active) instead of O(features²).

Source of the algorithm: Efron, Hastie, Johnstone, Tibshirani (2004), Least Angle Regression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, qr_delete

__all__ = ["MAX_ITER", "GramColumns", "LassoPath", "lasso_path"]

Vector = NDArray[np.float64]

# The limits that autofeat's call of scikit-learn's LassoLarsCV comes down to.
MAX_ITER = 500
EPS = 1e-8
# scikit-learn's own: alphas closer than this are equal, a smaller pivot means a column that adds nothing.
EQUALITY_TOLERANCE = np.finfo(np.float32).eps
SMALLEST_PIVOT = 1e-7
TINY = np.finfo(np.float32).tiny
# The Cholesky factor grows by so many rows at a time, so that LAPACK works on it in place, without a copy.
GROWTH = 64
# Steps after which a path asks whether it has gone far enough.
ASKED_EVERY = 48


@dataclass(frozen=True, slots=True)
class GramColumns:
    """Columns of one Gram matrix.

    ``column(j, wanted)`` gives all its entries of column j, shape (features,); ``wanted`` orders other columns by
    how likely they are asked for next, most likely first, so that a source can compute several in one pass.
    """

    column: Callable[[int, Callable[[], NDArray[np.intp]]], Vector]
    diagonal: Vector


@dataclass(frozen=True, slots=True)
class LassoPath:
    """The knots of a path, from the largest alpha on.

    ``alphas`` has shape (knots,), ``support`` (used,) names the features that were ever in the model, and
    ``coefs`` has shape (knots, used).
    """

    alphas: Vector
    support: NDArray[np.intp]
    coefs: Vector

    def last(self, n_features: int) -> NDArray[np.float64]:
        """Return the coefficients at the end of the path, shape (n_features,)."""
        found = np.zeros(n_features)
        found[self.support] = self.coefs[-1]
        return found


def lasso_path(
    gram: GramColumns,
    covariance: Vector,
    n_samples: int,
    *,
    alpha_min: float = 0.0,
    max_iter: int = MAX_ITER,
    enough: Callable[[LassoPath], bool] | None = None,
) -> LassoPath:
    """Walk the lasso path from the null model to ``alpha_min`` or for ``max_iter`` steps.

    Args:
        gram: X'X of centred columns.
        covariance: X'y of centred columns, shape (features,).
        n_samples: Rows behind these sums, > 0; it scales alpha.
        alpha_min: Where the path ends, >= 0.
        max_iter: Most steps, >= 0.
        enough: Asked now and then, with the path so far, whether the rest of it is of no interest.

    Returns:
        The knots of the path.
    """
    walk = _Walk(gram, covariance, n_samples, max_iter)
    # Steps of no length and factors without a square root are part of the algorithm, which looks for them.
    with np.errstate(all="ignore"):
        return walk.run(alpha_min, enough)


class _Walk:
    """The state of one walk along the path.

    ``order`` lists the features, those in the model first; ``cov`` are the covariances of the residual with the
    others, in that order.
    """

    def __init__(self, gram: GramColumns, cov: Vector, n_samples: int, max_iter: int) -> None:
        self.start = cov
        self.cov = cov.copy()
        self.n_samples = n_samples
        self.max_iter = max_iter
        self.n_features = cov.size
        self.order = np.arange(cov.size)
        self.decimals = np.finfo(cov.dtype).precision
        self.alphas = np.zeros(max_iter + 1)
        self.coefs = np.zeros((max_iter + 1, cov.size))
        self.model = _Model(gram, cov.size)
        self.step = 0

    def run(self, alpha_min: float, enough: Callable[[LassoPath], bool] | None) -> LassoPath:
        dropped = False
        while True:
            place, largest = self._largest()
            alpha = self.alphas[self.step] = abs(largest) / self.n_samples
            if alpha <= alpha_min + EQUALITY_TOLERANCE:
                self._end_at(alpha_min)
                break
            if self.step >= self.max_iter or self.model.size >= self.n_features:
                break
            if not dropped and not self._enter(place, largest):
                continue
            if self.step > 0 and self.alphas[self.step - 1] < alpha:
                break  # the sums have lost the residual to rounding; scikit-learn stops here too
            dropped = self._advance(abs(largest))
            if enough is not None and self.step % ASKED_EVERY == 0 and enough(self._result()):
                break
        return self._result()

    def _largest(self) -> tuple[int, Any]:
        if not self.cov.size:
            return 0, 0.0
        place = int(np.argmax(np.abs(self.cov)))
        return place, self.cov[place]

    def _end_at(self, alpha_min: float) -> None:
        """Interpolate the last knot where the path went past ``alpha_min``."""
        now = self.step
        if abs(self.alphas[now] - alpha_min) <= EQUALITY_TOLERANCE:
            return
        if now > 0:
            before = self.alphas[now - 1]
            share = (before - alpha_min) / (before - self.alphas[now])
            self.coefs[now] = self.coefs[now - 1] + share * (self.coefs[now] - self.coefs[now - 1])
        self.alphas[now] = alpha_min

    def _enter(self, place: int, largest: Any) -> bool:
        """Take the feature at ``place`` into the model, or tell that it adds nothing to those in it."""
        size = self.model.size
        self.cov[[place, 0]] = self.cov[[0, place]]
        self.order[[size + place, size]] = self.order[[size, size + place]]
        if self.model.enter(int(self.order[size]), np.sign(largest), self._likely_next):
            self.cov = self.cov[1:]
            return True
        # scikit-learn puts the covariances back but not the features; what follows must do the same.
        self.cov[0] = 0
        self.cov[[place, 0]] = self.cov[[0, place]]
        return False

    def _likely_next(self) -> NDArray[np.intp]:
        size = self.model.size
        return self.order[size:][np.argsort(-np.abs(self.cov), kind="stable")]

    def _advance(self, largest: Any) -> bool:
        """Go to the next knot; tell whether a feature leaves the model there."""
        model = self.model
        direction, slope = model.equiangular()
        along = model.correlations(direction)[self.order[model.size :]]
        np.around(along, decimals=self.decimals, out=along)
        length = min(
            _least_positive((largest - self.cov) / (slope - along + TINY)),
            _least_positive((largest + self.cov) / (slope + along + TINY)),
            largest / slope,
        )
        now = self.coefs[self.step][model.active]
        crossing = -now / (direction + TINY)
        first = _least_positive(crossing)
        leaving = np.flatnonzero(crossing == first)[::-1] if first < length else np.empty(0, dtype=np.intp)
        length = min(first, length)
        self.step += 1
        self.coefs[self.step][model.active] = now + length * direction
        self.cov -= length * along
        for position in leaving:
            self._leave(int(position))
        return bool(leaving.size)

    def _leave(self, position: int) -> None:
        feature, column = self.model.leave(position)
        size = self.model.size
        self.order[position:size] = self.order[position + 1 : size + 1]
        self.order[size] = feature
        left = self.start[feature] - np.dot(column, self.coefs[self.step])
        self.cov = np.concatenate(([left], self.cov))

    def _result(self) -> LassoPath:
        coefs = self.coefs[: self.step + 1]
        support = np.flatnonzero(coefs.any(axis=0))
        return LassoPath(self.alphas[: self.step + 1].copy(), support, coefs[:, support])


class _Model:
    """The features in the model: their signs, their Gram columns, and the Cholesky factor of their Gram matrix."""

    def __init__(self, gram: GramColumns, n_features: int) -> None:
        self.gram = gram
        self.active: list[int] = []
        self.signs: list[Any] = []
        self.slots: list[int] = []
        self.free: list[int] = []
        self.columns = np.empty((0, n_features))
        self.factor = np.empty((0, 0), order="F")
        self.used = 0

    @property
    def size(self) -> int:
        return len(self.active)

    def enter(self, feature: int, sign: Any, likely_next: Callable[[], NDArray[np.intp]]) -> bool:
        size = self.size
        self._make_room()
        column = self.gram.column(feature, likely_next)
        row = np.zeros(len(self.factor))
        row[:size] = column[self.active]
        row[:size] = lapack.dtrtrs(self.factor, row, lower=1)[0].ravel()[:size]
        rest = self.gram.diagonal[feature] - np.dot(row[:size], row[:size])
        pivot = max(np.sqrt(np.abs(rest)), EPS)
        if pivot < SMALLEST_PIVOT:
            return False
        row[size] = pivot
        self.factor[size] = row
        self._keep(column)
        self.active.append(feature)
        self.signs.append(sign)
        return True

    def _make_room(self) -> None:
        if self.size < len(self.factor):
            return
        grown = np.eye(len(self.factor) + GROWTH, order="F")
        grown[: self.size, : self.size] = self.factor
        self.factor = grown

    def _keep(self, column: Vector) -> None:
        if self.free:
            slot = self.free.pop()
        else:
            slot = self.used
            self.used += 1
            if slot >= len(self.columns):
                grown = np.zeros((len(self.columns) + GROWTH, column.size))
                grown[: len(self.columns)] = self.columns
                self.columns = grown
        self.columns[slot] = column
        self.slots.append(slot)

    def equiangular(self) -> tuple[Vector, Any]:
        """Return the direction in which all covariances shrink alike, and how fast they do."""
        size = self.size
        signs = np.array(self.signs)
        direction = self._solved(self.factor, signs)
        if size == 1 and direction[0] == 0:
            direction[...] = 1
            return direction, 1.0
        slope = 1.0 / np.sqrt(np.sum(direction * signs))
        shift = 0
        while not np.isfinite(slope):
            # The factor is too ill-conditioned; scikit-learn shifts its diagonal until it is not.
            shifted = self.factor.copy(order="F")
            shifted[np.arange(size), np.arange(size)] += (2.0 ** (shift + 1) - 1.0) * EPS
            direction = self._solved(shifted, signs)
            slope = 1.0 / np.sqrt(max(np.sum(direction * signs), EPS))
            shift += 1
        return direction * slope, slope

    def _solved(self, factor: Vector, signs: Vector) -> Vector:
        padded = np.zeros(len(factor))
        padded[: signs.size] = signs
        solved: Vector = lapack.dpotrs(factor, padded, lower=1)[0].ravel()[: signs.size]
        return solved

    def correlations(self, direction: Vector) -> Vector:
        """Return how the covariance of every feature moves along ``direction``, shape (features,)."""
        weights = np.zeros(self.used)
        weights[self.slots] = direction
        found: Vector = weights @ self.columns[: self.used]
        return found

    def leave(self, position: int) -> tuple[int, Vector]:
        """Take the feature at ``position`` out of the model; return it and its Gram column."""
        size = self.size
        self.signs.pop(position)
        slot = self.slots.pop(position)
        self.free.append(slot)
        self._forget_row(position, size)
        return self.active.pop(position), self.columns[slot]

    def _forget_row(self, position: int, size: int) -> None:
        """Delete a row of the Cholesky factor and turn what is left back into a triangle.

        The factor's transpose is the R of a QR decomposition of the model's columns; with one column less, its R
        is what is wanted. What Q does with it is of no interest, so the identity stands in for Q.
        """
        factor = self.factor
        unit = np.eye(size, order="F")
        upper = np.array(factor[:size, :size].T, order="F")
        _, rest = qr_delete(unit, upper, position, which="col", overwrite_qr=True, check_finite=False)
        factor[:size, :size] = 0
        factor[: size - 1, : size - 1] = rest[: size - 1].T
        factor[size - 1, size - 1] = 1


def _least_positive(values: Vector) -> Any:
    positive = values[values > 0]
    return positive.min() if positive.size else np.finfo(values.dtype).max
