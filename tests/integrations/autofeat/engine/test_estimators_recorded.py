"""The engine against what autofeat made of the same tables, recorded by `tools.record_autofeat`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """What the engine makes of the tables in this environment, with the order of sets of the record."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tools.record_autofeat", "engine"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def numbers(rows: list[list[str]]) -> list[list[float]]:
    return [[float.fromhex(value) for value in row] for row in rows]


@pytest.mark.parametrize("number", range(len(RECORDED["expansion"])))
def test_expansion(made: dict[str, Any], number: int) -> None:
    """Names, their order, the number of formulas and every bit of the values are autofeat's."""
    assert made["expansion"][number] == RECORDED["expansion"][number]


@pytest.mark.parametrize("kind", ["regression", "categories", "everything", "classification"])
def test_fits(made: dict[str, Any], kind: str) -> None:
    """What was selected by both has the same values, and the score is no worse."""
    ours, theirs = made[kind], RECORDED[kind]
    assert ours["score"] >= theirs["score"] - 0.002
    shared = [name for name in theirs["columns"] if name in ours["columns"]]
    assert len(shared) >= 3
    for own, recorded in zip(numbers(ours["values"]), numbers(theirs["values"]), strict=True):
        row, expected = (
            dict(zip(ours["columns"], own, strict=True)),
            dict(zip(theirs["columns"], recorded, strict=True)),
        )
        # The last bit is the C library's or the processor's.
        assert {name: row[name] for name in shared} == pytest.approx(
            {name: expected[name] for name in shared}, rel=1e-14
        )


def test_everything_is_the_same(made: dict[str, Any]) -> None:
    """Without a selection names, order and formulas are the same in every environment."""
    for field in ("columns", "good", "formulas"):
        assert made["everything"][field] == RECORDED["everything"][field]


@pytest.mark.parametrize("kind", ["light", "light scaled"])
def test_light(made: dict[str, Any], kind: str) -> None:
    """AutoFeatLight keeps the same columns with the same values."""
    assert made[kind]["columns"] == RECORDED[kind]["columns"]
    for own, recorded in zip(numbers(made[kind]["values"]), numbers(RECORDED[kind]["values"]), strict=True):
        # The power transformation is fitted by scipy, whose minimum moves with its version.
        assert own == pytest.approx(recorded, rel=1e-4 if kind == "light scaled" else 1e-14)
