"""AutoFeat jobs that learn from past ones: tighter from the second run on, and told by which jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memguard.config import Settings, load_settings
from memguard.estimate import AutoFeatCounts
from memguard.events import Event
from memguard.forecasting import PastJob, forecaster_for
from memguard.forecasting.priors import with_prior
from memguard.integrations.autofeat import AutoFeatProcessor
from memguard.manager import MemoryManager
from memguard.units import GIB
from memguard_integrations.autofeat.admission import FitRefused, admit, as_flag, estimator_for, request_for
from memguard_integrations.autofeat.forecasts import judged_by_past
from memguard_integrations.autofeat.jobs import preload_for
from memguard_integrations.autofeat.likeness import likeness_of_fit
from memguard_integrations.autofeat.prospects import alternatives
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


@pytest.fixture
def numbers() -> tuple[pd.DataFrame, Any]:
    """Three columns and a target that is the product of two."""
    values = np.random.default_rng(5).uniform(1, 5, (400, 3))
    return pd.DataFrame(values, columns=["a", "b", "c"]), values[:, 0] * values[:, 1]


def test_the_second_run_of_a_fit_is_admitted_with_less_and_names_the_first(
    tmp_path: Path, numbers: tuple[pd.DataFrame, Any]
) -> None:
    """Also where its user named a figure: that stays its bound, and the forecast is what is reserved."""
    granted: list[tuple[str, int]] = []

    def note(event: Event) -> None:
        if event.name == "memguard.reservation_granted":
            granted.append((event.job_id, int(event.fields["reserved_bytes"] or 0)))

    settings = load_settings({"episodes": tmp_path})
    with MemoryManager("1GiB", settings=settings, preload=preload_for(Engine.MEMGUARD)) as manager:
        manager.events.subscribe(note)
        model = AutoFeatProcessor(steps=1, featsel_runs=1, manager=manager, memory="512MiB")
        fits = [model.fit(*numbers).reports[-1] for _ in range(3)]
        used = [model.transform(numbers[0]) is not None and model.reports[-1] for _ in range(2)]
    reserved = [dict(granted)[each.job_id] for each in fits]
    assert reserved[0] == 512 << 20
    assert reserved[0] > reserved[1] > reserved[2] >= fits[2].peak_bytes
    sizing = fits[1].sizing
    assert sizing is not None
    assert [each.id for each in sizing.episodes] == [f"job-{fits[0].job_id}"]
    assert fits[1].budget.limit_bytes == 512 << 20
    assert sizing.kind == "autofeat fit memguard regression"
    assert sizing.features["rows"] == 400
    assert sizing.features["kept_columns"] >= 3
    assert used[1].sizing.kind == "autofeat transform memguard regression"
    assert used[1].sizing.observations == 1


def survey_of(rows: int) -> Survey:
    """A table of eight numeric columns, counted by a pilot."""
    columns = tuple(EncodedColumn(f"c{place}", f"c{place}") for place in range(8))
    kinds = tuple((column.name, ColumnKind.NUMBER) for column in columns)
    plan = FeaturePlan(Task.REGRESSION, "y", (), columns, kinds, (), MissingPolicy.SKIP, ())
    return Survey(TableFacts("flights.csv", rows, ()), plan, rows, AutoFeatCounts(1048, 493, 1000), ())


STOCK = FitSettings(Task.REGRESSION, steps=2, selection_runs=1, engine=Engine.STOCK)


def past_fits(
    folder: Path, survey: Survey, fit: FitSettings, *peaks: int, budget: int, rows: int
) -> Settings:
    """Settings whose forecasts know fits of a survey with such peaks; 0 MiB above an estimate are its own."""
    settings = load_settings({"episodes": folder})
    forecaster = forecaster_for(settings)
    assert forecaster is not None
    alike = likeness_of_fit(survey, fit, rows, budget)
    estimate = estimator_for(fit, budget)(request_for(survey, fit, rows), survey.counts)
    features = with_prior(alike, estimate).features
    for number, peak in enumerate(peaks):
        forecaster._learn(
            PastJob(f"job-{number}", alike.kind, alike.world, features, peak, None, 10.0 + number)
        )
    return settings


def let_in(survey: Survey, fit: FitSettings, budget: int, settings: Settings) -> Any:
    """Admit a fit as a run does."""
    judged = judged_by_past(settings, survey, fit, budget)
    return admit(survey, fit, budget, setting=as_flag, capacity_bytes=64 * GIB, judged=judged)


def test_a_fit_that_past_ones_show_to_fit_is_let_in(tmp_path: Path) -> None:
    """The estimate alone refuses it; two that were exactly like it used half of that, in a larger budget."""
    survey = survey_of(20_000)
    estimate = estimator_for(STOCK, 8 * GIB)(request_for(survey, STOCK, 20_000), survey.counts)
    budget = int(estimate.high_bytes * 0.8)
    with pytest.raises(FitRefused):
        let_in(survey, STOCK, budget, load_settings({"episodes": tmp_path / "none"}))
    half = estimate.high_bytes // 2
    known = past_fits(tmp_path / "some", survey, STOCK, half, half, budget=8 * GIB, rows=20_000)
    admission = let_in(survey, STOCK, budget, known)
    assert admission.fit_rows == 20_000
    assert half < admission.borne_out.high_bytes <= budget
    assert admission.estimate == estimate


def test_past_fits_in_less_memory_or_of_other_rows_let_nothing_in(tmp_path: Path) -> None:
    """Who had less memory may have held less than this one will; another table is another table."""
    survey = survey_of(20_000)
    estimate = estimator_for(STOCK, 8 * GIB)(request_for(survey, STOCK, 20_000), survey.counts)
    budget, half = int(estimate.high_bytes * 0.8), estimate.high_bytes // 2
    smaller = past_fits(tmp_path / "a", survey, STOCK, half, half, budget=budget // 2, rows=20_000)
    others = past_fits(tmp_path / "b", survey, STOCK, half, half, budget=8 * GIB, rows=19_000)
    for known in (smaller, others):
        with pytest.raises(FitRefused):
            let_in(survey, STOCK, budget, known)


def test_a_fit_that_used_more_than_its_estimate_is_refused_where_that_does_not_fit(tmp_path: Path) -> None:
    """What was seen to be too small widens the estimate, of all that is proposed instead too."""
    survey = survey_of(20_000)
    estimate = estimator_for(STOCK, 8 * GIB)(request_for(survey, STOCK, 20_000), survey.counts)
    known = past_fits(tmp_path, survey, STOCK, 2 * estimate.high_bytes, budget=8 * GIB, rows=20_000)
    budget = int(estimate.high_bytes * 1.5)
    with pytest.raises(FitRefused) as caught:
        let_in(survey, STOCK, budget, known)
    assert caught.value.requested_bytes > 2 * estimate.high_bytes


def test_the_ways_to_do_a_fit_are_told_with_peak_time_and_loss(tmp_path: Path) -> None:
    """In memory takes most, spilling less and disk, light least and score; time is that of past jobs like it."""
    survey, fit = survey_of(300_000), FitSettings(Task.REGRESSION, steps=2, selection_runs=1)
    known = past_fits(tmp_path, survey, fit, GIB, GIB, GIB, budget=8 * GIB, rows=300_000)
    chosen = let_in(survey, fit, 8 * GIB, known)
    memory, spilling, light = alternatives(survey, fit, 8 * GIB, rows=300_000, chosen=chosen, settings=known)
    assert [each.way for each in (memory, spilling, light)] == ["in memory", "spilling", "light"]
    assert (memory.is_chosen, spilling.is_chosen, light.is_chosen) == (True, False, False)
    assert memory.estimate.high_bytes > spilling.estimate.high_bytes > light.estimate.high_bytes
    assert memory.duration_s == 11
    assert spilling.duration_s is light.duration_s is None
    assert spilling.scratch_bytes > 0 == memory.scratch_bytes
    assert light.expected_loss is not None
    assert light.left_out
    assert memory.peak_bytes == pytest.approx(GIB, rel=0.1)
    assert light.peak_bytes == light.estimate.expected_bytes < spilling.peak_bytes
