"""The linear model of a tall table: what scikit-learn finds, without what it holds."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

pytest.importorskip("sklearn.linear_model")

from sklearn.linear_model import LassoLarsCV

from memguard_integrations.autofeat.engine.selection.tall import fit_tall_lasso


def table(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return columns of very different sizes, some of no use, and a target."""
    draw = np.random.default_rng(5)
    values = draw.normal(size=(rows, 12)) * np.logspace(-3, 4, 12) + np.logspace(0, 5, 12)
    weights = np.where(np.arange(12) % 3 == 0, 1 / np.logspace(-3, 4, 12), 0)
    return values, values @ weights + draw.normal(size=rows)


def test_it_is_the_model_that_scikit_learn_finds() -> None:
    """Alpha, coefficients, intercept and predictions agree to many digits."""
    values, target = table(5_003)
    ours = fit_tall_lasso(lambda start, stop: values[start:stop], target)
    theirs = LassoLarsCV(cv=5).fit(values, target)
    assert ours.alpha_ == pytest.approx(theirs.alpha_, rel=1e-6)
    np.testing.assert_allclose(ours.coef_ * values.std(axis=0), theirs.coef_ * values.std(axis=0), atol=1e-6)
    np.testing.assert_allclose(ours.predict(values), theirs.predict(values), atol=1e-5)
    assert ours.score(values, target) == pytest.approx(theirs.score(values, target), abs=1e-9)
    assert ours.n_features_in_ == theirs.n_features_in_


def test_it_holds_blocks_and_not_the_rows() -> None:
    """Of 60 MiB of rows that are given out in parts it holds a few parts at a time."""
    values, target = table(650_000)
    tracemalloc.start()
    fit_tall_lasso(lambda start, stop: values[start:stop], target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < values.nbytes / 2
