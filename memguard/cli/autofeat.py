"""``memguard autofeat``: engineer features of a table with AutoFeat, inside a memory budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from memguard.budget import resolve_budget
from memguard.config import LogLevel, Settings, load_settings
from memguard.errors import CapacityExceeded, ConfigError, JobError
from memguard.events import Event
from memguard.files import check_output, whole_file
from memguard.jobs import machine_for
from memguard.log import configure_logging
from memguard.manager import MemoryManager
from memguard.report import JobReport, report_to_json
from memguard.story import tell_death, with_story
from memguard.units import format_bytes, parse_duration

if TYPE_CHECKING:
    from memguard_integrations.autofeat import TableRequest, TableRun
    from memguard_integrations.autofeat.progress_view import ProgressView

__all__ = ["autofeat_command"]

_AUTO: Final = "auto"


def _fit_rows(ctx: click.Context, param: click.Parameter, value: str | None) -> str | int | None:
    if value is None or value == _AUTO:
        return value
    text = value.replace(",", "").replace("_", "")
    if not text.isdecimal() or int(text) == 0:
        raise click.BadParameter(f"{value!r} is neither a number of rows nor 'auto'", ctx, param)
    return int(text)


@dataclass(frozen=True, slots=True)
class _Wishes:
    """How to run and where to tell, beside what to do."""

    memory: str | None
    report: Path | None
    as_json: bool
    quiet: bool


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
@click.option("--seed", type=int, default=0, show_default=True, help="Of the row samples.")
@click.option("--timeout", metavar="T", help="Stop after this time: 90s, 5m, 4h.")
@click.option("-o", "--output", required=True, metavar="FILE", help="Parquet file to write.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write the job report (memguard.report/1) to this file."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document (memguard.autofeat/1) on stdout."
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.option("--force", is_flag=True, help="Replace output and report if they exist.")
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
    seed: int,
    timeout: str | None,
    output: str,
    report: Path | None,
    as_json: bool,
    quiet: bool,
    force: bool,
) -> None:
    """Engineer features of DATA (.csv, .csv.gz or .parquet) with AutoFeat, inside a memory budget.

    The output has the rows of DATA in their order: the columns learned from (text as 0/1 columns, times as
    their parts), the engineered ones, and the target. Before it runs the job is measured on a small sample;
    if it cannot fit the budget it is refused (exit status 125) and told what would fit.
    """
    from memguard.integrations.autofeat import FitSettings, MissingPolicy, TableRequest, Task  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings.log_format, _log_level(settings))
    request = TableRequest(
        data=data,
        target=target,
        output=output,
        settings=FitSettings(
            task=Task(task),
            steps=steps,
            selection_runs=selection_runs,
            jobs=jobs,
            seed=seed,
            missing=MissingPolicy(missing),
        ),
        columns=tuple(name.strip() for name in columns.split(",")) if columns is not None else None,
        fit_rows=fit_rows if isinstance(fit_rows, int) else None,
        shrink=fit_rows == _AUTO,
        timeout_s=None if timeout is None else parse_duration(timeout),
        force=force,
    )
    if report is not None:
        check_output(report, force=force)
    _run(request, _Wishes(memory, report, as_json, quiet), settings)


def _run(request: TableRequest, wishes: _Wishes, settings: Settings) -> None:
    from memguard_integrations.autofeat.progress_view import ProgressView  # noqa: PLC0415
    from memguard_integrations.autofeat.table_run import check_request, process_table  # noqa: PLC0415

    check_request(request)
    budget_bytes = _budget(wishes.memory, settings)
    with MemoryManager(budget_bytes, name="memguard autofeat", settings=settings) as manager:
        with (
            ProgressView(quiet=wishes.quiet) as view,
            manager.events.subscribed(_teller_of_nearing(view)),
            _reported(manager, wishes.report),
        ):
            run = process_table(manager, request, on_progress=view, announce=view.say)
        _tell(run, wishes)


def _log_level(settings: Settings) -> LogLevel:
    # Warnings that the log would show are said in this command's own words.
    return LogLevel.ERROR if settings.origins["log_level"] == "default" else settings.log_level


def _teller_of_nearing(view: ProgressView) -> Callable[[Event], None]:
    told: set[str] = set()

    def tell(event: Event) -> None:
        if event.name == "memguard.budget_neared" and event.job_id not in told:
            told.add(event.job_id)
            used, limit = (int(str(event.fields[name])) for name in ("used_bytes", "limit_bytes"))
            view.say(
                f"use reached {format_bytes(used)}, {used / limit:.0%} of the budget; at all of it the job is stopped"
            )

    return tell


def _budget(memory: str | None, settings: Settings) -> int:
    machine = machine_for(settings)
    try:
        return resolve_budget(memory, machine, default=settings.memory, source="--memory").limit_bytes
    except CapacityExceeded as error:
        raise ConfigError(str(error), setting="memory", origin="--memory") from error


@contextmanager
def _reported(manager: MemoryManager, path: Path | None) -> Iterator[None]:
    """Write the last job's report, however it ended, and word its advice as flags."""
    try:
        yield
    except JobError as error:
        told = "" if error.report is None else tell_death(_worded(error.report, path))
        if not told:
            raise
        raise type(error)(told, report=error.report) from error
    finally:
        if path is not None and manager.reports:
            document = report_to_json(_worded(manager.reports[-1], path))
            with whole_file(path) as beside:
                beside.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _worded(report: JobReport, path: Path | None) -> JobReport:
    from memguard_integrations.autofeat.words import for_command_line  # noqa: PLC0415

    return for_command_line(with_story(report, where=str(path or "")))


def _tell(run: TableRun, wishes: _Wishes) -> None:
    from memguard_integrations.autofeat.words import describe, to_document  # noqa: PLC0415

    report_path = str(wishes.report or "")
    if wishes.as_json:
        click.echo(json.dumps(to_document(run, report_path), indent=2))
    else:
        click.echo("\n".join(describe(run, report_path)))
