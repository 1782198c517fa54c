"""Whether a fit may start, on how many rows, and what is said if it may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.config import load_settings
from memguard.errors import CapacityExceeded, DataError
from memguard.estimate import AutoFeatCounts, engine_bytes
from memguard.estimate.engine import _Parts
from memguard.events import Event
from memguard.units import GIB, MIB
from memguard_integrations.autofeat import table_run
from memguard_integrations.autofeat.admission import (
    FitRefused,
    admit,
    as_argument,
    as_flag,
    check_fit_rows,
    request_for,
    summary_of,
)
from memguard_integrations.autofeat.engine import LightMode
from memguard_integrations.autofeat.engine.planning.needs import Room
from memguard_integrations.autofeat.records import (
    ColumnKind,
    EncodedColumn,
    Engine,
    FeaturePlan,
    FitSettings,
    MissingPolicy,
    Survey,
    TableFacts,
    Task,
)
from memguard_integrations.autofeat.table_run import TableRequest, _rows_said, process_table

SETTINGS = FitSettings(Task.REGRESSION, steps=2, selection_runs=1, engine=Engine.STOCK)
ENGINE = FitSettings(Task.REGRESSION, steps=2, selection_runs=1)


@pytest.fixture
def flights() -> Survey:
    """The counts of the flights of 2013, eight numeric columns."""
    return flights_of(Task.REGRESSION)


def flights_of(task: Task) -> Survey:
    """Survey them for a task."""
    columns = tuple(EncodedColumn(f"c{place}", f"c{place}") for place in range(8))
    kinds = tuple((column.name, ColumnKind.NUMBER) for column in columns)
    plan = FeaturePlan(task, "y", (), columns, kinds, (), MissingPolicy.SKIP, ())
    facts = TableFacts("flights.csv", 336_776, ())
    return Survey(facts, plan, 327_346, AutoFeatCounts(1048, 493, 1000), ())


def test_a_fit_that_is_too_large_is_refused_with_figures_and_remedies(flights: Survey) -> None:
    """The refusal names need, budget, the columns behind it, and literal settings that would fit, in one line."""
    with pytest.raises(FitRefused) as caught:
        admit(flights, SETTINGS, 2 * GIB, setting=as_flag, capacity_bytes=24 * GIB)
    message = str(caught.value)
    assert isinstance(caught.value, CapacityExceeded)
    assert "fitting 327,346 rows in 2 steps needs" in message
    assert "the budget is 2 GiB and must hold the most that may be needed" in message
    assert "8 columns become 1,048, 493 enter selection" in message
    assert "--fit-rows 5" in message
    assert "--memory 1" in message
    assert "\n" not in message
    assert caught.value.capacity_bytes == 2 * GIB < caught.value.requested_bytes
    assert caught.value.exit_status == 125


def test_memory_beyond_the_machine_is_not_proposed(flights: Survey) -> None:
    """A remedy that the machine cannot give is none."""
    with pytest.raises(FitRefused) as caught:
        admit(flights, SETTINGS, 2 * GIB, setting=as_flag, capacity_bytes=4 * GIB)
    assert "--memory" not in str(caught.value)


def test_a_fit_may_shrink_where_that_was_asked_for(flights: Survey) -> None:
    """With shrink as many rows are taken as fit, and the estimate is of those."""
    admission = admit(flights, SETTINGS, 2 * GIB, shrink=True, setting=as_flag, capacity_bytes=24 * GIB)
    assert 40_000 < admission.fit_rows < 70_000
    assert admission.estimate.fits(2 * GIB)
    whole = admit(flights, SETTINGS, 24 * GIB, shrink=True, setting=as_flag, capacity_bytes=24 * GIB)
    assert whole.fit_rows == 327_346


def test_a_fit_shrinks_to_what_the_disk_has_room_for(flights: Survey) -> None:
    """Rows are as many as memory and disk have room for; on a small disk fewer than on a large one, never too many."""
    found = []
    for free in (3 * MIB, 300 * MIB, 1024 * GIB):
        survey = replace(flights, scratch_bytes=free)
        admission = admit(survey, ENGINE, 512 * MIB, shrink=True, setting=as_flag, capacity_bytes=24 * GIB)
        assert admission.relief is None
        scratch = admission.estimate.inputs["scratch_bytes"]
        assert isinstance(scratch, int)
        assert scratch <= 0.85 * free
        found.append(admission.fit_rows)
    assert 10_000 < found[0] < found[1] < found[2]


def test_rows_asked_for_are_taken_or_refused(flights: Survey) -> None:
    """A number of rows is kept exactly, up to all usable ones, or refused; never reduced silently."""
    admission = admit(flights, SETTINGS, 2 * GIB, fit_rows=20_000, setting=as_flag, capacity_bytes=24 * GIB)
    assert admission.fit_rows == 20_000
    with pytest.raises(FitRefused):
        admit(flights, SETTINGS, 2 * GIB, fit_rows=200_000, setting=as_flag, capacity_bytes=24 * GIB)


@pytest.mark.parametrize("rows", [0, 5, 9])
def test_fewer_rows_than_a_table_must_have_are_refused(flights: Survey, rows: int) -> None:
    """Rows asked for are held to the least that a whole table is held to."""
    with pytest.raises(DataError, match=rf"^--fit-rows: {rows} are too few: AutoFeat needs 10 rows"):
        admit(flights, SETTINGS, GIB, fit_rows=rows, setting=as_flag, capacity_bytes=24 * GIB)
    with pytest.raises(DataError, match="--fit-rows"):
        check_fit_rows(rows)
    check_fit_rows(10)


def test_not_even_a_few_rows_fit(flights: Survey) -> None:
    """Below the fixed cost nothing fits, and shrinking does not pretend that it does."""
    with pytest.raises(FitRefused):
        admit(flights, SETTINGS, 64 * MIB, shrink=True, setting=as_flag, capacity_bytes=24 * GIB)


def test_remedies_in_python_are_arguments(flights: Survey) -> None:
    """A caller in Python is told arguments, not flags."""
    with pytest.raises(FitRefused) as caught:
        admit(flights, SETTINGS, 4 * GIB, setting=as_argument, capacity_bytes=24 * GIB)
    message = str(caught.value)
    assert "X.sample(" in message
    assert "steps=1" in message
    assert 'memory="1' in message
    assert "--" not in message


def test_the_report_gets_the_estimate(flights: Survey) -> None:
    """The job's report holds expectation, bound and reasons."""
    admission = admit(flights, SETTINGS, 24 * GIB, setting=as_flag, capacity_bytes=24 * GIB)
    summary = summary_of(admission.estimate)
    assert summary.expected_bytes == admission.estimate.expected_bytes
    assert summary.high_bytes == admission.estimate.high_bytes
    assert summary.reasons == admission.estimate.reasons


