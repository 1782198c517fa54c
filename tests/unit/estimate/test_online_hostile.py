"""Forecasts that learn, told nonsense: each is bounded in effect, and told."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.estimate import Lesson, OnlineEstimator
from memguard.estimate.history import MOST_OBSERVATIONS

GB = 1e9
ANY_NUMBER = st.floats() | st.integers(-(10**30), 10**400) | st.just(0)
ANY_FEATURES = st.dictionaries(
    st.sampled_from(["rows", "columns", "preset_bytes", "new", ""]),
    ANY_NUMBER | st.none() | st.text(max_size=3) | st.booleans() | st.just([1]),
)


def taught(count: int = 40) -> OnlineEstimator:
    estimator = OnlineEstimator()
    chance = random.Random(2)
    for _ in range(count):
        rows = chance.uniform(1e3, 1e5)
        estimator.observe("fit", {"rows": rows}, peak_bytes=1e8 + 2e4 * rows * chance.lognormvariate(0, 0.1))
    return estimator


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ANY_FEATURES, ANY_NUMBER, st.booleans()), max_size=25), ANY_FEATURES)
def test_any_story_gives_a_size(
    story: list[tuple[dict[str, Any], float, bool]], last: dict[str, Any]
) -> None:
    """Whatever it is told, it predicts whole bytes between 1 and the capacity, in order, and can be kept."""
    estimator = OnlineEstimator(capacity_bytes=10**12)
    for features, peak, killed in story:
        estimator.predict("fit", features)
        figure = {"exceeded_bytes" if killed else "peak_bytes": peak}
        estimator.observe("fit", features, **figure)
    prediction = estimator.predict("fit", last)
    assert 1 <= prediction.bytes <= 10**12
    assert prediction.low_bytes <= prediction.expected_bytes <= prediction.bytes <= prediction.high_bytes
    assert prediction.width >= 1
    json.dumps(estimator.state_dict(), allow_nan=False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, None, "many", [], 10**400])
def test_a_feature_that_is_no_size_is_left_out(value: Any) -> None:
    """It is told by name, and the size is the one without it."""
    estimator = taught()
    with_it = estimator.predict("fit", {"rows": 5e4, "columns": value}, tentative=True)
    assert with_it.bytes == estimator.predict("fit", {"rows": 5e4}, tentative=True).bytes
    assert any("'columns'" in each for each in with_it.reasons)


def test_a_missing_or_new_feature_costs_little() -> None:
    """Without its feature a job is sized within what was seen; a feature never seen before changes nothing."""
    estimator = taught()
    assert 1e8 < estimator.predict("fit", {}, tentative=True).bytes < 5e9
    known = estimator.predict("fit", {"rows": 5e4}, tentative=True)
    assert estimator.predict("fit", {"rows": 5e4, "phase": 3}, tentative=True).bytes == known.bytes


@pytest.mark.parametrize("peak", [math.nan, math.inf, -5.0, 10**400, "large"])
def test_a_peak_that_is_none_is_refused(peak: Any) -> None:
    """It is refused with a reason, and nothing is learned."""
    estimator = taught()
    before = estimator.predict("fit", {"rows": 5e4}, tentative=True)
    learned = estimator.observe("fit", {"rows": 5e4}, peak_bytes=peak)
    assert learned.lesson is Lesson.REFUSED
    assert "finite" in learned.reason
    assert estimator.predict("fit", {"rows": 5e4}, tentative=True) == before


def test_peaks_of_zero_are_pages() -> None:
    """Jobs that used nothing leave a size of a page or so, and one of them among many moves little."""
    estimator = OnlineEstimator()
    for _ in range(30):
        estimator.observe("idle", peak_bytes=0)
    assert 1 <= estimator.predict("idle").bytes < 10_000
    usual = taught()
    before = usual.predict("fit", {"rows": 5e4}, tentative=True).bytes
    usual.observe("fit", {"rows": 5e4}, peak_bytes=0)
    assert usual.predict("fit", {"rows": 5e4}).bytes == pytest.approx(before, rel=0.35)


def test_an_observation_counts_once() -> None:
    """The same id a second time changes nothing and is told."""
    estimator = taught()
    estimator.observe("fit", {"rows": 7e4}, peak_bytes=3 * GB, job_id="a")
    before = estimator.state_dict()
    again = estimator.observe("fit", {"rows": 7e4}, peak_bytes=3 * GB, job_id="a")
    assert again.lesson is Lesson.DUPLICATE
    assert estimator.state_dict()["kinds"] == before["kinds"]


def test_one_absurd_peak_changes_nothing() -> None:
    """A peak of a petabyte is set aside and told; a second one is believed."""
    estimator = taught()
    before = estimator.predict("fit", {"rows": 5e4}, tentative=True)
    learned = estimator.observe("fit", {"rows": 5e4}, peak_bytes=1e15)
    after = estimator.predict("fit", {"rows": 5e4}, tentative=True)
    assert learned.lesson is Lesson.SET_ASIDE
    assert after.bytes == before.bytes
    assert any("set aside" in each for each in after.reasons)
    estimator.observe("fit", {"rows": 5e4}, peak_bytes=1.1e15)
    assert estimator.retry_bytes("fit", exceeded_bytes=GB) > 1e14


def test_a_large_job_by_its_features_is_no_absurdity() -> None:
    """A hundred times the rows may take a hundred times the memory."""
    estimator = taught()
    assert estimator.observe("fit", {"rows": 1e7}, peak_bytes=2e11).lesson is Lesson.LEARNED


def test_a_poisoned_peak_that_is_believed_is_bounded() -> None:
    """One peak 20 times the others makes a size no more than those others' spread allows."""
    estimator = taught(60)
    before = estimator.predict("fit", {"rows": 5e4}, tentative=True).bytes
    estimator.observe("fit", {"rows": 5e4}, peak_bytes=20 * GB)
    assert estimator.predict("fit", {"rows": 5e4}, tentative=True).bytes < 3 * before


