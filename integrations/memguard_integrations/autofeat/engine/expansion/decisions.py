"""What becomes of a candidate, decided as autofeat does: from cheap sums where they leave no doubt, else its own way.

Comes in: the sums of one pass over a candidate, and what is known of its parents. Goes out: yes or no at each of
autofeat's lines (variance 1e-10; correlation with the parents 1.0 and 0.95, with the given columns 0.9).

The guard band. Autofeat's statistics and the ones here are roundings of the same exact ones, so where ours is farther
from a line than both can be off, the decision is the same. With u = 2^-53, n rows, g = (n + 64) u:

- A sum of n terms, in whatever order (pairwise, BLAS, vector code), is off by at most g times the sum of their
  magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2, with room for the operations before).
- So a mean is off by at most e = g rms / sd, in units of the standard deviation. With both means off, autofeat's
  correlation is off by at most (e_v + e_p)^2 / 2 + 3 g (Cauchy-Schwarz), as long as that is small.
- Ours is taken about a shift K at distance rho = |mean - K| / sd, and the parent's mean and deviation may be too: off
  by at most rho_v e_p + 8 g (2 + rho_v^2 + rho_p^2), with e = g (rms / sd + rho).
- The band is twice the sum of these, `correlation_band`. Beyond 0.01 the bound is not believed, and all is repeated.

Its variance is autofeat's in float32: with w = 2^-24 and NumPy's pairwise sum of depth h = log2 n + 24, the mean is off
by at most (h + 4) w rms, which adds its square, and the whole by a share of 2 (h + 8) w: `variance_bounds`. Sums that
may overflow float32 are repeated as well.

Its last correlations are sums of products of standardised columns, the candidate's in float32: each value is rounded
twice, after a mean rounded to float32, at kappa = rms / sd: 8 w (1 + kappa w)^2. Where the given columns are all
float32, so is the sum, and its own error is bounded by min(n, 8 sqrt n) w: the square root, instead of n, holds but
with a probability of 1e-13 (Higham and Mary, A new approach to probabilistic rounding error analysis, 2019). Ours are
sums of float32 products as well, by blocks of b rows: off by (b + 8) w sqrt(1 + rho^2). Together: `standardised_band`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from memguard_integrations.autofeat.engine.columns import Floats
from memguard_integrations.autofeat.engine.kernels.operations import BLOCK_ROWS

__all__ = [
    "LEAST_VARIANCE",
    "UNCORRELATED",
    "Moments",
    "compare",
    "correlation_band",
    "exact_parent_correlation",
    "exact_variance",
    "has_variance",
    "largest_parent_correlation",
    "standardised_band",
    "variance_bounds",
]

LEAST_VARIANCE: Final = 1e-10
UNCORRELATED: Final = 0.95

_U: Final = 2.0**-53
_W: Final = 2.0**-24
# Below so many rows the exact way costs nothing.
_FEW_ROWS: Final = 16
_WIDEST_BAND: Final = 0.01
_LARGEST_SUM: Final = 1e38


@dataclass(frozen=True, slots=True)
class Moments:
    """What is known of a column's distribution.

    Attributes:
        n_rows: its length.
        mean: in double.
        deviation: standard deviation, in double; NaN if not all values are finite.
        rms: root of the mean square.
        rho: distance of the mean from the shift it was computed about, in standard deviations.
    """

    n_rows: int
    mean: float
    deviation: float
    rms: float
    rho: float = 0.0

    @classmethod
    def of_sums(cls, n_rows: int, shift: float, first: float, second: float) -> Moments:
        """Take them from the sums of v - shift and of its square."""
        distance = first / n_rows
        variance = max(0.0, second / n_rows - distance * distance)
        mean = shift + distance
        deviation = math.sqrt(variance)
        rho = abs(distance) / deviation if deviation else math.inf
        return cls(n_rows, mean, deviation, math.sqrt(variance + mean * mean), rho)

    @classmethod
    def of_column(cls, values: Floats) -> Moments:
        """Take them from a column, in two passes; a constant one has a deviation of exactly 0."""
        if not len(values) or not np.isfinite(values).all():
            return cls(len(values), math.nan, math.nan, math.nan)
        mean = float(np.mean(values, dtype=np.float64))
        total = 0.0
        for start in range(0, len(values), 65536):
            part = values[start : start + 65536].astype(np.float64) - mean
            total += float(part @ part)
        variance = total / len(values)
        return cls(len(values), mean, math.sqrt(variance), math.sqrt(variance + mean * mean))

    @property
    def kappa(self) -> float:
        """How many standard deviations the values are from zero; infinite for a constant."""
        return self.rms / self.deviation if self.deviation else math.inf


def compare(low: float, high: float, line: float) -> bool | None:
    """Return whether what lies between two bounds is below a line; ``None`` if they do not tell."""
    if high < line:
        return True
    return False if low >= line else None


def variance_bounds(moments: Moments) -> tuple[float, float]:
    """Return the least and greatest float32 variance that autofeat can have found."""
    n_rows, rho = moments.n_rows, moments.rho
    error = 8 * (n_rows + 64) * _U * (1 + rho * rho)
    if n_rows < _FEW_ROWS or not error < _WIDEST_BAND or not n_rows * moments.rms < _LARGEST_SUM:
        return -math.inf, math.inf
    depth = math.log2(n_rows) + 24
    share = 2 * (depth + 8) * _W + error
    variance = moments.deviation**2
    mean_off = (depth + 4) * _W * moments.rms
    return (1 - share) * variance, (1 + share) * (variance + mean_off * mean_off)


def has_variance(values: Floats, moments: Moments) -> bool:
    """Return whether autofeat finds that a finite column varies."""
    low, high = variance_bounds(moments)
    if high < LEAST_VARIANCE:
        return False
    return low > LEAST_VARIANCE or exact_variance(values) > LEAST_VARIANCE


def exact_variance(values: Floats) -> float:
    """Compute the variance the way autofeat does, in float32."""
    if not len(values):
        return math.nan
    # What overflows is a candidate that is thrown away; the same warning for each says nothing.
    with np.errstate(all="ignore"):
        return float(np.var(values))


def correlation_band(values: Moments, parent: Moments) -> float:
    """Return how far our correlation of two columns and autofeat's can be apart; infinite where nothing is known."""
    if values.n_rows < _FEW_ROWS or not values.deviation > 0 or not parent.deviation > 0:
        return math.inf
    g = (values.n_rows + 64) * _U
    mean_off = g * (values.kappa + values.rho), g * (parent.kappa + parent.rho)
    rhos = values.rho**2 + parent.rho**2
    band = 2 * (sum(mean_off) ** 2 + values.rho * mean_off[1] + 8 * g * (2 + rhos))
    return band if band < _WIDEST_BAND else math.inf


