"""How much memory AutoFeat needs, as formulas over counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.estimate import (
    AutoFeatCounts,
    AutoFeatRequest,
    bound_counts,
    column_bound,
    estimate_autofeat,
    rows_that_fit,
    what_fits,
)
from memguard.units import GIB, MIB

# Measured: peak of a guarded worker that fits stock autofeat 2.1.3 and transforms the whole table, in MiB.
MEASURED = [
    # rows, steps, generated, kept, peak
    pytest.param((20_000, 1, 46, 19), 180, id="flights-1-step"),
    pytest.param((300_000, 1, 46, 19), 1248, id="flights-1-step-large"),
    pytest.param((2_000, 2, 1048, 493), 183, id="flights-small"),
    pytest.param((20_000, 2, 1048, 493), 707, id="flights-medium"),
    pytest.param((50_000, 2, 1048, 493), 1536, id="flights-large"),
    pytest.param((20_000, 2, 724, 355), 605, id="weather"),
]

requests = st.builds(
    AutoFeatRequest,
    rows=st.integers(10, 2_000_000),
    columns=st.integers(1, 60),
    steps=st.integers(1, 3),
    transformations=st.integers(1, 13),
    jobs=st.integers(1, 8),
    selection_runs=st.integers(1, 8),
)


def test_the_bound_is_autofeats_own() -> None:
    """The re-derived column bound equals autofeat's for every case in which autofeat's own formula is sound."""
    feateng = pytest.importorskip("autofeat.feateng", reason="stock autofeat is not installed")
    for columns in range(1, 12):
        for steps in range(8):
            # With one column and one transformation autofeat counts one pair where there is none.
            for transformations in (2, 3, 7, 13):
                expected = feateng.n_cols_generated(columns, steps, transformations)
                assert column_bound(columns, steps, transformations) == expected


@pytest.mark.parametrize(("counts", "peak_mib"), MEASURED)
def test_estimates_hold_what_was_measured(counts: tuple[int, int, int, int], peak_mib: int) -> None:
    """A measured peak lies between the low and the high figure, and the high one is no more than twice it."""
    rows, steps, generated, kept = counts
    request = AutoFeatRequest(rows, 8, steps, selection_runs=1, table_rows=336_776)
    estimate = estimate_autofeat(request, AutoFeatCounts(generated, kept, 1000))
    assert estimate.low_bytes <= peak_mib * MIB <= estimate.high_bytes <= 2 * peak_mib * MIB


@given(requests)
def test_more_rows_never_need_less(request: AutoFeatRequest) -> None:
    """The estimate grows with the rows."""
    counts = bound_counts(request)
    more = replace(request, rows=request.rows * 2)
    assert estimate_autofeat(more, counts).high_bytes > estimate_autofeat(request, counts).high_bytes


@given(requests)
def test_a_pilot_never_raises_the_bound(request: AutoFeatRequest) -> None:
    """Counts from a pilot are at most the bound, so the high figure with them is at most the one without."""
    bound = bound_counts(request)
    pilot = AutoFeatCounts(max(1, bound.generated // 2), max(1, bound.kept // 2), 1000)
    assert estimate_autofeat(request, pilot).high_bytes <= estimate_autofeat(request, bound).high_bytes


@given(requests, st.integers(64 * MIB, 64 * GIB))
def test_rows_that_fit_is_the_inverse(request: AutoFeatRequest, budget_bytes: int) -> None:
    """As many rows as are returned fit, and one more does not."""
    counts = bound_counts(request)
    rows = rows_that_fit(request, counts, budget_bytes)
    assert 0 <= rows <= request.rows
    if rows:
        assert estimate_autofeat(replace(request, rows=rows), counts).fits(budget_bytes)
    if rows < request.rows:
        one_more = replace(request, rows=max(10, rows + 1))
        assert not estimate_autofeat(one_more, counts).fits(budget_bytes)


@given(requests, st.integers(64 * MIB, 8 * GIB))
def test_every_proposal_would_fit(request: AutoFeatRequest, budget_bytes: int) -> None:
    """Each proposed change alone makes the request fit: fewer rows or steps the budget, more memory its own figure."""
    for fit in what_fits(request, bound_counts(request), budget_bytes):
        allowed = fit.value if fit.what == "memory" else budget_bytes
        assert fit.estimate.fits(allowed)


def test_a_job_that_is_too_large_is_told_rows_steps_and_memory() -> None:
    """All three kinds of change are proposed where each would help, rows first."""
    request = AutoFeatRequest(327_346, 8, 2, selection_runs=1)
    changes = what_fits(request, AutoFeatCounts(1048, 493, 1000), 4 * GIB)
    assert [fit.what for fit in changes] == ["rows", "steps", "memory"]


def test_without_a_pilot_the_spread_is_wide_and_says_so() -> None:
    """Where columns cost most, the low figure of a bound drops far below the high one; the reason names the bound."""
    request = AutoFeatRequest(10_000, 16, 2)
    estimate = estimate_autofeat(request, bound_counts(request))
    assert estimate.low_bytes * 5 < estimate.high_bytes
    assert "no pilot" in estimate.reasons[0]


def test_processes_cost_imports_and_copies() -> None:
    """A second process adds its imports and a copy of the data; more processes than runs are not counted."""
    counts = AutoFeatCounts(1048, 493, 1000)
    one = AutoFeatRequest(20_000, 8, selection_runs=2)
    two, four = replace(one, jobs=2), replace(one, jobs=4)
    assert (
        estimate_autofeat(two, counts).expected_bytes
        > estimate_autofeat(one, counts).expected_bytes + 400 * MIB
    )
    assert estimate_autofeat(four, counts) == replace(
        estimate_autofeat(two, counts), inputs=estimate_autofeat(four, counts).inputs
    )


def test_no_row_fits_a_budget_below_the_fixed_cost() -> None:
    """Where not even ten rows fit, the answer is none rather than a number that would fail."""
    assert rows_that_fit(AutoFeatRequest(1000, 3), AutoFeatCounts(50, 30, 200), 50 * MIB) == 0


def test_without_a_pilot_only_the_columns_are_in_doubt() -> None:
    """A job that is mostly fixed cost is expected to need as much without a pilot as with one, within a tenth."""
    request = AutoFeatRequest(300, 2, 2, selection_runs=1)
    bound = bound_counts(request)
    counted = estimate_autofeat(request, replace(bound, pilot_rows=300))
    guessed = estimate_autofeat(request, bound)
    assert guessed.expected_bytes == pytest.approx(counted.expected_bytes, rel=0.1)
    assert guessed.high_bytes == counted.high_bytes


@given(requests)
def test_without_a_pilot_nothing_falls_below_the_fixed_cost(request: AutoFeatRequest) -> None:
    """What is expected without a pilot covers at least a fit that makes no column."""
    start = AutoFeatCounts(request.columns, request.columns, 1000)
    least = estimate_autofeat(replace(request, rows=10), start).expected_bytes
    assert estimate_autofeat(replace(request, rows=10), bound_counts(request)).expected_bytes >= least
