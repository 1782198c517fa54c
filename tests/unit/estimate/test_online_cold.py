"""The second job of a kind: less data asks for no more, more data for no more than in proportion and some."""

from __future__ import annotations

import pytest

from memguard.estimate import OnlineEstimator

MIB = 1 << 20
SEEN = {"rows": 6355.0, "input_bytes": 457701.0, "columns": 8.0, "transformations": 3.0}


def sized(**features: float) -> float:
    """Return what is said of a job, in peaks of the only one that was seen."""
    estimator = OnlineEstimator(0.05)
    estimator.observe("fit", SEEN, peak_bytes=64 * MIB)
    return estimator.predict("fit", {**SEEN, **features}).bytes / (64 * MIB)


def test_less_data_asks_for_no_more_than_the_same() -> None:
    """A job that is smaller in all it tells is sized like the one that was seen."""
    assert sized(rows=311.0, input_bytes=27509.0) == pytest.approx(sized())


def test_rows_and_bytes_are_one_growth() -> None:
    """Twice the data is twice the data, however many features say so."""
    assert sized(rows=2 * 6355.0, input_bytes=2 * 457701.0) == pytest.approx(sized(rows=2 * 6355.0), rel=0.01)
    assert 2 < sized(rows=2 * 6355.0) < 6


def test_a_number_that_is_no_size_moves_it_within_bounds() -> None:
    """An identifier in the millions, or a seed, is no growth by a million."""
    assert sized(transformations=2e9) < 100


def test_three_jobs_far_apart_ask_for_no_more_than_growth_explains() -> None:
    """Peaks that spread by a factor of fifty with their data are no reason to reserve a hundred times the largest."""
    estimator = OnlineEstimator(0.05)
    for rows, peak in ((1e4, 10), (5e5, 500), (1e5, 90)):
        estimator.observe("fit", {"rows": rows}, peak_bytes=peak * MIB)
    twice_the_largest = estimator.predict("fit", {"rows": 1e6}).bytes
    assert 500 * MIB < twice_the_largest <= 2.1 * 1000 * MIB
