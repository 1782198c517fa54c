"""Putting columns beside each other and rows below each other with as few copies as pandas allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.joining import beside

__all__ = ["good_values", "stacked", "with_columns"]


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
    return beside([frame.copy(), added])


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
