"""How much memory the engine needs, part by part, and what it leaves out where that cannot be had."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.estimate import (
    AutoFeatCounts,
    AutoFeatRequest,
    bound_counts,
    copied_bytes,
    engine_bytes,
    estimate_engine,
    lightest_loss,
    spilled_bytes,
)
from memguard.estimate.engine import _Parts
from memguard.estimate.light import _reliefs
from memguard.units import GIB, MIB, parse_bytes

ALL = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3")
# Measured with guarded jobs (`benchmarks/autofeat.py --only forecast`): the peak of each part in MiB.
MEASURED = [
    # rows, columns, steps, kept, budget, {part: peak}
    pytest.param((442, 10, 1, 46, "2GiB"), {"expand": 21, "select": 25, "fit": 26}, id="diabetes"),
    pytest.param((442, 10, 2, 919, "2GiB"), {"expand": 28, "select": 70, "fit": 34}, id="diabetes-2"),
    pytest.param((2_000, 8, 2, 582, "2GiB"), {"expand": 32, "select": 61, "fit": 36}, id="flights-2000"),
    pytest.param((10_000, 8, 2, 577, "2GiB"), {"expand": 63, "select": 136, "fit": 65}, id="flights-10000"),
    pytest.param((50_000, 8, 2, 573, "2GiB"), {"expand": 172, "select": 360, "fit": 188}, id="flights-50000"),
    pytest.param((50_000, 8, 2, 573, "300MiB"), {"expand": 71, "select": 118, "fit": 152}, id="spilling"),
    pytest.param((200_000, 8, 2, 584, "600MiB"), {"expand": 174, "select": 250, "fit": 443}, id="large"),
    pytest.param((20_000, 7, 2, 221, "2GiB"), {"expand": 59, "select": 98, "fit": 179}, id="weather"),
]
requests = st.builds(
    AutoFeatRequest,
    rows=st.integers(10, 1_000_000),
    columns=st.integers(1, 40),
    steps=st.integers(1, 3),
    transformations=st.integers(1, 7),
    classes=st.booleans(),
)
budgets = st.integers(64 * MIB, 16 * GIB)


@pytest.mark.parametrize(("job", "peaks"), MEASURED)
def test_what_was_measured_is_forecast(job: tuple[int, int, int, int, str], peaks: dict[str, int]) -> None:
    """No part took much more than its forecast, and the whole no more than its bound, nor a third of it."""
    rows, columns, steps, kept, budget = job
    request = AutoFeatRequest(rows, columns, steps)
    forecast = estimate_engine(request, AutoFeatCounts(kept, kept, 1000), parse_bytes(budget))
    for part, peak in peaks.items():
        assert peak * MIB < 1.3 * forecast.phases[part], part
    peak = max(peaks.values()) * MIB
    assert forecast.high_bytes / 3.2 < peak < forecast.high_bytes


@given(requests, budgets)
def test_the_forecast_is_whole(request: AutoFeatRequest, budget: int) -> None:
    """The expected peak is that of the largest part, the disk is used only where the plan says so, and spread holds."""
    forecast = estimate_engine(request, bound_counts(request), budget)
    assert forecast.low_bytes <= forecast.expected_bytes <= forecast.high_bytes
    assert (forecast.plan == "spilling") == (forecast.inputs["scratch_bytes"] > 0)
    if forecast.plan == "in memory" and forecast.fits(budget):
        assert forecast.expected_bytes == max(forecast.phases.values())


def test_copies_for_classes_are_no_business_of_the_disk() -> None:
    """Selection for classes copies rows of all columns, which need memory whatever spills."""
    request = AutoFeatRequest(50_000, 8, classes=True)
    counts = AutoFeatCounts(1000, 1000, 1000)
    assert copied_bytes(request, counts) > 300 * MIB
    assert not estimate_engine(request, counts, 300 * MIB).fits(300 * MIB)
    assert estimate_engine(replace(request, classes=False), counts, 300 * MIB).fits(300 * MIB)


@given(requests, budgets)
def test_what_is_left_out_suffices_and_is_told(request: AutoFeatRequest, budget: int) -> None:
    """What is chosen fits, loses something, says what it is, and nothing that fits loses less."""
    counts = bound_counts(request)
    transformations = ALL[: request.transformations]

    def fits(smaller: AutoFeatRequest, fewer: AutoFeatCounts) -> bool:
        return estimate_engine(smaller, fewer, budget).fits(budget)

    found = lightest_loss(request, counts, transformations, fits)
    others = [
        each.expected_loss
        for each in _reliefs(request, counts, transformations)
        if fits(*each.applied(request, counts))
    ]
    assert (found is None) == (not others)
    if found is None:
        return
    assert found.expected_loss == min(others)
    assert fits(*found.applied(request, counts))
    assert 0 < found.expected_loss < 0.1
    assert found.left_out(request, transformations)
    assert found.steps <= request.steps
    assert set(found.transformations) <= set(transformations)


def test_what_spills_at_the_worker_is_forecast() -> None:
    """Between what holds all columns at the most and what the engine gets of a budget, the plan is to spill."""
    request, counts = AutoFeatRequest(200_000, 8), AutoFeatCounts(584, 584, 1000)
    free = estimate_engine(request, counts, 16 * GIB)
    assert free.plan == "in memory"
    tight = estimate_engine(request, counts, free.high_bytes)
    assert (tight.plan, tight.fits(free.high_bytes)) == ("spilling", True)
    assert tight.inputs["scratch_bytes"] == spilled_bytes(
        request, counts, engine_bytes(free.high_bytes, _Parts(request, counts).own_bytes)
    )


@given(requests, budgets)
def test_copies_have_room_in_what_the_engine_gets(request: AutoFeatRequest, budget: int) -> None:
    """What fits has room for copies of classes' rows in the engine's part; the budget proposed otherwise would do."""
    counts = bound_counts(request)
    forecast = estimate_engine(request, counts, budget)
    if forecast.fits(budget):
        assert copied_bytes(request, counts) <= engine_bytes(budget, _Parts(request, counts).own_bytes)
    else:
        assert estimate_engine(request, counts, forecast.high_bytes).fits(forecast.high_bytes)


def test_what_loses_least_is_left_out_first_and_a_step_last() -> None:
    """The order is that of the losses: transformations, columns, rows where many are, and a step."""
    request, counts = AutoFeatRequest(40_000, 10), AutoFeatCounts(1000, 1000, 1000)

    def within(bytes_wanted: int) -> str:
        def fits(smaller: AutoFeatRequest, fewer: AutoFeatCounts) -> bool:
            rows = smaller.select_rows or smaller.rows
            return rows * min(fewer.kept, smaller.most_columns or fewer.kept) * 4 <= bytes_wanted

        found = lightest_loss(request, counts, ALL, fits)
        assert found is not None
        return "; ".join(found.left_out(request, ALL))

    assert within(100 * MIB) == "the transformations exp abs ^3 are not tried"
    assert within(40 * MIB) == "of the new columns the 247 that explain most enter selection"
    assert within(10 * MIB) == "columns are engineered and selected on 2,500 of 40,000 rows, drawn at random"
    assert within(2 * MIB).startswith("columns are engineered and selected on 1,250 of 40,000 rows")
    assert "1 of 2 steps are done" in within(MIB // 20)


def test_where_nothing_helps_nothing_is_proposed() -> None:
    """What cannot be had at all is not made light."""
    assert lightest_loss(AutoFeatRequest(1000, 5), AutoFeatCounts(200, 200), ALL, lambda *_: False) is None
