"""``memguard report``: show a job report, as text for people or as its JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from memguard.cli.exits import printable, show
from memguard.errors import DataError
from memguard.report import Attempt, JobReport, Outcome, report_from_json, report_to_json
from memguard.sizing import Influencer, Sizing
from memguard.story import tell_death, tell_fault
from memguard.units import format_bytes, format_duration, format_share

__all__ = ["describe", "read_report", "report_command"]

_BAR_CELLS = 30


@click.command("report")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the document (memguard.report/1).")
def report_command(*, file: Path, as_json: bool) -> None:
    """Show the job report in FILE."""
    report = read_report(file)
    show(json.dumps(report_to_json(report), indent=2) if as_json else _shown(report))


def _shown(report: JobReport) -> str:
    # A report may come from anywhere, and hold what would play with the terminal.
    return "\n".join(printable(line) for part in describe(report) for line in part.split("\n"))


def read_report(file: Path) -> JobReport:
    """Read a report from a file.

    Raises:
        DataError: if it cannot be read or is no report.
    """
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        what = "there is no such file" if missing else f"cannot be read ({error.strerror})"
        raise DataError(what, subject=str(file), remedy="give the file that --report wrote") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            "is not JSON", subject=str(file), remedy="give the file that --report wrote"
        ) from error
    if not isinstance(document, dict):
        raise DataError("is not a job report", subject=str(file), remedy="give the file that --report wrote")
    return report_from_json(document, subject=str(file))


def describe(report: JobReport) -> Iterator[str]:
    """Yield the lines of a report for people."""
    yield f"{report.name}: {_ending(report)} after {format_duration(report.duration_s)}"
    yield from _rows(_facts(report))
    if report.phases:
        yield "phases:"
        yield from _phases(report)
    if report.processes:
        yield "largest processes near the peak:"
        yield from (
            f"  {each.pid:>8} {each.name:<16} {format_bytes(each.private_bytes)}" for each in report.processes
        )
    yield from (f"warning at {format_duration(each.at_s)}: {each.text}" for each in report.warnings)
    yield from (f"guard degraded: {tell_fault(fault)}" for fault in report.guard_degraded)
    if report.death is not None:
        yield tell_death(report)
    else:
        yield from (f"advice: {advice}" for advice in report.recommendations)


def _phases(report: JobReport) -> Iterator[str]:
    forecast = report.estimate.phases if report.estimate is not None else {}
    for phase in report.phases:
        peak = f"peak {format_bytes(phase.peak_bytes)}"
        told = f", forecast {format_bytes(forecast[phase.name])}" if phase.name in forecast else ""
        yield f"  {phase.name:<12} {format_duration(phase.duration_s):>10}   {peak}{told}"


def _ending(report: JobReport) -> str:
    if report.kind == "command" and report.outcome is Outcome.RAISED and report.exit_status is not None:
        return f"exited with {report.exit_status}"
    return report.reason.replace("_", " ")


def _rows(facts: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _ in facts)
    previous = ""
    for name, value in facts:
        yield f"  {name if name != previous else '':<{width}}  {value}"
        previous = name


def _facts(report: JobReport) -> list[tuple[str, str]]:
    facts = [
        ("what", report.what),
        ("job", f"{report.job_id} ({report.kind}), started {report.started_at}"),
        (
            "peak",
            f"{_bar(report.utilisation)} {format_bytes(report.peak_bytes)} = "
            f"{format_share(report.utilisation)} of budget",
        ),
        (
            "budget",
            f"{format_bytes(report.budget.limit_bytes)} ({report.budget.source}), held by {report.budget.fence}",
        ),
    ]
    if report.kernel_peak_bytes is not None:
        facts.append(("kernel's peak", f"{format_bytes(report.kernel_peak_bytes)} with file cache"))
    if report.estimate is not None:
        facts.append(
            (
                "estimate",
                f"{format_bytes(report.estimate.expected_bytes)}, at most {format_bytes(report.estimate.high_bytes)}"
                + (f", plan: {report.estimate.plan}" if report.estimate.plan else ""),
            )
        )
    facts += _sizing_facts(report.sizing)
    if report.baseline_bytes:
        facts.append(
            ("baseline", f"{format_bytes(report.baseline_bytes)} shared with the template, not counted")
        )
    return [*facts, *_later_facts(report)]


def _sizing_facts(sizing: Sizing | None) -> list[tuple[str, str]]:
    """Return what past jobs said of it before it ran, and what the next one like it is to have."""
    if sizing is None:
        return []
    facts = []
    if sizing.predicted_bytes is not None:
        low, high = format_bytes(sizing.low_bytes), format_bytes(sizing.high_bytes)
        rate = (
            f"exceeded by at most {format_share(sizing.miss_rate)}" if sizing.promised else "nothing promised"
        )
        expected = f"{format_bytes(sizing.expected_bytes)} expected, {low} to {high}"
        facts.append(("forecast", f"{format_bytes(sizing.predicted_bytes)} ({expected}; {rate})"))
        facts += [("because", each) for each in sizing.reasons]
        facts += [("moved by", _influence(each)) for each in sizing.episodes]
    if sizing.next_bytes is not None:
        facts.append(("next like it", f"{format_bytes(sizing.next_bytes)}, by forecast"))
    return facts


def _influence(each: Influencer) -> str:
    sign = "-" if each.moved_bytes < 0 else "+"
    return f"{sign}{format_bytes(abs(each.moved_bytes))}  {each.id} (peak {format_bytes(each.peak_bytes)})"


def _later_facts(report: JobReport) -> list[tuple[str, str]]:
    capacity, caller, cleanup = report.capacity, report.caller, report.cleanup
    facts = [
        (
            "capacity",
            f"{format_bytes(capacity.capacity_bytes)} ({capacity.limited_by} {capacity.path}), "
            f"{format_bytes(capacity.available_bytes)} free at the start",
        ),
        (
            "caller",
            f"{format_bytes(caller.before_bytes)} before, {format_bytes(caller.after_bytes)} after, "
            f"{_or_unknown(caller.after_5s_bytes)} 5 s after",
        ),
        (
            "cleanup",
            f"{format_duration(cleanup.duration_s)}, {'all seen gone' if cleanup.verified else 'NOT verified'}",
        ),
        ("ended by", "; ".join(f"{each.source}: {each.fact}" for each in report.evidence)),
    ]
    if report.throttles:
        facts.append(
            ("made to wait", f"{_times(report.throttles)}, {format_duration(report.throttled_s)} in all")
        )
    facts += [("tried before", _tried(each)) for each in report.attempts]
    if report.batches.count:
        batches = report.batches
        facts.append(
            (
                "batches",
                f"{batches.count} of {batches.smallest_rows} to {batches.largest_rows} rows, {batches.rows} in all",
            )
        )
    if report.error:
        facts.append(("error", report.error))
    return facts


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _tried(attempt: Attempt) -> str:
    how = attempt.outcome.value.replace("_", " ")
    peak, limit = format_bytes(attempt.peak_bytes), format_bytes(attempt.limit_bytes)
    return f"{how} after {format_duration(attempt.duration_s)}, peak {peak} of {limit}"


def _or_unknown(count: int | None) -> str:
    return "unknown" if count is None else format_bytes(count)


def _bar(fraction: float) -> str:
    filled = min(_BAR_CELLS, round(fraction * _BAR_CELLS))
    return "[" + "#" * filled + "." * (_BAR_CELLS - filled) + "]"
