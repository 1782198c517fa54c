"""The engine's expansion is autofeat's on real tables: values, names, order, types, formulas, units."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris

from tests.support.expansions import ALL_TRANSFORMATIONS, assert_same_expansion

pytest.importorskip("autofeat", reason="stock autofeat is not installed")

BENCHMARKS = str(Path(__file__).resolve().parents[4] / "benchmarks")


@pytest.fixture(scope="module")
def parity() -> Iterator[Any]:
    """Yield the benchmark's comparison, and forget it: other folders of programs have a `_common` too."""
    before = sys.modules.pop("_common", None)
    sys.path.insert(0, BENCHMARKS)
    try:
        loaded = importlib.import_module("_autofeat_parity")
        # A benchmark there has the name of the package that it measures.
        sys.path.remove(BENCHMARKS)
        yield loaded
    finally:
        for name in [name for name in sys.modules if name == "_common" or name.startswith("_autofeat_")]:
            del sys.modules[name]
        if before is not None:
            sys.modules["_common"] = before


def test_the_benchmarks_quick_tables_expand_to_the_same_bits(parity: Any) -> None:
    """What `benchmarks/autofeat.py --only parity --quick` compares is the same, and is something."""
    sets = sys.modules["_autofeat_sets"]
    tables = dict(sets.tables(sets.QUICK))
    assert tables.keys() == set(sets.QUICK)
    for name, table in tables.items():
        done = list(parity.comparisons(table.iloc[:, :4], 2))
        assert [(name, each) for each in done if each.difference] == []
        assert sum(each.columns for each in done) > 200


def test_the_benchmark_sees_every_difference(parity: Any) -> None:
    """Another column, type, bit or formula is told."""
    frame = pd.DataFrame({"a": np.float32([1, 2])})
    same = (frame, {"a": 1})
    assert parity._difference(same, (frame.copy(), {"a": 1})) == ""
    assert parity._difference(same, (frame.rename(columns={"a": "b"}), {"a": 1})) == "columns: 1 and 1"
    assert parity._difference(same, (frame.astype(float), {"a": 1})) == "types"
    assert parity._difference(same, (frame * np.float32(1.0000001), {"a": 1})) == "values"
    assert parity._difference(same, (frame, {"a": 2})) == "formulas"


def test_what_a_frame_can_hold_expands_to_the_same_bits() -> None:
    """Whole numbers, flags, objects, missing values, single columns, labels that are numbers, an index of its own."""
    rng = np.random.default_rng(5)
    whole = pd.DataFrame({"n": rng.integers(0, 50, 60), "flag": rng.integers(0, 2, 60).astype(bool)})
    assert_same_expansion(whole.set_axis(pd.date_range("2020", periods=60)), max_steps=2)
    objects = pd.DataFrame(
        {"o": rng.normal(size=60).astype(object), "i": rng.integers(-5, 5, 60).astype(np.int8)}
    )
    assert_same_expansion(objects, max_steps=2, transformations=ALL_TRANSFORMATIONS)
    gaps = load_iris(as_frame=True).data.iloc[:50, :3].copy()
    gaps.iloc[3, 0] = np.nan
    assert_same_expansion(gaps, max_steps=2)
    assert_same_expansion(pd.DataFrame(rng.normal(size=(60, 3))), max_steps=2)
    assert_same_expansion(
        pd.DataFrame({"only": rng.lognormal(size=60)}), max_steps=3, transformations=("log", "^2")
    )


@pytest.mark.parametrize("rows", [1, 2, 3, 15, 16, 17])
def test_few_rows_expand_to_the_same_bits(rows: int) -> None:
    """Down to a single row, where nothing varies, the result is autofeat's."""
    frame = load_diabetes(as_frame=True, scaled=False).data[["bmi", "bp", "s1"]].head(rows)
    assert_same_expansion(frame, max_steps=2)


def test_some_columns_to_start_from_expand_to_the_same_bits() -> None:
    """Columns that are not started from are kept, and what is too much like them is left out, in any order."""
    frame = load_diabetes(as_frame=True, scaled=False).data[["age", "bmi", "s1", "s2", "s5"]]
    made = assert_same_expansion(frame, start_features=["s5", "bmi"], max_steps=2)
    assert set(frame.columns) <= set(made.columns)
    like = frame.assign(square=frame["bmi"] ** 2)
    assert "bmi**2" not in assert_same_expansion(like, start_features=["bmi", "s5"], max_steps=2).columns


def test_units_decide_as_in_autofeat() -> None:
    """Combinations that units forbid are left out, and the units of what is made are noted in the same order."""
    pint = pytest.importorskip("pint")
    registry = pint.UnitRegistry(auto_reduce_dimensions=False, autoconvert_offset_to_baseunit=True)
    frame = load_iris(as_frame=True).data.iloc[:, :3].set_axis(["a", "b", "c"], axis=1)
    units = {"a": registry.meter * 1, "b": registry.second * 1, "c": registry.dimensionless * 1}
    for steps, labels, transformations in (
        (2, list("abc"), ("1/", "exp", "^2", "1+")),
        (3, list("ab"), ("1/",)),
    ):
        free, bound = (
            assert_same_expansion(
                frame[labels], max_steps=steps, units=chosen, transformations=transformations
            )
            for chosen in (None, units)
        )
        assert 0 < bound.shape[1] < free.shape[1]
