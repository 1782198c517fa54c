"""The stock AutoFeat jobs that are measured, in a module that workers can import."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["answer", "fit", "fit_small", "note_start"]


def fit(rows: int = 442, columns: int = 10, selection_runs: int = 2) -> int:
    """Fit a stock AutoFeatRegressor on the diabetes data of scikit-learn, one step; returns the columns it made."""
    import autofeat  # noqa: PLC0415 - what importing it costs is part of what is measured
    from sklearn.datasets import load_diabetes  # noqa: PLC0415

    warnings.simplefilter("ignore")
    data = load_diabetes(as_frame=True)
    features, target = data.data.iloc[:rows, :columns], data.target.iloc[:rows]
    model = autofeat.AutoFeatRegressor(feateng_steps=1, featsel_runs=selection_runs, n_jobs=1, verbose=0)
    return int(model.fit_transform(features, target).shape[1])


def fit_small() -> int:
    """Fit on a part of the data, in about a second."""
    return fit(150, 4, 1)


def answer(sender: Connection, function: Callable[[], Any]) -> None:
    """Send what a function returns; here, so that a plain process imports nothing of memguard."""
    sender.send(function())


def note_start() -> float:
    """Import autofeat, which costs nothing where it is preloaded; returns the time, on a clock all processes share."""
    import autofeat  # noqa: F401, PLC0415

    return time.monotonic()
