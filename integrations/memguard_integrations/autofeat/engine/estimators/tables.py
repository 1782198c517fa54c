"""Putting columns beside each other and rows below each other with as few copies as pandas allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["good_values", "stacked", "with_columns"]

_COPY_IS_LAZY: Final = int(pd.__version__.partition(".")[0]) >= 3


def stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all frames, in order; a single frame as it is."""
    return frames[0] if len(frames) == 1 else pd.concat(frames)


def with_columns(frame: pd.DataFrame, names: Sequence[str], values: NDArray[np.float64]) -> pd.DataFrame:
    """Return a frame with columns added at its end.

    Args:
        frame: shape (n_rows, n_columns).
        names: of the columns to add.
        values: float64 of shape (n_names, n_rows); the result keeps it, and has a copy of the frame.
    """
    if not names:
        return frame
    added = pd.DataFrame(values.T, columns=list(names), index=frame.index, copy=False)
    if _COPY_IS_LAZY:
        return pd.concat([frame, added], axis=1)
    # Without this, pandas 2 makes one block of all, by way of two more copies of the values.
    with pd.option_context("mode.copy_on_write", True):
        return pd.concat([frame.copy(), added], axis=1, copy=False)


def good_values(
    good: Sequence[str], frame: pd.DataFrame, names: Sequence[str], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return some columns of a frame and of an array beside it.

    Args:
        good: which columns, in the order wanted.
        frame: shape (n_rows, n_columns).
        names: of the rows of ``values``.
        values: shape (n_names, n_rows).

    Returns:
        float64 of shape (n_rows, n_good). Each column is contiguous, as in the array that a frame would give: the
        least angle regression adds in another order otherwise, and rounds differently.
    """
    places = {name: place for place, name in enumerate(names)}
    chosen = np.empty((len(good), len(frame)))
    for number, name in enumerate(good):
        place = places.get(name)
        chosen[number] = frame[name].to_numpy(dtype=np.float64) if place is None else values[place]
    return chosen.T
