"""The estimators' own arithmetic against stock autofeat's, bit for bit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

stock = pytest.importorskip("autofeat", reason="stock autofeat is not installed")

from autofeat.feateng import colnames2symbols, engineer_features, n_cols_generated  # noqa: E402

from memguard_integrations.autofeat.engine import AutoFeatLight, AutoFeatRegressor  # noqa: E402
from memguard_integrations.autofeat.engine.estimators.fitting import TRANSFORMATIONS  # noqa: E402
from memguard_integrations.autofeat.engine.estimators.formulas import compile_formula  # noqa: E402
from memguard_integrations.autofeat.engine.estimators.sizes import most_columns  # noqa: E402
from memguard_integrations.autofeat.engine.estimators.symbols import symbol_name  # noqa: E402


def measurements(rows: int = 200) -> pd.DataFrame:
    draw = np.random.RandomState(1)
    return pd.DataFrame(
        {
            "a": 2 * draw.normal(size=rows),
            "b b": draw.uniform(0.1, 3, rows),
            "lambda": draw.uniform(1, 9, rows),
        }
    )


def unlike(first: Any, second: Any) -> int:
    """Return how many values differ in a bit, nan counting as itself."""
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    return int(np.sum((first != second) & ~(np.isnan(first) & np.isnan(second))))


@pytest.mark.parametrize(
    ("steps", "columns", "shown"), [(2, 3, 7), pytest.param(3, 2, 250, marks=pytest.mark.heavy)]
)
def test_programs_give_numbas_bits(steps: int, columns: int, shown: int) -> None:
    """For formulas of every transformation a program gives what autofeat's compiled function gives, out of range too."""
    import numba
    from sympy.utilities.lambdify import lambdify

    frame = measurements().iloc[:, :columns]
    _, pool = engineer_features(frame.copy(), None, None, steps, TRANSFORMATIONS)
    made = [name for name in pool if name not in frame.columns]
    names = np.random.RandomState(7).permutation(made)[:shown]
    wide = frame * 40 - 3
    symbols = [pool[column] for column in frame.columns]
    arguments = [wide[column].to_numpy() for column in frame.columns]
    differing = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            theirs = lambdify(symbols, pool[name])
            try:
                expected = numba.njit(theirs)(*arguments)
            except numba.TypingError:
                expected = theirs(*arguments)
            if count := unlike(compile_formula(pool[name], symbols)(*arguments), expected):
                differing[name] = count
    assert differing == {}


@pytest.mark.parametrize("steps", range(6))
def test_bounds_are_counted_alike(steps: int) -> None:
    """The upper bound of columns is autofeat's, which decides how many rows max_gb takes."""
    for features in range(9):
        for transformations in (1, 2, 7, 13):
            assert most_columns(features, steps, transformations) == n_cols_generated(
                features, steps, transformations
            )


def test_symbols_are_named_alike() -> None:
    """Names are cleaned as autofeat does."""
    for name in ("x 1.1", "2", "x/3", "", "++", "größe", "a_b", "3 rd"):
        assert symbol_name(name, 7) == colnames2symbols(name, 7)


def test_a_whole_fit_is_the_same() -> None:
    """Without a selection, columns, formulas, model, predictions and NaN are those of autofeat to the last bit."""
    frame = measurements().assign(kind=np.tile(["u", "v"], 100))
    target = frame["b b"] ** 2 - frame["a"] + (frame["kind"] == "u")
    arguments: dict[str, Any] = {"categorical_cols": ["kind"], "feateng_steps": 1, "featsel_runs": 0}
    holed = frame.assign(a=frame["a"].where(frame.index != 3))
    with warnings.catch_warnings():
        # Its check_array keyword is deprecated on scikit-learn 1.6 and 1.7.
        warnings.simplefilter("ignore")
        theirs = stock.AutoFeatRegressor(**arguments)
        expected = theirs.fit_transform(frame, target)
        predicted, transformed = theirs.predict(frame), theirs.transform(holed)
    ours = AutoFeatRegressor(**arguments)
    made = ours.fit_transform(frame, target)
    assert list(made.columns) == list(expected.columns)
    assert ours.feature_formulas_ == theirs.feature_formulas_
    assert unlike(made, expected) == unlike(ours.transform(holed), transformed) == 0
    assert unlike(ours.prediction_model_.coef_, theirs.prediction_model_.coef_) == 0
    assert unlike(ours.predict(frame), predicted) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scale": True},
        {"power_transform": True},
        {"compute_ratio": False},
        {"compute_product": False, "corrthr": 0.5},
    ],
    ids=str,
)
def test_light_is_the_same(arguments: dict[str, Any]) -> None:
    """AutoFeatLight keeps the same columns, also among equally redundant ones, with the same bits."""
    frame = measurements().assign(
        double=lambda each: 2 * each["a"], one=1.0, word="w", square=lambda each: each["b b"] ** 2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = stock.AutoFeatLight(**arguments)
        expected, again = theirs.fit_transform(frame), theirs.transform(frame)
    ours = AutoFeatLight(**arguments)
    made = ours.fit_transform(frame)
    assert list(made.columns) == list(expected.columns)
    assert unlike(made, expected) == unlike(ours.transform(frame), again) == 0
