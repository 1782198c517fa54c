"""Stock autofeat's expansion against the engine's: the same frames, compared to the last bit."""

from __future__ import annotations

import copy
import logging
import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from memguard_integrations.autofeat.engine.expansion import engineer_features

__all__ = ["ALL_TRANSFORMATIONS", "assert_same_expansion", "stock_expansion"]

ALL_TRANSFORMATIONS = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3", "1+", "1-", "sin", "cos", "exp-", "2^")


class _CompiledOnce:
    """Stands in for numba inside autofeat: what was compiled before is not compiled again.

    Every call of autofeat compiles the same twenty functions anew, which takes seconds and is never given back.
    """

    def __init__(self, numba: Any) -> None:
        self._numba = numba
        self._known: dict[Any, Any] = {}

    def njit(self, function: Any) -> Any:
        return self._once(("njit",), self._numba.njit, function)

    def vectorize(self, signatures: list[str], **options: Any) -> Any:
        compile_it = self._numba.vectorize(signatures, **options)
        return lambda function: self._once(("vectorize", *signatures), compile_it, function)

    def _once(self, kind: tuple[str, ...], compile_it: Any, function: Any) -> Any:
        code = function.__code__
        key = (*kind, code.co_code, code.co_consts, code.co_names)
        if key not in self._known:
            self._known[key] = compile_it(function)
        return self._known[key]


@cache
def _stock() -> Any:
    handlers = list(logging.root.handlers)
    from autofeat import feateng

    # autofeat's import sets up the root logger; the tests' own stays as it was.
    logging.root.handlers[:] = handlers
    feateng.nb = _CompiledOnce(feateng.nb)
    return feateng.engineer_features


def stock_expansion(frame: pd.DataFrame, **arguments: Any) -> tuple[pd.DataFrame, dict[Any, Any]]:
    """Expand with autofeat itself, without its warnings about candidates that it throws away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _stock()(frame, **arguments)  # type: ignore[no-any-return]


def assert_same_expansion(frame: pd.DataFrame, **arguments: Any) -> pd.DataFrame:
    """Expand both ways; names, order, types, index, bits and formulas must be the same. Returns the frame."""
    units = arguments.pop("units", None)
    stock_units, own_units = copy.deepcopy(units), copy.deepcopy(units)
    expected, expected_formulas = stock_expansion(frame, units=stock_units, **arguments)
    made, formulas = engineer_features(frame, units=own_units, **arguments)
    assert list(made.columns) == list(expected.columns)
    assert list(made.dtypes) == list(expected.dtypes)
    assert made.index.equals(expected.index)
    assert bits(made) == bits(expected)
    assert list(formulas.items()) == list(expected_formulas.items())
    assert own_units == stock_units
    assert list(own_units or ()) == list(stock_units or ())
    return made


def bits(frame: pd.DataFrame) -> bytes:
    return np.ascontiguousarray(frame.to_numpy()).tobytes()