def exact_parent_correlation(values: Floats, parents: tuple[Floats, ...]) -> float:
    """Compute the largest correlation with the parents the way autofeat does, NaN and all."""
    with np.errstate(all="ignore"):
        # Not numpy.max: with a NaN, the order of the parents decides.
        return float(max(abs(np.corrcoef(values, parent)[0, 1]) for parent in parents))


def largest_parent_correlation(
    values: Floats,
    moments: Moments,
    products: tuple[float, ...],
    parents: tuple[tuple[Floats, Moments], ...],
) -> float:
    """Return the largest correlation with the parents, close enough to it to be on autofeat's side of its lines.

    Args:
        values: the candidate, finite.
        moments: the candidate's.
        products: sums of products with each centred parent.
        parents: columns and moments of each.
    """
    highest, widest = 0.0, 0.0
    for product, (_, parent) in zip(products, parents, strict=True):
        band = correlation_band(moments, parent)
        if band == math.inf:
            widest = math.inf
            break
        widest = max(widest, band)
        highest = max(highest, abs(product) / (moments.n_rows * moments.deviation * parent.deviation))
    for line in (UNCORRELATED, 1.0):
        if compare(highest - widest, highest + widest, line) is None:
            return exact_parent_correlation(values, tuple(column for column, _ in parents))
    return highest


def standardised_band(moments: Moments, *, is_single: bool) -> float:
    """Return how far our correlation with a given column and autofeat's can be apart; infinite if nothing is known.

    Args:
        moments: the candidate's.
        is_single: whether all given columns are float32, and so autofeat's sums.
    """
    n_rows, kappa, rho = moments.n_rows, moments.kappa, moments.rho
    if n_rows < _FEW_ROWS or not kappa < math.inf or not n_rows * moments.rms < _LARGEST_SUM:
        return math.inf
    # scikit-learn takes such a column for a constant and does not scale it.
    eps = 4 * _U
    if moments.deviation**2 <= 4 * (n_rows * eps * moments.deviation**2 + (n_rows * moments.mean * eps) ** 2):
        return math.inf
    g = (n_rows + 64) * _U
    band = 8 * _W * (1 + kappa * _W) ** 2 + 16 * g * (1 + rho * rho) + (g * kappa) ** 2
    band += 2 * (BLOCK_ROWS + 8) * _W * math.sqrt(1 + (rho + kappa * _W) ** 2)
    if is_single:
        band += 2 * min(n_rows, 8 * math.sqrt(n_rows)) * _W
    return band if band < _WIDEST_BAND else math.inf
