"""How far a selection is, counted from scikit-learn's own work."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("autofeat.featsel", reason="stock autofeat is not installed")

from sklearn.linear_model import LassoLarsCV, LogisticRegressionCV, _least_angle

from memguard_integrations.autofeat.progress import Progress
from memguard_integrations.autofeat.selection_progress import SelectionProgress


class Told(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.fractions: list[float] = []

    def fraction(self, done: float) -> None:
        self.fractions.append(done)


@pytest.fixture
def told() -> Told:
    """Somebody who listens."""
    return Told()


@pytest.mark.parametrize("model", [LassoLarsCV(cv=5), LogisticRegressionCV(Cs=2, cv=5)])
def test_each_fold_of_each_model_is_a_step(told: Told, model: LassoLarsCV | LogisticRegressionCV) -> None:
    """A run's share grows by each path that is computed, for numbers and for classes, and starts where a run does."""
    rng = np.random.default_rng(0)
    features, target = rng.normal(size=(60, 3)), np.arange(60) % 2
    selection = SelectionProgress(told)
    selection.begin_run(2, 4)
    with selection.counted():
        model.fit(features, target)
    selection.begin_run(3, 4)
    assert told.fractions == pytest.approx([0.25, 0.2625, 0.275, 0.2875, 0.3, 0.3125, 0.5])


def test_a_run_is_never_told_to_be_over_before_it_is(told: Told) -> None:
    """More paths than are expected leave a run at its last step; none is counted beyond the selection."""
    selection = SelectionProgress(told)
    stock = _least_angle._lars_path_residues
    with selection.counted():
        path = selection._counting(lambda: None)
        path()
        selection.begin_run(1, 1)
        for _ in range(50):
            path()
        assert _least_angle._lars_path_residues is not stock
    selection.end()
    path()
    assert told.fractions == sorted(told.fractions)
    assert (len(told.fractions), told.fractions[-1]) == (51, 0.95)
    assert _least_angle._lars_path_residues is stock
