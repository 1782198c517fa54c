"""A file to a file: check, survey, admit, run, publish. What ``memguard autofeat`` does, without its words.

Runs in the caller's process and loads no numpy or pandas there: everything that touches the data is a guarded
job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from memguard.errors import DataError, JobTimeout, MemguardError
from memguard.estimate import Estimate
from memguard.files import check_apart
from memguard.manager import MemoryManager
from memguard.report import JobReport
from memguard.units import format_bytes, format_duration
from memguard.worker.recorder import JobProgress
from memguard_integrations.autofeat.admission import (
    Admission,
    FitRefused,
    admit,
    as_flag,
    check_fit_rows,
    light_mode,
    plan_said,
    summary_of,
    tell_light,
)
from memguard_integrations.autofeat.engine.planning.told import LightMode
from memguard_integrations.autofeat.forecasts import judged_by_past, look, sizing_said
from memguard_integrations.autofeat.jobs import fit_table, preload_for, survey_table
from memguard_integrations.autofeat.likeness import likeness_of_fit, likeness_of_survey
from memguard_integrations.autofeat.output import OutputFile, check_table_output, output_error, room_warning
from memguard_integrations.autofeat.paths import check_input
from memguard_integrations.autofeat.prospects import Prospect, alternatives
from memguard_integrations.autofeat.records import FitSettings, Survey, TableResult

__all__ = ["FIT_NAME", "TableRequest", "TableRun", "check_request", "foresee_table", "process_table"]

# What the fit's job is called, in messages and in its report.
FIT_NAME: Final = "autofeat"
_FLOAT64: Final = 8


@dataclass(frozen=True, slots=True)
class TableRequest:
    """What is asked for.

    Attributes:
        data: the input file.
        target: the column to predict.
        output: the Parquet file to write.
        settings: for AutoFeat.
        columns: feature columns; ``None`` for all but the target.
        fit_rows: rows to fit on; ``None`` for all usable ones.
        shrink: fit on as many rows as the budget allows.
        timeout_s: for everything together; ``None`` for no end.
        force: replace an output that exists.
    """

    data: str
    target: str
    output: str
    settings: FitSettings
    columns: tuple[str, ...] | None = None
    fit_rows: int | None = None
    shrink: bool = False
    timeout_s: float | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class TableRun:
    """What was done.

    Attributes:
        request: what was asked for.
        survey: what was found in the table.
        estimate: of the fit, before it began.
        result: what the job returned.
        report: the job's report.
        survey_report: the survey's.
        duration_s: of everything.
    """

    request: TableRequest
    survey: Survey
    estimate: Estimate
    result: TableResult
    report: JobReport
    survey_report: JobReport
    duration_s: float


def check_request(request: TableRequest) -> None:
    """Raise for what can be seen to be wrong without reading the data.

    Raises:
        DataError: for an input that is not there, an output that is, empty columns, too few rows.
        OutputError: for an output that cannot be written.
    """
    check_fit_rows(request.fit_rows)
    check_apart({"the data": request.data, "the output": request.output})
    check_input(request.data)
    check_table_output(request.output, force=request.force)
    if request.columns is not None and not all(name.strip() for name in request.columns):
        raise DataError("an empty name", subject="--columns", remedy="write names with commas between: a,b,c")


def process_table(
    manager: MemoryManager,
    request: TableRequest,
    *,
    on_progress: Callable[[JobProgress], None] | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> TableRun:
    """Fit AutoFeat on a file inside the manager's budget, and write all its rows with their new columns.

    Args:
        manager: its whole budget is the job's.
        request: what to do.
        on_progress: called while a job runs.
        announce: called with sentences: what was left out, how many rows, what it is going to need.

    Warns:
        LightMode: less is done than was asked for; an event tells it too.

    Raises:
        DataError: for anything in the data that cannot be worked on.
        CapacityExceeded: if the fit cannot be had in the budget; nothing has been written then.
        OutputError: if the output cannot be written; nothing is left of it.
        JobError: if a job dies.
    """
    check_request(request)
    clock = _Clock(request.timeout_s)
    survey, survey_report = _surveyed(manager, request, clock, on_progress)
    for warning in survey.warnings:
        announce(warning)
    budget_bytes = survey_report.budget.limit_bytes
    admission = _admitted(manager, request, survey, budget_bytes)
    announce(_rows_said(survey, request, admission))
    budget = format_bytes(budget_bytes)
    if admission.left_out:
        told = light_mode(admission, budget_bytes, survey)
        tell_light(manager, told)
        announce(f"{told}; with --light never the fit is refused instead")
    announce(
        f"estimate: {admission.estimate}, within the budget of {budget}; {admission.estimate.reasons[0]}; "
        f"{plan_said(admission.estimate)}"
    )
    settings = _settled(request, survey, admission)
    alike = likeness_of_fit(survey, settings, admission.fit_rows, budget_bytes)
    if said := sizing_said(look(manager.settings, alike, admission.estimate)):
        announce(said)
    if warning := room_warning(request.output, _most_bytes(survey)):
        announce(warning)
    result, report = _fit(manager, request, survey, admission, clock, on_progress=on_progress)
    if result.model.left_out != admission.left_out:
        told = LightMode.on_the_way(result.model.left_out)
        tell_light(manager, told)
        announce(str(told))
    for warning in result.warnings:
        announce(warning)
    return TableRun(
        request, survey, admission.estimate, result, report, survey_report, time.monotonic() - clock.start_s
    )


def foresee_table(
    manager: MemoryManager,
    request: TableRequest,
    *,
    on_progress: Callable[[JobProgress], None] | None = None,
) -> Prospect:
    """Return what would become of `process_table`, after a survey; nothing is fitted or written.

    Args:
        manager: its whole budget would be the job's.
        request: what would be done; its output is not looked at.
        on_progress: called while the survey runs.

    Raises:
        DataError: for anything in the data that cannot be worked on.
        JobError: if the survey dies.
    """
    check_fit_rows(request.fit_rows)
    check_input(request.data)
    survey, report = _surveyed(manager, request, _Clock(request.timeout_s), on_progress)
    budget_bytes, settings = report.budget.limit_bytes, manager.settings
    admission = refusal = sizing = None
    rows = min(survey.usable_rows, request.fit_rows or survey.usable_rows)
    try:
        admission = _admitted(manager, request, survey, budget_bytes)
    except FitRefused as error:
        refusal = error
    if admission is not None:
        rows = admission.fit_rows
        alike = likeness_of_fit(survey, _settled(request, survey, admission), rows, budget_bytes)
        sizing = look(settings, alike, admission.estimate)
    ways = alternatives(
        survey, request.settings, budget_bytes, rows=rows, chosen=admission, settings=settings
    )
    return Prospect(survey, budget_bytes, admission, refusal, sizing, ways)


def _surveyed(
    manager: MemoryManager,
    request: TableRequest,
    clock: _Clock,
    on_progress: Callable[[JobProgress], None] | None,
) -> tuple[Survey, JobReport]:
    done = manager.run(
        survey_table,
        *(request.data, request.target, request.columns, request.settings),
        name=f"{FIT_NAME}-survey",
        timeout=clock.remaining_s(),
        preload=preload_for(request.settings.engine),
        on_progress=on_progress,
        likeness=likeness_of_survey((request.data,), request.settings, manager.budget.limit_bytes),
    )
    return done.value, done.report


def _admitted(manager: MemoryManager, request: TableRequest, survey: Survey, budget_bytes: int) -> Admission:
    return admit(
        survey,
        request.settings,
        budget_bytes,
        fit_rows=request.fit_rows,
        shrink=request.shrink,
        setting=as_flag,
        capacity_bytes=manager.status().capacity_bytes,
        judged=judged_by_past(manager.settings, survey, request.settings, budget_bytes),
    )


def _fit(
    manager: MemoryManager,
    request: TableRequest,
    survey: Survey,
    admission: Admission,
    clock: _Clock,
    *,
    on_progress: Callable[[JobProgress], None] | None,
) -> tuple[TableResult, JobReport]:
    settings = _settled(request, survey, admission)
    with OutputFile(request.output, force=request.force) as output:
        done = manager.run(
            fit_table,
            *(request.data, output.writing_path, survey, settings, admission.fit_rows),
            name=FIT_NAME,
            timeout=clock.remaining_s(),
            preload=preload_for(request.settings.engine),
            on_progress=on_progress,
            estimate=summary_of(admission.estimate),
            likeness=likeness_of_fit(survey, settings, admission.fit_rows, manager.budget.limit_bytes),
            check=False,
        )
        try:
            done.raise_for_outcome()
        except OSError as error:
            if isinstance(error, MemguardError):
                raise
            raise output_error(request.output, error) from error
        output.publish()
    return done.value, done.report


def _settled(request: TableRequest, survey: Survey, admission: Admission) -> FitSettings:
    """Return the settings of the fit, with what was decided and counted."""
    return replace(request.settings, relief=admission.relief, counts=survey.counts)


def _rows_said(survey: Survey, request: TableRequest, admission: Admission) -> str:
    usable = survey.usable_rows
    if admission.fit_rows == usable:
        more = request.fit_rows is not None and request.fit_rows > usable
        asked = f", since there are no more (--fit-rows {request.fit_rows})" if more else ""
        return f"fitting on all {usable:,} usable rows{asked}"
    why = "as many as fit the budget, so use will come near it; " if request.shrink else ""
    sample = f"a random sample, seed {request.settings.seed}"
    return f"fitting on {admission.fit_rows:,} of {usable:,} usable rows ({why}{sample})"


def _most_bytes(survey: Survey) -> int:
    """Return the size of an output in which AutoFeat kept every column that it may, none of them packed."""
    columns = len(survey.plan.columns) + survey.counts.kept + 1
    return survey.facts.rows * columns * _FLOAT64


class _Clock:
    """The time that is left for all jobs together."""

    def __init__(self, timeout_s: float | None) -> None:
        self.start_s = time.monotonic()
        self._timeout_s = timeout_s

    def remaining_s(self) -> float | None:
        """Seconds left, ``None`` where there is no end.

        Raises:
            JobTimeout: if none are.
        """
        if self._timeout_s is None:
            return None
        left = self._timeout_s - (time.monotonic() - self.start_s)
        if left <= 0:
            raise JobTimeout(
                f"its time of {format_duration(self._timeout_s)} was up before the fit began, and nothing was "
                "written; allow more (the setting timeout)"
            )
        return left
