"""The engineered matrix of the engine and of stock autofeat, bit for bit, on real tables.

Stock autofeat compiles the same twenty functions anew in every call; here each is compiled once and used again, which
changes nothing but the time.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import _autofeat_sets
import numpy as np
import pandas as pd
from _common import Figure

__all__ = ["SETS", "comparisons", "measure"]

_FIRST = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3")
_OTHERS = ("1+", "1-", "sin", "cos", "exp-", "2^")
SETS = {"default": _FIRST, "others": _OTHERS, "all": _FIRST + _OTHERS}
# How many columns are expanded in so many steps: autofeat itself takes minutes for more.
_COLUMNS = {
    1: {"default": 12, "others": 12, "all": 12},
    2: {"default": 5, "others": 4, "all": 3},
    3: {"default": 2, "others": 1, "all": 1},
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One table expanded both ways.

    Attributes:
        steps: how many.
        transformations: the name of the set.
        columns: of autofeat's result.
        difference: what differs first; ``""`` if nothing does.
    """

    steps: int
    transformations: str
    columns: int
    difference: str


class _CompiledOnce:
    """Stands in for numba inside autofeat."""

    def __init__(self, numba: Any) -> None:
        self._numba = numba
        self._known: dict[Any, Any] = {}

    def njit(self, function: Any) -> Any:
        return self._once("njit", self._numba.njit, function)

    def vectorize(self, signatures: list[str], **options: Any) -> Any:
        return lambda function: self._once(
            "vectorize", self._numba.vectorize(signatures, **options), function
        )

    def _once(self, kind: str, compile_it: Any, function: Any) -> Any:
        code = function.__code__
        key = (kind, code.co_code, code.co_consts, code.co_names)
        if key not in self._known:
            self._known[key] = compile_it(function)
        return self._known[key]


def stock() -> Any:
    """Return autofeat's own function."""
    from autofeat import feateng  # noqa: PLC0415 - autofeat is installed where parity is measured, not elsewhere

    if not isinstance(feateng.nb, _CompiledOnce):
        feateng.nb = _CompiledOnce(feateng.nb)
    return feateng.engineer_features


def comparisons(table: pd.DataFrame, most_steps: int) -> Iterator[Comparison]:
    """Expand a table both ways in each number of steps, with each set of transformations."""
    from memguard_integrations.autofeat.engine.expansion import engineer_features  # noqa: PLC0415 - heavy

    for steps in range(1, most_steps + 1):
        for name, transformations in SETS.items():
            narrow = table.iloc[:, : _COLUMNS[steps][name]]
            arguments: dict[str, Any] = {"max_steps": steps, "transformations": transformations}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = stock()(narrow, **arguments)
                made = engineer_features(narrow, **arguments)
            yield Comparison(steps, name, expected[0].shape[1], _difference(expected, made))


def _difference(expected: tuple[pd.DataFrame, Any], made: tuple[pd.DataFrame, Any]) -> str:
    frame, other = expected[0], made[0]
    if list(frame.columns) != list(other.columns):
        return f"columns: {len(frame.columns)} and {len(other.columns)}"
    if list(frame.dtypes) != list(other.dtypes):
        return "types"
    if _bits(frame) != _bits(other):
        return "values"
    return "" if list(expected[1].items()) == list(made[1].items()) else "formulas"


def _bits(frame: pd.DataFrame) -> bytes:
    return np.ascontiguousarray(frame.to_numpy()).tobytes()


def measure(parsed: argparse.Namespace) -> list[Figure]:
    """Compare all tables in 1 to 3 steps; with ``--quick`` a few in 1 and 2."""
    names, steps = (_autofeat_sets.QUICK, 2) if parsed.quick else (None, 3)
    figures, tables, alike, columns = [], 0, 0, 0
    for name, table in _autofeat_sets.tables(names):
        done = list(comparisons(table, steps))
        different = [
            f"{each.steps} steps, {each.transformations}: {each.difference}"
            for each in done
            if each.difference
        ]
        tables, alike, columns = (
            tables + 1,
            alike + (not different),
            columns + sum(each.columns for each in done),
        )
        print(f"{name}: {different or 'the same'}", file=sys.stderr, flush=True)
        figures.append(
            Figure(
                f"{name}, {len(table)} x {table.shape[1]}",
                f"{len(done) - len(different)} of {len(done)} the same"
                + "".join(f"; {text}" for text in different),
                "bit for bit",
                not different,
                {"tables": [[each.steps, each.transformations, each.columns] for each in done]},
            )
        )
    enough = tables >= (len(_autofeat_sets.QUICK) if parsed.quick else 25)
    aim = "all" if parsed.quick else "all of at least 25"
    figures.append(
        Figure(
            f"data sets, {columns} columns in all",
            f"{alike} of {tables} the same",
            aim,
            alike == tables and enough,
        )
    )
    return figures