@pytest.mark.parametrize(
    ("fit_rows", "shrink", "said"),
    [
        (None, False, "fitting on all 327,346 usable rows"),
        (400_000, False, "fitting on all 327,346 usable rows, since there are no more (--fit-rows 400000)"),
        (20_000, False, "fitting on 20,000 of 327,346 usable rows (a random sample, seed 0)"),
        (
            None,
            True,
            "usable rows (as many as fit the budget, so use will come near it; a random sample, seed 0)",
        ),
    ],
)
def test_it_is_said_how_many_rows_are_taken(
    flights: Survey, fit_rows: int | None, shrink: bool, said: str
) -> None:
    """Fewer rows than there are, and fewer than were asked for, are told with the reason."""
    request = TableRequest("in.csv", "y", "out.parquet", SETTINGS, fit_rows=fit_rows, shrink=shrink)
    budget_bytes = 2 * GIB if shrink else 24 * GIB
    admission = admit(
        flights,
        SETTINGS,
        budget_bytes,
        fit_rows=fit_rows,
        shrink=shrink,
        setting=as_flag,
        capacity_bytes=24 * GIB,
    )
    assert _rows_said(flights, request, admission).endswith(said)


@pytest.mark.requirement("R3.3")
def test_the_engine_takes_all_rows_in_a_budget_that_stock_is_refused(flights: Survey) -> None:
    """What does not fit goes to disk, and the estimate says how much; with room for all of it nothing does."""
    small = admit(flights, ENGINE, GIB, setting=as_flag, capacity_bytes=24 * GIB)
    assert small.fit_rows == flights.usable_rows
    assert small.estimate.high_bytes <= GIB
    assert 0.5 < small.estimate.inputs["scratch_bytes"] / (327_346 * 1048 * 4) < 1
    assert small.estimate.plan == "spilling"
    assert "of it on disk" in small.estimate.reasons[1]
    large = admit(flights, ENGINE, 8 * GIB, setting=as_flag, capacity_bytes=24 * GIB)
    assert (large.estimate.inputs["scratch_bytes"], large.fit_rows) == (0, flights.usable_rows)
    assert large.estimate.high_bytes < 3 * GIB


