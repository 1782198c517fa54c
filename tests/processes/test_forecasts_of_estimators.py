"""Real estimators of several sizes: after some fits the next is forecast within a factor of what it uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from memguard import MemoryManager
from memguard.config import load_settings

SIZES = (3, 1, 5, 2, 4, 6, 3, 5)
# What a forecast may be off by, up and down, after the first half of the fits; small jobs differ by some MiB.
FACTOR = 2.0
SLACK_BYTES = 12 << 20


def numbers(rows: int, columns: int) -> tuple[Any, Any]:
    """Columns without meaning, and a target that one of them explains."""
    values = np.random.default_rng(rows).normal(size=(rows, columns))
    return values, values[:, 0] + 0.1 * values[:, 1]


def classes(rows: int, columns: int, count: int) -> tuple[Any, Any]:
    """The same with so many classes."""
    values, target = numbers(rows, columns)
    return values, (np.argsort(np.argsort(target)) * count) // rows


def words(rows: int) -> tuple[Any, Any]:
    """A sparse table, as counts of words are."""
    table = sparse.random(rows, 300, density=0.02, format="csr", random_state=rows)
    return table, np.arange(rows) % 2


CASES: dict[str, Callable[[int], tuple[Any, tuple[Any, Any]]]] = {
    "pipeline": lambda size: (
        make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge()),
        numbers(6000 * size, 10),
    ),
    "forest": lambda size: (RandomForestRegressor(n_estimators=10), numbers(5000 * size, 5)),
    "boosting": lambda size: (HistGradientBoostingRegressor(max_iter=5), numbers(20_000 * size, 20)),
    "search": lambda size: (GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2), numbers(25_000 * size, 15)),
    "classes": lambda size: (RandomForestClassifier(n_estimators=8), classes(3000, 5, 4 * size)),
    "sparse": lambda size: (LogisticRegression(max_iter=20), words(4_000 * size)),
}


def fits_of(name: str, folder: Path) -> list[tuple[int, Any]]:
    """Fit one after the other; returns the peak and what was forecast of each."""
    seen = []
    with MemoryManager("2GiB", settings=load_settings({"episodes": folder})) as manager:
        for size in SIZES:
            model, (table, target) = CASES[name](size)
            report = manager.run(model.fit, table, target).report
            seen.append((report.proven_peak_bytes, report.sizing))
    return seen


def check(seen: list[tuple[int, Any]]) -> None:
    """Whether all of the later half were forecast within the factor, and of one kind."""
    assert len({sizing.kind for _, sizing in seen}) == 1
    for peak, sizing in seen[len(seen) // 2 :]:
        assert peak <= FACTOR * sizing.predicted_bytes + SLACK_BYTES
        assert sizing.predicted_bytes <= FACTOR * peak + SLACK_BYTES


def test_a_pipeline_is_forecast_by_its_table(tmp_path: Path) -> None:
    """Four fits of other sizes are enough for the next to be forecast within a factor of two."""
    check(fits_of("pipeline", tmp_path))


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(set(CASES) - {"pipeline"}))
def test_estimators_are_forecast_by_table_and_parameters(name: str, tmp_path: Path) -> None:
    """Trees, boosting, searches, classes and sparse tables alike."""
    check(fits_of(name, tmp_path))
