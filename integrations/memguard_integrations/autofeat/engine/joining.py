"""Frames put beside each other without a copy of what is in them, on any pandas."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Final

import pandas as pd

__all__ = ["beside"]

_COPY_IS_LAZY: Final = int(pd.__version__.partition(".")[0]) >= 3
_lock = threading.Lock()


def beside(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the columns of all frames, in order; the result shares their memory.

    pandas 2 has no argument for it: without copy-on-write it makes one block of all, by way of two more copies. So that
    is switched on for as long as it takes, for one caller at a time: the option is the whole process's, and of two who
    overlap the later one would put back what the earlier one had set.
    """
    if _COPY_IS_LAZY:
        return pd.concat(frames, axis=1)
    with _lock, pd.option_context("mode.copy_on_write", True):
        return pd.concat(frames, axis=1, copy=False)


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - a thread that does not exist in a forked copy may hold it
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