def test_the_engine_is_refused_where_not_even_the_least_fits(flights: Survey) -> None:
    """All rows of the table and the model on them must fit; the remedies are those that would do."""
    with pytest.raises(FitRefused, match="--fit-rows") as caught:
        admit(flights, ENGINE, 256 * MIB, setting=as_flag, capacity_bytes=24 * GIB)
    assert 256 * MIB < caught.value.requested_bytes < GIB
    fewer = admit(flights, ENGINE, 256 * MIB, shrink=True, setting=as_flag, capacity_bytes=24 * GIB)
    assert 0 < fewer.fit_rows < flights.usable_rows
    assert fewer.estimate.fits(256 * MIB)


def test_what_a_file_leaves_out_on_the_way_is_told(
    flights: Survey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Light mode on the way through a file gives an event, a warning for who called, and a sentence without figures."""
    told: list[Event] = []
    said: list[str] = []
    surveyed = SimpleNamespace(
        value=flights, report=SimpleNamespace(budget=SimpleNamespace(limit_bytes=8 * GIB))
    )
    manager: Any = SimpleNamespace(
        run=lambda *args, **settings: surveyed,
        budget=SimpleNamespace(limit_bytes=8 * GIB),
        settings=load_settings({"forecast": "off"}),
        status=lambda: SimpleNamespace(capacity_bytes=24 * GIB),
        announce=told.append,
    )
    result = SimpleNamespace(model=SimpleNamespace(left_out=("1 of 2 steps are done",)), warnings=())
    monkeypatch.setattr(table_run, "_fit", lambda *args, **settings: (result, None))
    (tmp_path / "in.csv").write_text("y\n1\n")
    request = TableRequest(str(tmp_path / "in.csv"), "y", str(tmp_path / "out.parquet"), ENGINE)
    with pytest.warns(LightMode) as caught:
        process_table(manager, request, announce=said.append)
    assert [(each.name, each.fields["left_out"]) for each in told] == [
        ("memguard.light_mode_entered", "1 of 2 steps are done")
    ]
    assert caught[0].filename == __file__
    assert "light mode: 1 of 2 steps are done; memory or disk ran short on the way" in said


@given(
    rows=st.integers(1_000, 500_000),
    kept=st.integers(30, 3_000),
    task=st.sampled_from(Task),
    budget=st.integers(128 * MIB, 8 * GIB),
    free=st.integers(0, 4 * GIB),
    shrink=st.booleans(),
)
def test_what_is_let_in_is_had_by_the_worker(
    *, rows: int, kept: int, task: Task, budget: int, free: int, shrink: bool
) -> None:
    """An admitted fit has room in what its worker gets, on the same disk, as the worker itself reckons it."""
    survey = replace(flights_of(task), usable_rows=rows, counts=AutoFeatCounts(kept, kept, 1000))
    survey = replace(survey, facts=replace(survey.facts, rows=rows), scratch_bytes=free)
    settings = replace(ENGINE, task=task)
    try:
        let_in = admit(survey, settings, budget, shrink=shrink, setting=as_flag, capacity_bytes=24 * GIB)
    except FitRefused:
        return
    request, counts = request_for(survey, settings, let_in.fit_rows), survey.counts
    own_bytes = _Parts(request, counts).own_bytes
    if let_in.relief is not None:
        request, counts = let_in.relief.applied(request, counts)
    assert Room(engine_bytes(budget, own_bytes), free).has(request, counts)
