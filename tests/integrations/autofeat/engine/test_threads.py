"""What ``n_jobs`` means: how many threads may work at once, and what a selection does with them."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from memguard_integrations.autofeat.engine import select_features
from memguard_integrations.autofeat.engine.threads import most_threads


@pytest.mark.parametrize(
    ("n_jobs", "threads"), [(None, 4), (1, 4), (2, 2), (4, 4), (9, 4), (-1, 4), (-2, 3), (-9, 1)]
)
def test_a_number_of_jobs_is_a_bound_of_threads(n_jobs: int | None, threads: int) -> None:
    """What tells no wish takes all four processors, a number at most these, and a negative one leaves some out."""
    assert most_threads(n_jobs, 4) == threads


def test_no_jobs_at_all_are_refused() -> None:
    """0 has no meaning, here as in joblib."""
    with pytest.raises(ValueError, match="n_jobs == 0"):
        most_threads(0)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_selection_does_not_depend_on_its_threads(task: str) -> None:
    """One thread and several choose the same columns in the same order."""
    frame, target = table(task)
    chosen = [select_features(frame, target, 1, None, task, n_jobs) for n_jobs in (-9, -1)]
    assert chosen[0] == chosen[1]
    assert chosen[0]


def test_a_classification_says_that_its_budget_is_too_small(caplog: pytest.LogCaptureFixture) -> None:
    """Both figures are told, for one model of each run; with enough memory nothing is said."""
    frame, target = table("classification")
    with caplog.at_level(logging.WARNING, "memguard.autofeat"):
        enough = select_features(frame, target, 1, None, "classification", memory_bytes=2**20)
        assert not caplog.records
        little = select_features(frame, target, 1, None, "classification", memory_bytes=8000)
    assert "too little: it takes" in caplog.records[0].getMessage()
    assert len(caplog.records) == 2  # the run, and the last comparison with noise
    assert little == enough


def table(task: str) -> tuple[pd.DataFrame, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    random = np.random.default_rng(0)
    values = random.standard_normal((200, 6))
    target = 2 * values[:, 0] - values[:, 1] + 0.1 * random.standard_normal(200)
    return pd.DataFrame(values, columns=list("abcdef")), target if task == "regression" else target > 0
