"""Columns without those that hold one value: nothing can be learned from them, and autofeat fails on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from memguard.errors import DataError

__all__ = ["SomeColumns", "constant_columns"]


class _Source(Protocol):
    @property
    def n_rows(self) -> int: ...

    def column(self, index: int) -> NDArray[Any]: ...

    def expect(self, indices: Sequence[int], start: int, stop: int) -> None: ...

    def let_go_of_pages(self) -> None: ...


class SomeColumns:
    """A view of some columns of a source, in the order given; nothing is copied.

    Args:
        source: where they are.
        places: their positions in it.
    """

    def __init__(self, source: _Source, places: Sequence[int]) -> None:
        self._source, self._places = source, list(places)

    @property
    def n_rows(self) -> int:
        """Rows of every column."""
        return self._source.n_rows

    def __len__(self) -> int:
        return len(self._places)

    def column(self, index: int) -> NDArray[Any]:
        """Return one column, shape (n_rows,), not to be written to."""
        return self._source.column(self._places[index])

    def expect(self, indices: Sequence[int], start: int, stop: int) -> None:
        """Have some rows of some columns brought from where they are."""
        self._source.expect([self._places[index] for index in indices], start, stop)

    def let_go_of_pages(self) -> None:
        """Keep nothing of them that only was brought."""
        self._source.let_go_of_pages()


def constant_columns(frame: pd.DataFrame) -> set[str]:
    """Return the names of the columns that hold a single value, as float32 has it.

    Raises:
        DataError: all of them do.
    """
    constant = {name for name in frame.columns if np.ptp(frame[name].to_numpy(dtype=np.float32)) == 0}
    if len(constant) == frame.shape[1]:
        raise DataError(
            "hold a single value each, and there is nothing to select from",
            subject=f"the columns {', '.join(map(repr, frame.columns))}",
            remedy="give a column that varies, or set featsel_runs=0 to select nothing",
        )
    return constant