def test_contradicted_and_superseded_are_left_out() -> None:
    """What is withdrawn or superseded has no effect any more."""
    estimator = taught()
    before = estimator.predict("fit", {"rows": 5e4}, tentative=True)
    estimator.observe("fit", {"rows": 5e4}, peak_bytes=9 * GB, job_id="wrong")
    assert estimator.predict("fit", {"rows": 5e4}, tentative=True) != before
    assert estimator.withdraw("fit", "wrong")
    assert not estimator.withdraw("fit", "wrong")
    assert estimator.predict("fit", {"rows": 5e4}, tentative=True) == before
    estimator.observe("fit", {"rows": 5e4}, peak_bytes=9 * GB, job_id="also wrong")
    estimator.observe("fit", {"rows": 5e4}, peak_bytes=1.1 * GB, job_id="right", supersedes="also wrong")
    assert "also wrong" not in json.dumps(estimator.state_dict()["kinds"][0]["observations"])


def test_history_is_bounded_and_keeps_the_largest() -> None:
    """Of very many jobs as many are kept as were said, the largest of old among them."""
    estimator = OnlineEstimator()
    for number in range(MOST_OBSERVATIONS + 40):
        peak = 4 * GB if number == 3 else GB + number
        estimator.observe("fit", peak_bytes=peak, job_id=str(number))
    kept = estimator.state_dict()["kinds"][0]["observations"]
    assert len(kept) == MOST_OBSERVATIONS
    assert max(each["peak_bytes"] for each in kept) == 4 * GB


def test_kinds_are_bounded() -> None:
    """Of kinds without end the last thousand are kept."""
    estimator = OnlineEstimator()
    for number in range(1010):
        estimator.predict(f"kind {number}")
    names = [each["kind"] for each in estimator.state_dict()["kinds"]]
    assert len(names) == 1000
    assert names[-1] == "kind 1009"


def test_jobs_that_never_end_are_forgotten() -> None:
    """Predictions without end leave a bounded state."""
    estimator = OnlineEstimator()
    for _ in range(600):
        estimator.predict("fit")
    assert len(estimator.state_dict()["kinds"][0]["pending"]) == 512


@pytest.mark.parametrize("figures", [{}, {"peak_bytes": 1.0, "exceeded_bytes": 1.0}])
def test_one_figure_is_given(figures: dict[str, float]) -> None:
    """An observation is a peak or a kill, neither both nor none."""
    with pytest.raises(ValueError, match="either"):
        OnlineEstimator().observe("fit", **figures)


@pytest.mark.parametrize("rate", [0, -0.1, 0.6, math.nan])
def test_impossible_rates_are_refused(rate: float) -> None:
    """A rate that cannot be kept is refused at once."""
    with pytest.raises(ValueError, match="miss_rate"):
        OnlineEstimator(rate)


def test_a_torn_state_is_refused_or_read_in_part() -> None:
    """A state of another schema is refused; a kind that cannot be read fails the whole, or is left out and told."""
    state = taught().state_dict()
    estimator = taught(3)
    with pytest.raises(ValueError, match="memguard.estimator/1"):
        estimator.load_state_dict({**state, "schema": "other/9"})
    torn = {**state, "kinds": [*state["kinds"], {"kind": "torn", "world": ""}]}
    before = estimator.state_dict()
    with pytest.raises(ValueError, match="cannot be read"):
        estimator.load_state_dict(torn)
    assert estimator.state_dict() == before
    assert len(estimator.load_state_dict(torn, strict=False)) == 1
    assert [each["kind"] for each in estimator.state_dict()["kinds"]] == ["fit"]
