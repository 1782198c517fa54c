"""What a column is called within formulas, as autofeat cleans its name. Pure text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memguard.errors import DataError

__all__ = ["require_different_symbols", "symbol_name"]


def symbol_name(column: str, position: int) -> str:
    """Return the name of a column's symbol: its letters, digits and underscores, not beginning with a digit.

    Args:
        column: the name.
        position: where it stands among the columns to start from; names it where nothing is left of the name.
    """
    cleaned = re.sub(r"\W+", "", column)
    if not cleaned:
        return f"x{position:03}"
    return f"x{cleaned}" if cleaned[0].isdigit() else cleaned


def require_different_symbols(columns: Sequence[str]) -> None:
    """Raise where two columns would be one and the same within formulas.

    Raises:
        DataError: it names both.
    """
    taken: dict[str, str] = {}
    for position, column in enumerate(columns):
        symbol = symbol_name(column, position)
        if symbol in taken:
            raise DataError(
                f"would both be called {symbol!r} in formulas, where only letters, digits and underscores count",
                subject=f"the columns {taken[symbol]!r} and {column!r}",
                remedy="rename one of them",
            )
        taken[symbol] = column
