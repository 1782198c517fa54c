"""Frames that nobody would give on purpose expand as in autofeat: constants, extremes, twins, names sympy trips over."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memguard_integrations.autofeat.engine.expansion import engineer_features
from tests.support.expansions import ALL_TRANSFORMATIONS, assert_same_expansion, stock_expansion

pytest.importorskip("autofeat", reason="stock autofeat is not installed")

ROWS = 24
NAMES = [
    "E",
    "I",
    "S",
    "x y",
    "xy",
    "lambda",
    "pi",
    "1",
    "x1",
    "",
    "--",
    "exp(a)",
    "zoo",
    "N",
    "beta",
    "_",
    "ä",
]


def numbers(kind: str, seed: int) -> np.ndarray[Any, Any]:
    """Return a column of one kind."""
    return KINDS[kind](np.random.default_rng(seed))


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray[Any, Any]]] = {
    "normal": lambda rng: rng.normal(size=ROWS),
    "integers": lambda rng: rng.integers(-3, 4, ROWS).astype(float),
    "counts": lambda rng: rng.integers(0, 9, ROWS).astype(float),
    "constant": lambda rng: np.full(ROWS, rng.choice([0.0, 1.0, 1000.1, -3e7])),
    "nearly constant": lambda rng: 1000.1 + 1e-4 * rng.integers(0, 2, ROWS),
    "small variance": lambda rng: rng.normal(size=ROWS) * rng.choice([1e-5, 1.0001e-5, 3e-6]),
    "huge": lambda rng: rng.normal(size=ROWS) * rng.choice([1e9, 1e20, 3e37]),
    "tiny": lambda rng: rng.lognormal(size=ROWS) * rng.choice([1e-9, 1e-30, 1e-42]),
    "two values": lambda rng: rng.integers(0, 2, ROWS).astype(float),
    "signed zeros": lambda rng: rng.choice([-0.0, 0.0, 1.0, 2.0], ROWS),
    "sorted": lambda rng: np.sort(rng.lognormal(size=ROWS)),
    "outlier": lambda rng: np.where(np.arange(ROWS) == 3, 1e6, rng.normal(size=ROWS)),
}


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Draw a frame of one to three columns, some of them twins or multiples of others."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    columns: dict[str, np.ndarray[Any, Any]] = {}
    for name in names:
        source = draw(st.sampled_from(["new", "twin", "multiple"])) if columns else "new"
        known = next(iter(columns.values()), None)
        if source == "new" or known is None:
            columns[name] = numbers(draw(st.sampled_from(sorted(KINDS))), draw(st.integers(0, 10_000)))
        else:
            columns[name] = (
                known.copy() if source == "twin" else known * draw(st.sampled_from([-1.0, 3.0, 0.1]))
            )
    frame = pd.DataFrame(columns)
    return frame.astype(draw(st.sampled_from([np.float64, np.float32])))


def assert_same_or_both_refused(frame: pd.DataFrame, **arguments: Any) -> None:
    """Compare the frames, or that what autofeat refuses is refused."""
    try:
        stock_expansion(frame, **arguments)
    except ValueError:
        with pytest.raises(ValueError, match="."):
            engineer_features(frame, **arguments)
        return
    assert_same_expansion(frame, **arguments)


def same_for_all(examples: int) -> Callable[[], None]:
    """Return a test of so many frames, with one step or two, all transformations or some."""

    @settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(
        frames(),
        st.integers(1, 2),
        st.sampled_from([ALL_TRANSFORMATIONS, ("1+", "1-", "abs", "^2"), ("1/", "log")]),
    )
    def compare(frame: pd.DataFrame, steps: int, transformations: tuple[str, ...]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert_same_or_both_refused(frame, max_steps=steps, transformations=transformations)

    return compare


@pytest.mark.parametrize("examples", [30, pytest.param(120, marks=pytest.mark.heavy)])
def test_hostile_frames_expand_to_the_same_bits(examples: int) -> None:
    """Whatever the values and names, the result is autofeat's, or both refuse."""
    same_for_all(examples)()


@pytest.mark.parametrize("steps", [3, 4])
def test_later_steps_expand_to_the_same_bits(steps: int) -> None:
    """Transformations of combinations, and combinations of those with what was before."""
    rng = np.random.default_rng(steps)
    frame = pd.DataFrame({"a": rng.normal(size=40), "b": rng.lognormal(size=40)})
    frame = frame if steps == 3 else frame[["b"]]
    assert_same_expansion(
        frame, max_steps=steps, transformations=("1/", "log", "^2") if steps == 3 else ("1/", "^2")
    )
