"""Which columns tell nothing of their own: constant ones, and those that follow another. As AutoFeatLight decides."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["useful_columns"]


def useful_columns(values: NDArray[np.float64], threshold: float, *, exact_bytes: int) -> list[int]:
    """Return the positions of the columns to keep, in order.

    Of columns whose absolute correlation reaches the threshold, the one with the most such companions stays.

    Args:
        values: shape (n_columns, n_rows), NaN allowed.
        threshold: from 0 to 1.
        exact_bytes: up to this size of ``values`` the correlations are numpy's, from two more copies of them, and
            the choice between equally redundant columns is the very same as autofeat's. Beyond, they are summed up
            by blocks of rows, and a choice that hangs on the last bits of a correlation can differ.
    """
    useless = {
        position
        for position, column in enumerate(values)
        if not pd.Series(column).var() > sys.float_info.epsilon
    }
    exact = values.nbytes <= exact_bytes
    if exact:
        with np.errstate(all="ignore"):
            correlations = np.atleast_2d(np.corrcoef(values.T, rowvar=False))
    else:
        correlations = _blocked_correlations(values)
    correlations = np.abs(correlations)
    np.fill_diagonal(correlations, 0)
    pairs = _pairs_as_autofeat if exact else _pairs_in_order
    companions = _companions(pairs(correlations, threshold), useless)
    for position in sorted(companions, key=lambda each: len(companions[each]), reverse=True):
        if position not in useless:
            useless |= companions[position]
    return [position for position in range(len(values)) if position not in useless]


def _companions(pairs: Iterable[tuple[int, int]], useless: set[int]) -> Mapping[int, set[int]]:
    """Return for each column that has some those that follow it."""
    found: dict[int, set[int]] = {}
    for first, second in pairs:
        if first != second and first not in useless:
            found.setdefault(int(first), set()).add(int(second))
    return found


def _pairs_as_autofeat(correlations: NDArray[np.float64], threshold: float) -> Iterable[tuple[int, int]]:
    # pandas sorts all pairs, for the order in which it leaves equal correlations decides who is kept.
    pairs: Any = pd.DataFrame(correlations).unstack()
    pairs = pairs.sort_values(ascending=False)
    count = int(np.sum(pairs.to_numpy() >= threshold))
    return list(pairs.index[:count])


def _pairs_in_order(correlations: NDArray[np.float64], threshold: float) -> Iterable[tuple[int, int]]:
    first, second = np.nonzero(correlations >= threshold)
    order = np.argsort(-correlations[first, second], kind="stable")
    return zip(first[order].tolist(), second[order].tolist(), strict=True)


def _blocked_correlations(values: NDArray[np.float64], rows: int = 16_384) -> NDArray[np.float64]:
    means = values.mean(axis=1, keepdims=True)
    sums = np.zeros((len(values), len(values)))
    for start in range(0, values.shape[1], rows):
        centred = values[:, start : start + rows] - means
        sums += centred @ centred.T
    with np.errstate(all="ignore"):
        scale = np.sqrt(np.diag(sums))
        return np.clip(sums / scale[:, None] / scale[None, :], -1, 1)  # type: ignore[no-any-return]
