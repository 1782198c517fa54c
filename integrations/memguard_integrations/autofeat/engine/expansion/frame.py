"""The drop-in for autofeat's function: a frame in, a frame with the new columns and their formulas out.

Comes in and goes out: pandas frames. The result's blocks are the store's, without a copy where pandas allows that, and
they live as long as the frame does.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from memguard_integrations.autofeat.engine.columns import ColumnStore
from memguard_integrations.autofeat.engine.expansion import symbols
from memguard_integrations.autofeat.engine.expansion.candidates import Units
from memguard_integrations.autofeat.engine.expansion.expander import DEFAULT_TRANSFORMATIONS, expand
from memguard_integrations.autofeat.engine.joining import beside

__all__ = ["as_frame", "engineer_features"]

_log = logging.getLogger("memguard.autofeat")


def engineer_features(  # noqa: PLR0917 - autofeat's signature
    df_org: pd.DataFrame,
    start_features: Sequence[Hashable] | None = None,
    units: Units | None = None,
    max_steps: int = 3,
    transformations: Sequence[str] = DEFAULT_TRANSFORMATIONS,
    verbose: int = 0,
) -> tuple[pd.DataFrame, dict[Any, Any]]:
    """Engineer features as ``autofeat.feateng.engineer_features`` of autofeat 2.1.3 does, bit for bit.

    Differs where that fails: the rows of a frame may have any index, also one that repeats itself, and keep it.

    Args:
        df_org: rows x columns, all numbers.
        start_features: labels of the columns that others are made from; ``None`` for all.
        units: a pint quantity for each of those, extended in place; ``None`` to let everything be combined.
        max_steps: how many steps; below 1 the frame comes back as it is.
        transformations: of ``1/ exp log abs sqrt ^2 ^3 1+ 1- sin cos exp- 2^``.
        verbose: above 0, the steps are logged.

    Returns:
        A frame of float32 columns, those given and the new ones, and the formulas by name.

    Raises:
        KeyError: if there is no such transformation.
        ValueError: if there is no such start feature, two columns have one label, a value is infinite, or a new column
            would have the label of a given one.
    """
    if max_steps < 1:
        if verbose > 0:
            _log.warning("no features are made in %d steps", max_steps)
        labels = list(df_org.columns) if start_features is None else list(start_features)
        if missing := [label for label in labels if label not in df_org.columns]:
            raise ValueError(f"no columns {missing!r} in the frame")
        return df_org, symbols.start_symbols(labels)
    with expand(df_org, start_features, units, max_steps, transformations, verbose=verbose) as expansion:
        assert isinstance(expansion.columns, ColumnStore)
        return as_frame(expansion.columns, expansion.names, df_org.index), expansion.formulas


def as_frame(columns: ColumnStore, names: Sequence[Hashable], index: pd.Index[Any]) -> pd.DataFrame:
    """Return a frame of a store's columns that is their memory, and stays good when the store is closed.

    Args:
        columns: at least one.
        names: a label for each.
        index: a label for each row.
    """
    parts = [
        pd.DataFrame(block.T, columns=list(names[first : first + len(block)]), index=index, copy=False)
        for first, block in columns.blocks()
    ]
    return parts[0] if len(parts) == 1 else beside(parts)
