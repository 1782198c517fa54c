"""Another try for a job that ran out of memory, where its caller allowed one. Pure.

Comes in: the report of a try and how many are left. Goes out: the budget of the next one, or none. The size is the rule
of the retry (docs/design.md): half as much again as was seen, never more than the capacity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from memguard.errors import ConfigError
from memguard.report import Attempt, JobReport
from memguard.story import suggested_budget
from memguard.units import format_bytes
from memguard.worker.compose import JobFrame

__all__ = ["next_frame", "next_limit", "tell_requeue", "tries"]


def tries(retries: int) -> range:
    """Return how many tries are left, at each try.

    Raises:
        ConfigError: if that is no count.
    """
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise ConfigError(
            f"{retries!r:.40} is no number of retries; give a whole number, 0 for none",
            setting="retries",
            origin="the argument retries",
        )
    return range(retries, -1, -1)


def next_limit(
    report: JobReport, tries_left: int, at_least: Callable[[JobReport, int], int] = lambda _, limit: limit
) -> int | None:
    """Return the budget, in bytes, to run a job again with; ``None`` where that is not allowed or of no use.

    A job that was ended for the machine's sake is run again also where it gets no more: what it needs is then reserved
    for it before it starts.

    Args:
        report: of the try that ended.
        tries_left: how many more are allowed.
        at_least: raises a budget to what jobs like it used, within what can be had.
    """
    if tries_left <= 0 or not report.outcome.is_memory_death:
        return None
    had = report.budget.limit_bytes
    most = min([report.capacity.capacity_bytes, *(each.limit_bytes for each in report.budget.outer)])
    wanted = min(max(at_least(report, suggested_budget(report)), had), most)
    return wanted if wanted > had or report.pressure else None


def next_frame(frame: JobFrame, report: JobReport, limit_bytes: int, job_id: str) -> JobFrame:
    """Return what is known of the next try before it starts."""
    had = report.budget
    attempt = Attempt(report.outcome, had.limit_bytes, report.peak_bytes, report.duration_s)
    is_raised = not frame.attempts and limit_bytes != had.limit_bytes
    source = f"{had.source}, raised for another try" if is_raised else had.source
    return replace(
        frame,
        job_id=job_id,
        limit_bytes=limit_bytes,
        budget_source=source,
        attempts=(*frame.attempts, attempt),
    )


def tell_requeue(report: JobReport, limit_bytes: int) -> str:
    """Return a line on what happened and what is done now."""
    cause = report.pressure or f"it ran out of its budget of {format_bytes(report.budget.limit_bytes)}"
    return f"{report.name}: {cause}; it is run again with {format_bytes(limit_bytes)}"
