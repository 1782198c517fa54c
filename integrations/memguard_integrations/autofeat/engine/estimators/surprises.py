"""Engineered values that are not finite although their inputs are: told by column and row."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memguard.errors import DataError

__all__ = ["NonFiniteFeatures", "Surprises"]

_SHOWN_ROWS = 5
_SHOWN_COLUMNS = 5


class NonFiniteFeatures(UserWarning):
    """``transform`` made values that are not finite out of values that are.

    The data lies outside the range of the fit: a zero where a formula divides, a negative number where it takes a
    root. The values are those of autofeat, nan or infinite.

    Attributes:
        counts: how many rows, by engineered column.
        first_rows: the first of them by engineered column, counted from 0 in what ``transform`` was given.
    """

    def __init__(self, message: str, counts: dict[str, int], first_rows: dict[str, tuple[int, ...]]) -> None:
        super().__init__(message, counts, first_rows)
        self.counts = counts
        self.first_rows = first_rows

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(slots=True)
class Surprises:
    """What one call has met, block by block.

    Attributes:
        counts: rows by column.
        first_rows: the first rows by column, at most five.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first_rows: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def add(self, found: Mapping[str, NDArray[np.intp]], first_row: int) -> None:
        """Add what a block had, whose first row is the ``first_row``-th of the call."""
        for name, rows in found.items():
            known = self.first_rows.get(name, ())
            more = tuple(int(row) + first_row for row in rows[: _SHOWN_ROWS - len(known)])
            self.counts[name] = self.counts.get(name, 0) + len(rows)
            self.first_rows[name] = known + more

    def warn(self) -> None:
        """Warn with :class:`NonFiniteFeatures` if there is anything to tell."""
        if self.counts:
            warning = NonFiniteFeatures(self._told(list(self.counts)), self.counts, self.first_rows)
            warnings.warn(warning, stacklevel=3)

    def refuse(self, among: Sequence[str], who: str) -> None:
        """Raise if one of the columns that a prediction is made from has such values.

        Raises:
            DataError: it names columns and rows.
        """
        met = [name for name in among if name in self.counts]
        if met:
            raise DataError(
                self._told(met),
                subject=who,
                remedy="leave these rows out, or fit on data that has such values",
            )

    def _told(self, names: Sequence[str]) -> str:
        shown = "; ".join(self._column(name) for name in names[:_SHOWN_COLUMNS])
        more = f"; and {len(names) - _SHOWN_COLUMNS} more columns" if len(names) > _SHOWN_COLUMNS else ""
        return f"values that are not finite (inf or NaN) came out of finite ones: {shown}{more}"

    def _column(self, name: str) -> str:
        rows = ", ".join(map(str, self.first_rows[name]))
        count = self.counts[name]
        more = ", ..." if count > len(self.first_rows[name]) else ""
        return f"{name!r} in {count} row{'s' if count != 1 else ''} ({rows}{more})"
