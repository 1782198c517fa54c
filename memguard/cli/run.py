"""``memguard run``: wrap any command and its whole process tree in a memory budget."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memguard.cli.command_frame import (
    Naming,
    command_frame,
    command_likeness,
    complete_word,
    is_budget_named,
    tell_not_started,
)
from memguard.cli.exits import (
    log_is_json,
    say,
    say_death,
    say_nowait,
    status_of_command,
)
from memguard.cli.job_log import LoggedRecorder, note, note_end
from memguard.cli.kept_reports import ReportWish
from memguard.cli.setting_flags import JOB_SETTINGS, read_settings, setting_flags
from memguard.config import LedgerChoice, LogLevel, Settings
from memguard.errors import WorkerStartError
from memguard.events import JsonScalar
from memguard.files import check_output, give_up_on
from memguard.foresight import Foresight, is_overruled
from memguard.host import private_bytes_now, sweep_stale_fences
from memguard.jobs import new_job_id, plan_from
from memguard.report import CallerMemory, JobReport, Outcome, report_to_json
from memguard.requeue import next_frame, next_limit, tell_requeue, tries
from memguard.story import tell_fault, tell_stray_signal
from memguard.worker.command import CommandGuard, CommandNotStarted
from memguard.worker.compose import JobFrame, compose_report

if TYPE_CHECKING:
    from memguard.leasing import Tenure

__all__ = ["run_command"]


@dataclass(frozen=True, slots=True)
class _Wishes:
    memory: str | None
    name: str | None
    report: ReportWish
    as_json: bool
    quiet: bool

    @property
    def wants_report(self) -> bool:
        """Whether somebody is to read what the next run needs."""
        return self.as_json or self.report.file is not None or self.report.folder is not None


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option(
    "--memory",
    metavar="SIZE",
    help="Budget of the whole process tree: 4GiB, 512M, 80%. Default: the setting.",
)
@click.option("--name", help="What to call the job in messages and the report. Default: the command's name.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write a report (memguard.report/1) to this file."
)
@click.option("--force", is_flag=True, help="Replace the report file if it exists.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the report as one JSON line on stdout, after the command's output.",
)
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Say nothing of the job: exit status and report tell. What keeps memguard from its own work is said.",
)
@setting_flags("ledger", "priority", "wait", "retries", *JOB_SETTINGS)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, shell_complete=complete_word)
def run_command(
    *,
    memory: str | None,
    name: str | None,
    report: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND inside a memory budget: memguard run [OPTIONS] -- COMMAND...

    The command keeps its stdin, stdout, stderr, terminal, signals, working directory and exit status. Its whole process
    tree is bounded; what it leaves running is ended with it. If it reaches its budget it is killed (exit status 137)
    and told why on stderr.
    """
    settings = read_settings(quiet=quiet)
    if report is not None:
        check_output(report, force=force)
    wish = ReportWish(report, settings.report_dir, force)
    return _guard(command, _Wishes(memory, name, wish, as_json, quiet), settings)


def _guard(command: tuple[str, ...], wishes: _Wishes, settings: Settings) -> int:
    naming = Naming(wishes.memory, wishes.name)
    frame = command_frame(command, naming, settings)
    frame = dataclasses.replace(frame, report_path=str(wishes.report.place_for(frame.job_id) or ""))
    with contextlib.suppress(OSError):  # what a killed memguard left; the next one tries again
        sweep_stale_fences()
    is_named = is_budget_named(naming, settings)
    foresight = Foresight(settings, _teller(frame.name, settings, wishes), is_brief=True)
    frame = foresight.framed(frame, lambda: command_likeness(command, settings), is_requested=is_named)
    for tries_left in tries(settings.retries):
        try:
            with _lease(frame, wishes, settings, is_named=is_named) as tenure:
                report = _run_leased(command, wishes, settings, frame, tenure)
        except CommandNotStarted as error:
            return tell_not_started(command[0], error)
        if wishes.wants_report or (report.sizing is not None and report.sizing.predicted_bytes is not None):
            report = foresight.learned(report)
        limit_bytes = next_limit(report, tries_left, foresight.retry_bytes)
        if limit_bytes is None:
            break
        _tell_next_try(report, limit_bytes, wishes)
        frame, is_named = next_frame(frame, report, limit_bytes, new_job_id()), True
    _publish(report, wishes)
    assert report.exit_status is not None
    return report.exit_status


