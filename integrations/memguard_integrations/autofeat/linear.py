"""Ridge regression on many rows in little memory: the penalty is chosen by leaving out each row once, from sums.

scikit-learn's ``RidgeCV`` finds the same, up to rounding, and holds the rows five times over. Runs inside the worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from memguard_integrations.autofeat.encode import Matrix

__all__ = ["RidgeByRows"]

_ALPHAS: Final = np.logspace(-3, 3, 7)
_BLOCK_BYTES: Final = 4 * 2**20


@dataclass(slots=True)
class RidgeByRows:
    """A linear model on columns scaled to unit variance, with the best of some penalties.

    Attributes:
        alpha: the penalty that was chosen.
        coef: of the columns as they are, shape (columns,).
        intercept: the prediction where all of them are 0.
    """

    alpha: float = 0.0
    coef: Any = None
    intercept: float = 0.0

    def fit(self, features: Matrix, target: Matrix) -> Self:
        """Fit; both finite, shapes (rows, columns) and (rows,)."""
        mean, spread = _moments(features)
        center = float(target.mean())
        gram, with_target = np.zeros((len(mean), len(mean))), np.zeros(len(mean))
        for rows in _blocks(features):
            part = (features[rows] - mean) / spread
            gram += part.T @ part
            with_target += part.T @ (target[rows] - center)
        values, vectors = np.linalg.eigh(gram)
        turned = with_target @ vectors
        # Rounding makes what is 0 a little less.
        weights = 1 / (np.maximum(values, 0)[:, np.newaxis] + _ALPHAS)
        errors = np.zeros(len(_ALPHAS))
        for rows in _blocks(features):
            part = ((features[rows] - mean) / spread) @ vectors
            left = (target[rows] - center)[:, np.newaxis] - part @ (turned[:, np.newaxis] * weights)
            # A row's own weight in its prediction, that of the mean included; see Hastie et al., The Elements of
            # Statistical Learning, equation 7.64.
            own = np.square(part) @ weights + 1 / len(target)
            errors += np.square(left / np.maximum(1 - own, np.finfo(np.float64).eps)).sum(axis=0)
        best = int(np.argmin(errors))
        self.alpha = float(_ALPHAS[best])
        self.coef = vectors @ (turned * weights[:, best]) / spread
        self.intercept = center - float(mean @ self.coef)
        return self

    def predict(self, features: Matrix) -> Matrix:
        """Return a prediction for each row."""
        predicted: Matrix = features @ self.coef + self.intercept
        return predicted


def _blocks(features: Matrix) -> Iterator[slice]:
    rows = max(1, _BLOCK_BYTES // (8 * max(1, features.shape[1])))
    for start in range(0, len(features), rows):
        yield slice(start, start + rows)


def _moments(features: Matrix) -> tuple[Any, Any]:
    """Return mean and spread of each column; a spread of 1 for one that does not vary."""
    mean = features.mean(axis=0)
    squares = sum(np.square(features[rows] - mean).sum(axis=0) for rows in _blocks(features))
    spread = np.sqrt(squares / len(features))
    return mean, np.where(spread > 0, spread, 1.0)
