"""What a fitted model does to rows: encode, multiply out the pi terms, evaluate the formulas; it learns nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.estimators.categories import Encoder
from memguard_integrations.autofeat.engine.estimators.inputs import Table
from memguard_integrations.autofeat.engine.estimators.programs import Program
from memguard_integrations.autofeat.engine.estimators.units import PiTerm

__all__ = ["Feature", "Inputs", "evaluate"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One engineered column.

    Attributes:
        name: its formula as text, as autofeat names it.
        columns: the columns that the program takes, in its order; empty for a constant.
        program: the formula; None for a constant, which autofeat gives as zeros.
    """

    name: str
    columns: tuple[str, ...]
    program: Program | None

    def values(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the column for each row, shape (n_rows,).

        A row in which one of ``columns`` is NaN gives NaN, also where the formula does not use that column: which
        columns count is autofeat's choice, who looks for their names within the text of the formula.
        """
        if self.program is None:
            return np.zeros(len(frame))
        arguments = [frame[column].to_numpy(dtype=np.float64) for column in self.columns]
        values = self.program(*arguments)
        for argument in arguments:
            values[np.isnan(argument)] = np.nan
        return values

    def unexpected(self, frame: pd.DataFrame, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the rows whose value is not finite although every column that it is made of is."""
        rows = np.flatnonzero(~np.isfinite(values))
        for column in self.columns if len(rows) else ():
            rows = rows[np.isfinite(frame[column].to_numpy(dtype=np.float64)[rows])]
        return rows


@dataclass(frozen=True, slots=True)
class Inputs:
    """From the columns of a table to those that formulas start from.

    Attributes:
        encoders: of the categorical columns, in the order of ``categorical_cols``.
        pi_terms: the products without dimension.
    """

    encoders: tuple[Encoder, ...] = ()
    pi_terms: tuple[PiTerm, ...] = ()

    @property
    def added(self) -> list[str]:
        """Return the names of the columns that come after the numeric ones of a table."""
        return [
            *(name for encoder in self.encoders for name in encoder.names),
            *(term.name for term in self.pi_terms),
        ]

    def frame(self, table: Table) -> pd.DataFrame:
        """Return the numeric columns, the encoded ones and the pi terms, in this order, on the table's index."""
        if not self.encoders and not self.pi_terms:
            return table.numbers
        encoded = [encoder.encode(table.categories[encoder.column]) for encoder in self.encoders]
        frame = _joined(table.numbers, [name for each in self.encoders for name in each.names], encoded)
        terms = [term.values(frame)[:, None] for term in self.pi_terms]
        return _joined(frame, [term.name for term in self.pi_terms], terms)


def _joined(frame: pd.DataFrame, names: Sequence[str], blocks: Sequence[NDArray[Any]]) -> pd.DataFrame:
    if not blocks:
        return frame
    return pd.concat([frame, pd.DataFrame(np.hstack(blocks), columns=list(names), index=frame.index)], axis=1)


def evaluate(
    features: Iterable[Feature], frame: pd.DataFrame, out: NDArray[np.float64]
) -> dict[str, NDArray[np.intp]]:
    """Write engineered columns and return where they went wrong.

    Args:
        features: which ones.
        frame: what they are made of.
        out: float64 of shape (n_features, n_rows), overwritten.

    Returns:
        By name of a column, the rows whose value is not finite although its inputs are; only columns with some.
    """
    surprises: dict[str, NDArray[np.intp]] = {}
    for number, feature in enumerate(features):
        out[number] = feature.values(frame)
        rows = feature.unexpected(frame, out[number])
        if len(rows):
            surprises[feature.name] = rows
    return surprises