def _teller(name: str, settings: Settings, wishes: _Wishes) -> Callable[..., None]:
    """Return what is told of a command's forecasts: to the log, and in words what people can do something about."""

    def tell(event: str, job_id: str, **fields: JsonScalar) -> None:
        note(event, job_id, **fields)
        from memguard.cli.forecast_words import tell_forecast  # noqa: PLC0415 - seldom is there anything to tell

        words = tell_forecast(event, name, fields)
        # Nobody asked for the usual place by name, and not all machines let it be used.
        if event == "memguard.guard_degraded" and settings.origins["episodes"] != "default":
            words = str(fields["fault"])
        if words and not wishes.quiet:
            say(words, LogLevel.WARNING)

    return tell


def _tell_next_try(report: JobReport, limit_bytes: int, wishes: _Wishes) -> None:
    note("memguard.job_requeued", report.job_id, had_bytes=report.budget.limit_bytes, limit_bytes=limit_bytes)
    if not wishes.quiet:
        say(tell_requeue(report, limit_bytes))


def _lease(
    frame: JobFrame, wishes: _Wishes, settings: Settings, *, is_named: bool
) -> contextlib.AbstractContextManager[Tenure | None]:
    if settings.ledger is LedgerChoice.OFF:
        return contextlib.nullcontext()
    from memguard.cli.lease import command_lease  # noqa: PLC0415 - it loads a database

    return command_lease(frame, settings, is_named=is_named, quiet=wishes.quiet)


def _run_leased(
    command: tuple[str, ...], wishes: _Wishes, settings: Settings, frame: JobFrame, tenure: Tenure | None
) -> JobReport:
    plan = plan_from(settings, frame.limit_bytes, None)
    on_nearing = _nothing if wishes.quiet else say_nowait
    recorder = LoggedRecorder(frame.job_id, frame.limit_bytes, settings.warn_at_fraction, on_nearing)
    try:
        before_bytes = private_bytes_now()
    except OSError as error:
        raise WorkerStartError(f"the command was not started: {error}; see `ulimit -n`") from error
    record = CommandGuard(frame.job_id, command, plan, recorder, tenure).run()
    after_bytes = private_bytes_now()
    exit_code = record.ending.exit_code
    assert exit_code is not None
    caller = CallerMemory(before_bytes, after_bytes, after_bytes)
    if tenure is not None and tenure.degraded:
        record = dataclasses.replace(record, degraded=(*record.degraded, tenure.degraded))
    pressure = tenure.why_ended() if tenure is not None else ""
    report = compose_report(frame, recorder, record, caller, pressure=pressure)
    report = report.with_exit_status(status_of_command(report, exit_code))
    note_end(report)
    _record(report, settings, wishes)
    return report


def _record(report: JobReport, settings: Settings, wishes: _Wishes) -> None:
    if settings.episodes is None:
        return
    from memguard.episodes.recorder import Recorder  # noqa: PLC0415 - only who wants it pays for it
    from memguard.leasing import actions_of  # noqa: PLC0415 - it loads a database

    def tell(fault: str) -> None:
        note("memguard.guard_degraded", report.job_id, fault=fault)
        if not wishes.quiet:
            say(fault, LogLevel.WARNING)

    recorder = Recorder(settings, tell)
    recorder.job(report, actions=actions_of(settings, report.job_id))
    recorder.close()


def _nothing(_: str) -> None: ...


def _publish(report: JobReport, wishes: _Wishes) -> None:
    if not wishes.quiet or log_is_json():  # who asks for a log for programs wants all of it
        _tell(report)
    wishes.report.keep_or_say(report)  # the command has run; its status is what counts
    if wishes.as_json and sys.stdout is not None:
        _print_line(json.dumps(report_to_json(report)))


def _print_line(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201 - the data that --json asks for
    except OSError as error:
        give_up_on(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # a reader that left knows what it does
            say(
                f"the report could not be printed: {error.strerror}; make room, or give --report a file elsewhere"
            )


def _tell(report: JobReport) -> None:
    for fault in report.guard_degraded:
        say(f"the guard was degraded: {tell_fault(fault)}")
    for line in report.cleanup.leftovers:
        say(line)
    if report.outcome.is_memory_death or report.outcome is Outcome.TIMEOUT:
        say_death(report)
    elif stray := tell_stray_signal(report):
        say(stray, LogLevel.WARNING)
    if is_overruled(report.sizing):
        _tell_cost(report)


def _tell_cost(report: JobReport) -> None:
    from memguard.cli.forecast_words import tell_over_generous  # noqa: PLC0415 - as in `_teller`

    if costly := tell_over_generous(report):
        say(costly)
