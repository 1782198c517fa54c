"""The ridge regression that columns are compared by."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from memguard_integrations.autofeat import linear
from memguard_integrations.autofeat.linear import RidgeByRows


@pytest.mark.parametrize("rows", [15, 442])
def test_it_finds_what_scikit_learn_finds(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Penalty and predictions are those of RidgeCV on scaled columns, whatever the blocks."""
    monkeypatch.setattr(linear, "_BLOCK_BYTES", 8 * 10 * 7)
    features, target = (each[:rows] for each in load_diabetes(return_X_y=True, scaled=False))
    theirs = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7))).fit(features, target)
    ours = RidgeByRows().fit(features, target)
    assert ours.alpha == theirs[-1].alpha_
    assert ours.predict(features) == pytest.approx(theirs.predict(features), rel=1e-9)


def test_a_column_that_does_not_vary_is_no_obstacle() -> None:
    """A constant column, and one that repeats another, leave the prediction finite and as good."""
    features, target = load_diabetes(return_X_y=True, scaled=False)
    more = np.column_stack([features, np.full(len(features), 3.0), features[:, 2]])
    plain, wide = (RidgeByRows().fit(each, target).predict(each) for each in (features, more))
    assert np.square(wide - target).mean() == pytest.approx(np.square(plain - target).mean(), rel=0.01)
