"""The estimators' own arithmetic against stock autofeat's, bit for bit.

numba calls the C library for ``exp`` and the like. Where numpy has code of its own for them the last bit can differ, so
operations and their order are compared with the C library's functions in numpy's place, and numpy's own beside them.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

stock = pytest.importorskip("autofeat", reason="stock autofeat is not installed")

from autofeat.feateng import colnames2symbols, engineer_features, n_cols_generated  # noqa: E402

from memguard_integrations.autofeat.engine import AutoFeatLight, AutoFeatRegressor  # noqa: E402
from memguard_integrations.autofeat.engine.estimators import programs  # noqa: E402
from memguard_integrations.autofeat.engine.estimators.fitting import TRANSFORMATIONS  # noqa: E402
from memguard_integrations.autofeat.engine.estimators.formulas import compile_formula  # noqa: E402
from memguard_integrations.autofeat.engine.estimators.sizes import most_columns  # noqa: E402
from memguard_integrations.autofeat.engine.estimators.symbols import symbol_name  # noqa: E402

_LIBRARY = ctypes.CDLL(None)
_FUNCTIONS = ("exp", "exp2", "log", "sin", "cos")
# Powers that numpy takes as products, roots and reciprocals, which are exact.
_PLAIN_POWERS = (-1, 0, 0.5, 1, 2)


def c_function(name: str, arguments: int = 1) -> Callable[..., Any]:
    """Return a function of the C library, for arrays and numbers."""
    function = getattr(_LIBRARY, name)
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * arguments
    return np.vectorize(function, otypes=[np.float64])


def c_power(base: Any, exponent: Any) -> Any:
    if np.ndim(exponent) == 0 and exponent in _PLAIN_POWERS:
        return base**exponent
    return c_function("pow", 2)(base, exponent)


@contextmanager
def c_library() -> Iterator[None]:
    """Let programs take from the C library what numba takes from it."""
    functions = {name: c_function(name) for name in _FUNCTIONS}
    with patch.dict(programs._ONE, functions), patch.dict(programs._TWO, pow=c_power):
        yield


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
                expected, functions = numba.njit(theirs)(*arguments), c_library()
            except numba.TypingError:  # which autofeat then leaves to numpy
                expected, functions = theirs(*arguments), nullcontext()
            with functions:
                found = compile_formula(pool[name], symbols)(*arguments)
            if count := unlike(found, expected):
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


@pytest.mark.parametrize("name", [*_FUNCTIONS, "pow"])
def test_numpys_own_functions_are_the_c_librarys_but_for_the_last_bit(name: str) -> None:
    """Wherever numpy takes them from, they differ by one unit in the last place at the most, and not out of range."""
    draw = np.random.RandomState(3)
    values = np.r_[
        draw.uniform(-30, 30, 5000), draw.uniform(-800, 1100, 500), 0.0, -0.0, np.inf, -np.inf, np.nan
    ]
    if name == "pow":
        mine, theirs = programs._TWO["pow"], c_power
        arguments: tuple[Any, ...] = (values, -1.5)
    else:
        mine, theirs = programs._ONE[name], c_function(name)
        arguments = (values,)
    with np.errstate(all="ignore"):
        found, expected = mine(*arguments), theirs(*arguments)
        finite = np.isfinite(expected)
        assert unlike(found[~finite], expected[~finite]) == 0
        assert np.all(np.abs(found - expected)[finite] <= np.spacing(np.abs(expected[finite])))


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
    with c_library():
        made = ours.fit_transform(frame, target)
        again, ours_predicted = ours.transform(holed), ours.predict(frame)
    assert list(made.columns) == list(expected.columns)
    assert ours.feature_formulas_ == theirs.feature_formulas_
    assert unlike(made, expected) == unlike(again, transformed) == 0
    assert unlike(ours.prediction_model_.coef_, theirs.prediction_model_.coef_) == 0
    assert unlike(ours_predicted, predicted) == 0


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
