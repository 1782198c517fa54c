"""``memguard autofeat``: engineer features of a table with AutoFeat, inside a memory budget."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from memguard.cli.autofeat_dry_run import budget_of, tell_prospect
from memguard.cli.exits import fill_streams, show
from memguard.cli.kept_reports import ReportWish
from memguard.cli.setting_flags import JOB_SETTINGS, read_settings, setting_flags
from memguard.cli.stopping import stopped_by_signals
from memguard.config import Settings
from memguard.errors import JobError
from memguard.events import Event
from memguard.files import check_apart, check_output
from memguard.manager import MemoryManager
from memguard.report import JobReport, Outcome
from memguard.story import tell_death, with_story
from memguard.units import format_bytes, format_share

if TYPE_CHECKING:
    from memguard_integrations.autofeat import TableRequest, TableRun
    from memguard_integrations.autofeat.progress_view import ProgressView

__all__ = ["autofeat_command"]

_AUTO: Final = "auto"
_SAVED: Final = "nothing: the output is written whole, after the fit, or not at all"


def _fit_rows(ctx: click.Context, param: click.Parameter, value: str | None) -> str | int | None:
    if value is None or value == _AUTO:
        return value
    text = value.replace(",", "").replace("_", "")
    if not text.isdecimal() or int(text) == 0:
        message = f"{value!r} is neither a number of rows, 1 or more, nor 'auto'"
        raise click.BadParameter(message, ctx, param)
    return int(text)


@dataclass(frozen=True, slots=True)
class _Wishes:
    """How to run and where to tell, beside what to do."""

    memory: str | None
    report: ReportWish
    as_json: bool
    quiet: bool
    timeout_s: float | None


@click.command("autofeat")
@click.argument("data", metavar="DATA")
@click.option("--target", required=True, metavar="COL", help="Column to predict.")
@click.option(
    "--task",
    type=click.Choice(["regression", "classification"]),
    default="regression",
    show_default=True,
    help="What the target is: a number to predict, or a class.",
)
@click.option("--columns", metavar="A,B,C", help="Columns to learn from. Default: all but the target.")
@click.option(
    "--steps", type=click.IntRange(1, 5), default=2, show_default=True, help="Feature engineering steps."
)
@click.option(
    "--selection-runs", type=click.IntRange(1), default=5, show_default=True, help="Feature selection runs."
)
@click.option("--memory", metavar="SIZE", help="Budget: 4GiB, 512M, 80%. Default: the setting.")
@click.option(
    "--fit-rows",
    callback=_fit_rows,
    metavar="N|auto",
    help="Fit on a random sample of N rows; auto: as many as fit the budget. Default: all. All rows are transformed.",
)
@click.option(
    "--missing",
    type=click.Choice(["skip", "median", "error"]),
    default="skip",
    show_default=True,
    help="Rows with a missing or infinite value: leave them out of the fit, fill them, or refuse.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes for the selection."
)
@click.option(
    "--engine",
    type=click.Choice(["memguard", "stock"]),
    default="memguard",
    show_default=True,
    help="Whose code engineers: memguard's, which spills to disk what does not fit the budget, or autofeat's own.",
)
@click.option(
    "--light",
    type=click.Choice(["auto", "never"]),
    default="auto",
    show_default=True,
    help="Where budget and disk have no room for all: do less and say what is left out, or refuse.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the row samples.")
@click.option("-o", "--output", metavar="FILE", help="Parquet file to write; needed but for --dry-run.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Fit nothing: survey the table, tell what the fit would need, why, whether that is free, and how else it "
    "could be done.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write the job report (memguard.report/1) to this file."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document (memguard.autofeat/1) on stdout."
)
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Say nothing while it goes well: neither progress nor notes. The result is printed all the same.",
)
@click.option("--force", is_flag=True, help="Replace output and report if they exist.")
@setting_flags(*JOB_SETTINGS)
def autofeat_command(
    *,
    data: str,
    target: str,
    task: str,
    columns: str | None,
    steps: int,
    selection_runs: int,
    memory: str | None,
    fit_rows: str | int | None,
    missing: str,
    jobs: int,
    engine: str,
    light: str,
    seed: int,
    output: str | None,
    dry_run: bool,
    report: Path | None,
    as_json: bool,
    quiet: bool,
    force: bool,
) -> None:
    """Engineer features of DATA (.csv, .csv.gz or .parquet) with AutoFeat, inside a memory budget.

    The output has the rows of DATA in their order: the columns learned from (text as 0/1 columns, times as
    their parts), the engineered ones, and the target. Before it runs the job is measured on a small sample;
    if it cannot fit the budget it is refused (exit status 125) and told what would fit. When its time (--timeout) is
    up it is stopped, with exit status 124; a Ctrl-C (130) and SIGTERM (143) stop it too. However it ends, the output
    is there whole or not at all. A report that cannot be written is told of, and changes no exit status.
    """
    from memguard.integrations.autofeat import (  # noqa: PLC0415
        Engine,
        FitSettings,
        Light,
        MissingPolicy,
        TableRequest,
        Task,
    )

    if output is None and not dry_run:
        raise click.UsageError("Missing option '-o' / '--output'.")
    fill_streams()
    settings = read_settings(quiet=quiet)
    request = TableRequest(
        data=data,
        target=target,
        output=output or "",
        settings=FitSettings(
            task=Task(task),
            steps=steps,
            selection_runs=selection_runs,
            jobs=jobs,
            seed=seed,
            missing=MissingPolicy(missing),
            engine=Engine(engine),
            light=Light(light),
        ),
        columns=tuple(name.strip() for name in columns.split(",")) if columns is not None else None,
        fit_rows=fit_rows if isinstance(fit_rows, int) else None,
        shrink=fit_rows == _AUTO,
        timeout_s=settings.timeout_s,
        force=force,
    )
    if dry_run:
        with stopped_by_signals():
            tell_prospect(request, memory, settings, as_json=as_json, quiet=quiet)
        return
    check_apart({"DATA": data, "--output": output, "--report": report})
    if report is not None:
        check_output(report, force=force)
    wish = ReportWish(report, settings.report_dir, force)
    with stopped_by_signals():
        _run(request, _Wishes(memory, wish, as_json, quiet, settings.timeout_s), settings)


def _run(request: TableRequest, wishes: _Wishes, settings: Settings) -> None:
    from memguard.cli.autofeat_view import view_for  # noqa: PLC0415
    from memguard_integrations.autofeat.engine.planning.told import LightMode  # noqa: PLC0415
    from memguard_integrations.autofeat.table_run import check_request, process_table  # noqa: PLC0415

    check_request(request)
    budget_bytes = budget_of(wishes.memory, settings)
    with MemoryManager(budget_bytes, name="memguard autofeat", settings=settings) as manager:
        try:
            with (
                view_for(quiet=wishes.quiet) as view,
                manager.events.subscribed(_teller_of_nearing(view)),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore", LightMode)  # the view says it
                run = process_table(manager, request, on_progress=view, announce=view.say)
        except JobError as error:
            if error.report is None:  # it never ran
                raise
            raise _explained(error, error.report, wishes) from error
        except BaseException as error:
            # What the fit raised itself, or a Ctrl-C: there is a report where it had begun.
            report = _keep_fit(manager, wishes)
            if isinstance(error, KeyboardInterrupt):
                error.args = (_stopped(error, request, report, wishes.report),)
            raise
        _tell_and_keep(run, wishes)


def _teller_of_nearing(view: ProgressView) -> Callable[[Event], None]:
    told: set[str] = set()

    def tell(event: Event) -> None:
        if event.name == "memguard.budget_neared" and event.job_id not in told:
            told.add(event.job_id)
            used, limit = (int(str(event.fields[name])) for name in ("used_bytes", "limit_bytes"))
            view.say(
                f"use reached {format_bytes(used)}, {format_share(used / limit)} of the budget; "
                "at all of it the job is stopped"
            )

    return tell


def _explained(error: JobError, report: JobReport, wishes: _Wishes) -> JobError:
    """Keep the report of the job that died; return its error, which tells the death with advice worded as flags."""
    report = _worded(report, wishes)
    wishes.report.keep_or_say(report)
    return type(error)(tell_death(report) or str(error), report=report)


def _keep_fit(manager: MemoryManager, wishes: _Wishes) -> JobReport | None:
    from memguard_integrations.autofeat.table_run import FIT_NAME  # noqa: PLC0415

    # Where nothing was fitted there is no report: that of the survey, which went well, would tell the wrong thing.
    report = next((each for each in reversed(manager.reports) if each.name == FIT_NAME), None)
    if report is not None:
        wishes.report.keep_or_say(_worded(report, wishes))
    return report


def _stopped(
    error: KeyboardInterrupt, request: TableRequest, report: JobReport | None, wish: ReportWish
) -> str:
    """Tell what a run that was stopped leaves."""
    place = wish.place_for(report.job_id) if report is not None else None
    finished = report is not None and report.outcome is Outcome.COMPLETED
    saved = (
        f"{request.output} is there whole or not at all" if finished else f"no {request.output} was written"
    )
    kept = "there is no report" if place is None else f"memguard report {place} tells how far it was"
    return f"{str(error) or 'interrupted'}; {saved}; {kept}"


def _worded(report: JobReport, wishes: _Wishes) -> JobReport:
    from memguard_integrations.autofeat.words import for_command_line  # noqa: PLC0415

    # The manager around the job is this command's own, and --memory sets both.
    outer = tuple(each for each in report.budget.outer if each.setting != "budget")
    budget = dataclasses.replace(report.budget, outer=outer)
    # The job had what the survey before it had left of the time.
    report = dataclasses.replace(report, budget=budget, timeout_s=wishes.timeout_s)
    place = wishes.report.place_for(report.job_id)
    report = with_story(report, where=str(place or ""))
    if report.death is not None:
        death = dataclasses.replace(report.death, what_is_saved=_SAVED)
        report = dataclasses.replace(report, death=death)
    return for_command_line(report)


def _tell_and_keep(run: TableRun, wishes: _Wishes) -> None:
    """Keep the report and print what came out: the features are there, so a report that is not is only told of."""
    is_kept = wishes.report.keep_or_say(_worded(run.report, wishes))
    place = wishes.report.place_for(run.report.job_id) if is_kept else None
    _tell(run, place, as_json=wishes.as_json)


def _tell(run: TableRun, report: Path | None, *, as_json: bool) -> None:
    from memguard_integrations.autofeat.words import describe, to_document  # noqa: PLC0415

    report_path = str(report or "")
    if as_json:
        show(json.dumps(to_document(run, report_path), indent=2))
    else:
        show("\n".join(describe(run, report_path)))
