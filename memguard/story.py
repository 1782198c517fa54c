"""Telling people how a job went: the seven parts of a death, and what to set next time. Pure.

Comes in: a `JobReport` without its words. Goes out: the same with recommendations and, if it died, its `Death`;
the text that goes to stderr or into an exception; and the events that follow from how it ended. Settings are literal,
so that they can be pasted.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from memguard.budget import SMALLEST_BUDGET_BYTES
from memguard.events import Event, JsonScalar
from memguard.report import Death, JobReport, Outcome, OuterBudget
from memguard.units import format_bytes, format_duration, format_setting

__all__ = ["RUNBOOKS", "events_of", "suggested_budget", "tell_death", "with_story"]

RUNBOOKS: Final = {
    Outcome.BUDGET_KILL: "JobKilledForBudget",
    Outcome.BUDGET_SOFT_STOP: "JobKilledForBudget",
    Outcome.MEMORY_ERROR: "JobOutOfMemory",
    Outcome.KERNEL_OOM: "MachineShortOfMemory",
}
# After a miss the next try gets half as much again: the true need is unknown, only that it is larger (the rule of
# the retry, see docs/design.md). After a success a quarter of headroom keeps the next run below its warning line.
_AFTER_MISS: Final = 1.5
_AFTER_SUCCESS: Final = 1.25
_TIGHT: Final = 0.9
_LOOSE: Final = 0.4


def suggested_budget(report: JobReport) -> int:
    """Bytes to give this job next time: never more than the capacity, for that would be refused.

    Where the job ran inside the fence of another one, the capacity it saw is that budget, which can be raised.
    """
    missed = report.outcome.is_memory_death
    used = max(report.peak_bytes, report.budget.limit_bytes if missed else 0)
    wanted = max(int(used * (_AFTER_MISS if missed else _AFTER_SUCCESS)), SMALLEST_BUDGET_BYTES)
    return wanted if _sees_a_fence(report) else min(wanted, report.capacity.capacity_bytes)


def _sees_a_fence(report: JobReport) -> bool:
    return report.capacity.limited_by.startswith("cgroup") and any(
        each.setting != "budget" and each.limit_bytes <= report.capacity.capacity_bytes
        for each in report.budget.outer
    )


def with_story(report: JobReport, *, where: str = "") -> JobReport:
    """Return the report with recommendations and, where it applies, the death in seven parts.

    Args:
        report: the bare figures.
        where: the report's file, or ``""`` if it is written nowhere.
    """
    report = dataclasses.replace(report, recommendations=_recommend(report))
    return dataclasses.replace(report, death=_death(report, where))


def _setting(report: JobReport) -> str:
    """Return what to ask for next time, with what encloses the job and must be raised first."""
    wanted = suggested_budget(report)
    own = _literal("--memory" if report.kind == "command" else "memory", wanted)
    refusing = [each for each in report.budget.outer if each.limit_bytes < wanted]
    if not refusing:
        return own
    return f"{own}, and raise what encloses it: {', '.join(_raised(each, wanted) for each in refusing)}"


def _raised(outer: OuterBudget, wanted_bytes: int) -> str:
    return f"{outer.name} ({format_bytes(outer.limit_bytes)}) to {_literal(outer.setting, wanted_bytes)}"


def _literal(setting: str, count: int) -> str:
    size = format_setting(count)
    return f"{setting} {size}" if setting.startswith("--") else f'{setting}="{size}"'


def _recommend(report: JobReport) -> tuple[str, ...]:
    if report.outcome.is_memory_death:
        return _after_miss(report)
    if report.outcome is not Outcome.COMPLETED or report.budget.limit_bytes == 0:
        return ()
    needs, wanted = f"needs {format_bytes(report.peak_bytes)}", suggested_budget(report)
    if report.utilisation > _TIGHT and wanted > report.budget.limit_bytes:
        return (f"{needs}: run with {_setting(report)} for some headroom",)
    if report.utilisation < _LOOSE and report.peak_bytes > 0 and wanted < report.budget.limit_bytes:
        return (f"{needs}: {_setting(report)} would do, and leave more to others",)
    return ()


def _after_miss(report: JobReport) -> tuple[str, ...]:
    advice = []
    if report.outcome is Outcome.KERNEL_OOM:
        advice.append("run `memguard status` to see which limit binds and what else uses it")
    if report.outcome is Outcome.MEMORY_ERROR and report.utilisation < _LOOSE:
        advice.append(
            f"one request was refused when {format_bytes(report.peak_bytes)} of the budget of "
            f"{format_bytes(report.budget.limit_bytes)} were in use: see in the traceback how large it was, and why"
        )
    elif suggested_budget(report) > report.budget.limit_bytes:
        advice.append(
            f"needs more than {format_bytes(report.budget.limit_bytes)}: run with {_setting(report)}"
        )
    else:
        advice.append(
            f"its budget is already all that {report.capacity.limited_by} allows "
            f"({format_bytes(report.capacity.capacity_bytes)}): give it less data or a larger machine"
        )
    advice.append(
        "work on fewer rows or columns, or in batches (`job.batches`), so that less is held at once"
    )
    if len(report.processes) > 1:
        advice.append(f"run fewer workers: {len(report.processes)} processes shared the budget at the peak")
    return tuple(advice)


def _death(report: JobReport, where: str) -> Death | None:
    if report.outcome in (Outcome.COMPLETED, Outcome.RAISED) or (
        report.outcome is Outcome.INTERRUPTED and report.kind == "command"
    ):
        return None
    runbook = RUNBOOKS.get(report.outcome)
    places = [f"report {where}" if where else "", f"runbook {runbook}" if runbook else ""]
    return Death(
        who=f"{report.name} ({report.what})",
        how_much=_how_much(report),
        why_now=_why_now(report),
        why_this_one=_why_this_one(report),
        what_is_saved=_what_is_saved(report),
        what_next=report.recommendations,
        where=", ".join(place for place in places if place) or "no report was asked for",
    )


def _how_much(report: JobReport) -> str:
    machine = report.capacity
    return (
        f"peak {format_bytes(report.peak_bytes)} of a budget of {format_bytes(report.budget.limit_bytes)} "
        f"({report.budget.source}); {format_bytes(machine.available_bytes)} of {format_bytes(machine.capacity_bytes)} "
        f"were free at the start (bound: {machine.limited_by})"
    )


_CAUSES: Final = {
    Outcome.BUDGET_KILL: "its memory reached its budget",
    Outcome.BUDGET_SOFT_STOP: "its memory reached its budget and it stopped when asked",
    Outcome.MEMORY_ERROR: "an allocation failed inside it (MemoryError)",
    Outcome.KERNEL_OOM: "the kernel ran out of memory above its budget and killed it",
    Outcome.SIGNAL: "it died of a signal that memguard did not send",
    Outcome.TIMEOUT: "its time was up",
    Outcome.LOST: "its supervisor vanished",
    Outcome.INTERRUPTED: "it was asked to stop",
}


def _why_now(report: JobReport) -> str:
    cause = _CAUSES[report.outcome]
    if report.outcome is Outcome.SIGNAL and report.signal:
        cause = f"it died of {report.signal}, which memguard did not send"
    phase = f" in phase {report.phases[-1].name}" if report.phases else ""
    return f"{cause} after {format_duration(report.duration_s)}{phase}"


def _why_this_one(report: JobReport) -> str:
    if report.outcome in (Outcome.BUDGET_KILL, Outcome.BUDGET_SOFT_STOP):
        return "it alone passed its own budget; no other job was touched"
    if report.outcome is Outcome.KERNEL_OOM:
        return "the kernel chose; guarded jobs are marked to be chosen before anything else"
    return (
        "nothing else was involved" if report.outcome is Outcome.MEMORY_ERROR else "only this job was meant"
    )


def _what_is_saved(report: JobReport) -> str:
    if report.kind == "command":
        return "whatever the command wrote itself"
    if report.kind == "managed":
        return "what the block had made so far: it ran in this process, and its memory is free once nothing holds it"
    if any(each.source == "job" and each.fact == "handed over: value" for each in report.evidence):
        return "what it returned when it was asked to stop; run with check=False to get it as `result.value`"
    return "no result; the caller goes on, and its memory is as it was"


def tell_death(report: JobReport) -> str:
    """Return the death as text, one part a line; ``""`` where there is none."""
    death = report.death
    if death is None:
        return ""
    lines = [
        f"{death.who}: {death.why_now}",
        f"  how much:      {death.how_much}",
        f"  why this one:  {death.why_this_one}",
        f"  what is saved: {death.what_is_saved}",
        *(f"  what next:     {advice}" for advice in death.what_next),
        f"  where:         {death.where}",
    ]
    return "\n".join(lines)


def events_of(report: JobReport) -> tuple[Event, ...]:
    """Return the events that follow from how a job ended, in the order in which they came about."""
    events = [_event(report, "memguard.guard_degraded", fault=fault) for fault in report.guard_degraded]
    if report.outcome in (Outcome.BUDGET_KILL, Outcome.BUDGET_SOFT_STOP):
        figures = {"peak_bytes": report.peak_bytes, "limit_bytes": report.budget.limit_bytes}
        events.append(_event(report, "memguard.budget_exceeded", outcome=report.outcome.value, **figures))
    alive = report.notes.get("models_alive_at_end")
    if isinstance(alive, int) and alive > 0:
        registered = report.notes.get("models_registered")
        events.append(_event(report, "memguard.model_survived", alive=alive, registered=registered))
    return tuple(events)


def _event(report: JobReport, name: str, **fields: JsonScalar) -> Event:
    return Event(name, job_id=report.job_id, fields=fields)
