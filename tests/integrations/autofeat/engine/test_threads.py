"""What ``n_jobs`` means: how many threads may work at once, and what a selection does with them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from memguard_integrations.autofeat.engine import select_features, threads
from memguard_integrations.autofeat.engine.selection import blocks, regression
from memguard_integrations.autofeat.engine.selection.sample import Sample
from memguard_integrations.autofeat.engine.threads import most_threads


@pytest.mark.parametrize(
    ("n_jobs", "expected"), [(None, 4), (1, 4), (2, 2), (4, 4), (9, 4), (-1, 4), (-2, 3), (-9, 1)]
)
def test_a_number_of_jobs_is_a_bound_of_threads(n_jobs: int | None, expected: int) -> None:
    """What tells no wish takes all four processors, a number at most these, and a negative one leaves some out."""
    assert most_threads(n_jobs, 4) == expected


def test_no_jobs_at_all_are_refused() -> None:
    """0 has no meaning, here as in joblib."""
    with pytest.raises(ValueError, match="n_jobs == 0"):
        most_threads(0)


@pytest.mark.parametrize(
    ("task", "rows", "memory"), [("regression", 5000, 1 << 16), ("classification", 200, None)]
)
def test_a_selection_does_not_depend_on_its_threads(
    task: str, rows: int, memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread and four choose the same columns in the same order, also where rows come in several chunks."""
    monkeypatch.setattr(threads, "usable_cpus", lambda: 4)
    frame, target = table(task, rows)
    asked, chunks = [], []
    pool, chunked = blocks.ThreadPoolExecutor, Sample.chunks
    monkeypatch.setattr(regression, "one_blas_thread", four_of_blas)
    monkeypatch.setattr(blocks, "ThreadPoolExecutor", lambda most: (asked.append(most), pool(most))[1])
    monkeypatch.setattr(
        Sample, "chunks", lambda self, size: chunks.append(len(self) / size) or chunked(self, size)
    )
    chosen = [
        select_features(frame, target, 1, None, task, n_jobs, memory_bytes=memory) for n_jobs in (-9, -1)
    ]
    assert chosen[0] == chosen[1]
    assert chosen[0]
    if task == "regression":
        assert {*asked} == {1, 4}
        assert max(chunks) > 2


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


@contextlib.contextmanager
def four_of_blas() -> Iterator[int]:
    """Tell of four threads of BLAS, of which one may work: a selection takes no more threads than BLAS has."""
    with blocks.one_blas_thread():
        yield 4


def table(task: str, rows: int = 200) -> tuple[pd.DataFrame, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    random = np.random.default_rng(0)
    values = random.standard_normal((rows, 6))
    target = 2 * values[:, 0] - values[:, 1] + 0.1 * random.standard_normal(rows)
    return pd.DataFrame(values, columns=list("abcdef")), target if task == "regression" else target > 0
