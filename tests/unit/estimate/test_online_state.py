"""What is kept of forecasts, torn or made up, and forecasts asked by many threads: bounded, and told."""

from __future__ import annotations

import copy
import json
import math
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.estimate import Lesson, OnlineEstimator

GB = 1e9
GARBAGE = st.sampled_from(
    [None, math.nan, math.inf, -math.inf, -1, 10**400, "", "x", [], {}, [1], True, 1e308]
)


def taught(count: int = 12) -> OnlineEstimator:
    estimator, chance = OnlineEstimator(), random.Random(2)
    for number in range(count):
        features = {"rows": chance.uniform(1e3, 1e5)}
        estimator.predict("fit", features, job_id=str(number), explain=False)
        if number % 3:
            estimator.observe("fit", features, peak_bytes=2e4 * features["rows"], job_id=str(number))
    return estimator


STATE = taught().state_dict()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inside for found in places(each, (*path, key)))]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(places(STATE)), GARBAGE)
def test_a_made_up_state_is_refused_whole_or_harmless(path: tuple[Any, ...], garbage: Any) -> None:
    """With anything at any place a state is refused and nothing changes, or sizes are still whole bytes in order."""
    state = copy.deepcopy(STATE)
    if path:
        at = state
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = garbage
    else:
        state = garbage
    estimator = OnlineEstimator(capacity_bytes=10**12)
    try:
        estimator.load_state_dict(state)
    except ValueError:
        assert estimator.state_dict()["kinds"] == []
        return
    prediction = estimator.predict("fit", {"rows": 5e4})
    assert 0 <= prediction.low_bytes <= prediction.expected_bytes <= prediction.bytes <= 10**12
    estimator.observe("fit", {"rows": 5e4}, peak_bytes=GB)
    json.dumps(estimator.state_dict(), allow_nan=False)


def test_a_state_of_before_rounds_were_counted_is_read() -> None:
    """It predicts the same; only promises wait for rounds."""
    state = copy.deepcopy(STATE)
    for kind in state["kinds"]:
        del kind["rounds"], kind["error_spread"], kind["watch"]["rounds"]
        for each in kind["pending"]:
            del each["round"]
    old, new = OnlineEstimator(), OnlineEstimator()
    old.load_state_dict(state)
    new.load_state_dict(STATE)
    assert old.predict("fit", {"rows": 5e4}).bytes == new.predict("fit", {"rows": 5e4}).bytes


def test_the_same_job_with_another_peak_is_told() -> None:
    """The first peak stays, and the answer names both."""
    estimator = taught()
    again = estimator.observe("fit", {"rows": 5e4}, peak_bytes=7 * GB, job_id="1")
    assert again.lesson is Lesson.DUPLICATE
    assert "7000000000" in again.reason
    assert "the first stays" in again.reason


@pytest.mark.parametrize("runtime", [-5.0, math.nan, math.inf, 1e300, "long", 10**400, [1]])
def test_a_run_time_that_is_none_counts_as_usual(runtime: Any) -> None:
    """A clock that ran backwards, or wild, makes no job outweigh the others."""
    one, two = taught(), taught()
    one.observe("fit", {"rows": 5e4}, peak_bytes=GB, runtime_s=runtime, job_id="a")
    two.observe("fit", {"rows": 5e4}, peak_bytes=GB, job_id="a")
    assert one.predict("fit", {"rows": 5e4}) == two.predict("fit", {"rows": 5e4})


@pytest.mark.parametrize("limit", [math.nan, math.inf, -1.0, "much", None, True])
def test_a_retry_of_no_size_is_refused(limit: Any) -> None:
    """What passed no limit that can be is no failure to answer."""
    with pytest.raises(ValueError, match="finite number of bytes"):
        OnlineEstimator().retry_bytes("fit", exceeded_bytes=limit)


def test_threads_lose_nothing() -> None:
    """Four threads that predict and observe leave every job counted once, and a state that can be read."""
    estimator = OnlineEstimator()

    def work(thread: int) -> None:
        for number in range(12):
            name = f"{thread}-{number}"
            estimator.predict("fit", {"rows": number}, job_id=name, explain=False)
            estimator.observe("fit", {"rows": number}, peak_bytes=GB + number, job_id=name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    kept = estimator.state_dict()["kinds"][0]
    assert len({each["id"] for each in kept["observations"]}) == 48
    assert kept["pending"] == []
    assert estimator.calibration()["fit", ""].attempts == 48
    assert OnlineEstimator().load_state_dict(json.loads(json.dumps(estimator.state_dict()))) == ()
