"""Categorical columns as columns of 0 and 1: the categories are those of the fit, for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from memguard.errors import DataError

__all__ = ["Encoder", "fit_encoder"]


@dataclass(frozen=True, slots=True)
class Encoder:
    """One categorical column of the fit.

    Attributes:
        column: its name.
        categories: its different values, in order.
    """

    column: str
    categories: tuple[Any, ...]

    @property
    def names(self) -> list[str]:
        """Return the names of the columns that take its place, as autofeat gives them."""
        return [f"cat_{self.column}_{category}" for category in self.categories]

    def encode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return 0 or 1 for each value and category; a value of no category, or none at all, gives zeros.

        Returns:
            float64 of shape (n_rows, n_categories).
        """
        known = pd.Index(list(self.categories), dtype=object)
        codes = known.get_indexer(pd.Index(values, dtype=object))
        encoded = np.zeros((len(values), len(self.categories)))
        rows = np.flatnonzero(codes >= 0)
        encoded[rows, codes[rows]] = 1.0
        return encoded


def fit_encoder(column: str, values: NDArray[Any]) -> Encoder:
    """Return the encoder for a column of the fit.

    Args:
        column: its name.
        values: its values, shape (n_rows,).

    Raises:
        DataError: a value is missing, or texts and numbers are mixed.
    """
    if pd.isna(values).any():
        raise DataError(
            f"has missing values (NaN), first in row {int(np.flatnonzero(pd.isna(values))[0])}",
            subject=f"the categorical column {column!r}",
            remedy="fill them in or leave the rows out before fit",
        )
    try:
        categories = sorted(set(values.tolist()))
    except TypeError as error:
        raise DataError(
            f"has values that cannot be ordered ({error})",
            subject=f"the categorical column {column!r}",
            remedy="make them all texts or all numbers",
        ) from None
    return Encoder(column, tuple(categories))
