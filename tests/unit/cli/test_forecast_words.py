"""What is said of a forecast beside a command: one line where something can be done about it, else nothing."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from memguard.cli.command_frame import Naming, command_frame, command_likeness
from memguard.cli.forecast_words import tell_forecast, tell_over_generous
from memguard.cli.report import describe
from memguard.config import load_settings
from memguard.foresight import Foresight, is_above_budget, is_overruled
from memguard.report import BudgetReport, JobReport, Outcome, report_from_json
from memguard.sizing import Influencer, Sizing
from memguard.story import with_next, with_story
from memguard.units import MIB
from tests.support.forecasts import keep, past_job

RUN = ("/bin/true", "--rows", "30000")
SIZING = Sizing(
    kind="train", features={"rows": 5.0}, predicted_bytes=300 * MIB, expected_bytes=280 * MIB, low_bytes=250 * MIB,
    high_bytes=300 * MIB, miss_rate=0.05, promised=True, observations=30, basis="history",
    reasons=("the mean says so",), episodes=(Influencer("job-7", 290 * MIB, -3 * MIB),), next_bytes=310 * MIB,
)  # fmt: skip


def wrapped(*words: str) -> str:
    """Run a command under guard in another process; returns what memguard said."""
    done = subprocess.run(
        [sys.executable, "-m", "memguard", "run", *words], capture_output=True, text=True, check=True
    )
    return done.stderr


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> JobReport:
    """Give the report of a command that completed."""
    file = tmp_path_factory.mktemp("words") / "report.json"
    assert wrapped("-q", "--memory", "1GiB", "--report", str(file), "--", "true") == ""
    return report_from_json(json.loads(file.read_text()), subject=str(file))


def of(report: JobReport, *, named: int, sizing: Sizing | None = SIZING, **changed: object) -> JobReport:
    budget = dataclasses.replace(report.budget, limit_bytes=named * MIB)
    assert isinstance(budget, BudgetReport)
    return dataclasses.replace(report, budget=budget, sizing=sizing, **changed)  # type: ignore[arg-type]


def test_a_miss_and_its_consequence_are_told_in_a_line_each() -> None:
    """With figures, with what comes next, and with the page to read where the rate is not kept."""
    fields = {"kind": "x", "predicted_bytes": 100 * MIB, "peak_bytes": 150 * MIB}
    assert (
        tell_forecast("memguard.forecast_missed", "train", fields)
        == "train used 150 MiB; 100 MiB were forecast"
    )
    widened = {"kind": "x", "predicted_bytes": MIB, "next_bytes": 200 * MIB, "miss_rate": 0.05}
    told = tell_forecast("memguard.forecast_widened", "train", widened)
    assert "more often than 5% allows" in told
    assert "the next one is to have 200 MiB (memguard runbook ForecastMissed)" in told
    assert tell_forecast("memguard.job_ended", "train", {"peak_bytes": 1}) == ""


@pytest.mark.parametrize(
    ("capacity", "told"), [(1000, "name more, --memory 300MiB"), (200, "more than the 200 MiB")]
)
def test_what_is_foreseen_not_to_fit_is_told_with_what_would(capacity: int, told: str) -> None:
    """A budget that would do where there is one, and smaller data."""
    fields = {
        "needed_bytes": 300 * MIB, "limit_bytes": 100 * MIB, "capacity_bytes": capacity * MIB,
        "would_fit": "rows up to 9 (here 30)",
    }  # fmt: skip
    line = tell_forecast("memguard.overrun_foreseen", "train", fields)
    assert told in line
    assert "rows up to 9 (here 30) would fit" in line


def test_an_over_generous_figure_is_told_only_where_it_is_far_too_large(completed: JobReport) -> None:
    """What waits idle and whom it would be room for; nothing where a budget is near, or the job failed."""
    told = tell_over_generous(of(completed, named=4096))
    assert "4 GiB named, jobs like it use at most 310 MiB: 3.7 GiB would wait idle, room for 12 more" in told
    assert tell_over_generous(of(completed, named=700)) == ""
    assert tell_over_generous(of(completed, named=4096, outcome=Outcome.RAISED)) == ""
    assert tell_over_generous(of(completed, named=4096, sizing=None)) == ""
    tiny = dataclasses.replace(SIZING, next_bytes=10 * MIB)
    assert tell_over_generous(of(completed, named=60, sizing=tiny)) == ""


def test_only_a_figure_that_was_overruled_is_called_too_large() -> None:
    """It must have been named, and enough must be known."""
    named = dataclasses.replace(SIZING, features={"request_bytes": 4096.0 * MIB})
    assert is_overruled(named)
    assert not is_overruled(SIZING)
    assert not is_overruled(None)
    assert not is_overruled(dataclasses.replace(named, promised=False, observations=4))


@pytest.mark.parametrize(("limit", "above"), [(200, True), (250, True), (260, False), (400, False)])
def test_an_overrun_is_foreseen_where_even_the_least_is_no_less_than_the_budget(
    limit: int, above: bool
) -> None:
    """A forecast that a named budget caps has that budget as its lower end."""
    assert is_above_budget(SIZING, limit * MIB) == above
    assert not is_above_budget(dataclasses.replace(SIZING, basis="prior"), limit * MIB)


@pytest.mark.requirement("R5.4")
def test_a_report_shows_the_forecast_and_what_comes_next(completed: JobReport) -> None:
    """Interval, rate, reasons, the jobs that moved it and by how much; nothing where there was none."""
    lines = "\n".join(describe(of(completed, named=1000)))
    for text in (
        "300 MiB (280 MiB expected, 250 MiB to 300 MiB; exceeded by at most 5%)",
        "the mean says so",
        "-3 MiB  job-7 (peak 290 MiB)",
        "next like it   310 MiB, by forecast",
    ):
        assert text in lines
    assert "forecast" not in "\n".join(describe(of(completed, named=1000, sizing=None)))


def test_advice_names_what_the_next_job_gets(completed: JobReport) -> None:
    """Below it no budget is recommended, also after a death that showed less; without a forecast nothing is added."""
    after = with_next(with_story(of(completed, named=1000)))
    assert after.recommendations[-1].startswith(
        "the next one like it will have 310 MiB reserved, as 31 jobs say"
    )
    assert not any("16MiB" in each for each in after.recommendations)
    died = with_next(with_story(of(completed, named=100, outcome=Outcome.BUDGET_KILL)))
    assert died.death is not None
    assert died.death.what_next == died.recommendations
    assert "--memory 310MiB" in died.recommendations[0]
    plain = with_story(of(completed, named=1000, sizing=None))
    assert with_next(plain) == plain


@pytest.mark.requirement("R2.1", "R3.3")
def test_run_warns_before_it_starts_what_its_past_says_cannot_fit(tmp_path: Path) -> None:
    """One line with what would fit, and none where it fits, or where nobody wants to hear."""
    keep(tmp_path, [past_job((*RUN[:2], str(1000 * n)), n, 10 * n) for n in range(10, 40)])
    words = ("--episodes", str(tmp_path), "--ledger", "off")
    (line,) = wrapped(*words, "--memory", "150MiB", "--", *RUN).splitlines()
    assert line.startswith(
        "memguard: true: jobs like it used more than its budget of 150 MiB; name more, --memory 3"
    )
    assert "rows up to" in line
    assert wrapped(*words, "-q", "--memory", "150MiB", "--", *RUN) == ""
    assert wrapped(*words, "--memory", "500MiB", "--", *RUN) == ""
    assert "GiB would wait idle, room for" in wrapped(*words, "--memory", "4GiB", "--", *RUN)


def test_what_cannot_fit_is_an_event_with_what_would(tmp_path: Path) -> None:
    """Published once, before the job starts, for whoever runs jobs from Python; none for a job that fits."""
    keep(tmp_path, [past_job((*RUN[:2], str(1000 * n)), n, 10 * n) for n in range(10, 40)])
    settings = load_settings({"episodes": tmp_path})
    told: list[tuple[str, dict[str, object]]] = []
    foresight = Foresight(settings, lambda name, _, **fields: told.append((name, fields)))
    likeness = command_likeness(RUN, settings)
    for memory in ("500MiB", "150MiB"):
        frame = command_frame(RUN, Naming(memory), settings)
        foresight.framed(frame, likeness, is_requested=True)
    ((name, fields),) = told
    assert name == "memguard.overrun_foreseen"
    assert fields["limit_bytes"] == 150 * MIB < 290 * MIB < int(str(fields["needed_bytes"]))
    assert str(fields["would_fit"]).startswith("rows up to 1")
