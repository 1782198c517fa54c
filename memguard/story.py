"""Telling people how a job went: the seven parts of a death, and what to set next time. Pure.

Comes in: a `JobReport` without its words. Goes out: the same with recommendations and, if it died, its `Death`;
the text that goes to stderr or into an exception; and the events that follow from how it ended. Settings are literal,
so that they can be pasted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Final

from memguard.events import Event, JsonScalar
from memguard.report import Death, JobReport, Outcome, OuterBudget
from memguard.units import SMALLEST_BUDGET_BYTES, format_bytes, format_duration, format_setting

__all__ = [
    "FAULT_RUNBOOKS",
    "RUNBOOKS",
    "events_of",
    "suggested_budget",
    "tell_death",
    "tell_fault",
    "tell_stray_signal",
    "with_next",
    "with_story",
]

RUNBOOKS: Final = {
    Outcome.BUDGET_KILL: "JobKilledForBudget",
    Outcome.BUDGET_SOFT_STOP: "JobKilledForBudget",
    Outcome.MEMORY_ERROR: "JobOutOfMemory",
    Outcome.KERNEL_OOM: "MachineShortOfMemory",
}
# What `guard_degraded` begins with, where there is a page for it.
FAULT_RUNBOOKS: Final = {
    "nobody watches the machine's memory": "SentinelGone",
    "the job runs without a reservation": "LedgerDamaged",
    "no more could be reserved": "LedgerDamaged",
    "the reservation could not be written down again": "LedgerDamaged",
}
_PRESSURE_RUNBOOK: Final = RUNBOOKS[Outcome.KERNEL_OOM]
# After a miss the next try gets half as much again: the true need is unknown, only that it is larger (the rule of
# the retry, see docs/design.md). After a success a quarter of headroom keeps the next run below its warning line.
_AFTER_MISS: Final = 1.5
_AFTER_SUCCESS: Final = 1.25
_TIGHT: Final = 0.9
_LOOSE: Final = 0.4
# Less than this between a limit and what was measured is the guard's own time, and no word worth.
_NOTICED_S: Final = 0.1
# What a process brings on itself; any other signal came from somebody.
_FAULTS: Final = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"})
# Deaths that nobody sees coming; that a command ends when it is asked to, or when its reader leaves, needs no word.
_UNEXPECTED: Final = _FAULTS | {"SIGKILL", "SIGXCPU", "SIGXFSZ"}


def suggested_budget(report: JobReport) -> int:
    """Bytes to give this job next time: never more than the capacity, for that would be refused.

    Where the job ran inside the fence of another one, the capacity it saw is that budget, which can be raised.
    """
    missed = report.outcome.is_memory_death
    used = max(report.proven_peak_bytes, report.budget.limit_bytes if missed and not report.pressure else 0)
    wanted = max(
        int(used * (_AFTER_MISS if missed else _AFTER_SUCCESS)), SMALLEST_BUDGET_BYTES, _like_it(report)
    )
    return wanted if _sees_a_fence(report) else min(wanted, report.capacity.capacity_bytes)


def _like_it(report: JobReport) -> int:
    """Return what jobs like it use, 0 where that is not known: a short job hides between two looks."""
    sizing = report.sizing
    return (sizing.next_bytes or 0) if sizing is not None and sizing.basis == "history" else 0


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


def with_next(report: JobReport) -> JobReport:
    """Return the report with advice on what the next job like it is to have; as it is where nobody knows."""
    sizing = report.sizing
    if sizing is None or sizing.next_bytes is None or report.outcome not in (Outcome.COMPLETED, *RUNBOOKS):
        return report
    jobs = sizing.observations + 1
    known = f"as {'this one says' if jobs == 1 else f'{jobs} jobs say'}, if no budget is named"
    told = f"the next one like it will have {format_bytes(sizing.next_bytes)} reserved, {known}"
    advice = (*_recommend(report), told)
    death = None if report.death is None else dataclasses.replace(report.death, what_next=advice)
    return dataclasses.replace(report, recommendations=advice, death=death)


def _setting(report: JobReport) -> str:
    """Return what to ask for next time, with what encloses the job and must be raised first."""
    wanted = suggested_budget(report)
    own = _literal(_named("memory", report), format_setting(wanted))
    refusing = [each for each in report.budget.outer if each.limit_bytes < wanted]
    if not refusing:
        return own
    return f"{own}, and raise what encloses it: {', '.join(_raised(each, wanted) for each in refusing)}"


def _raised(outer: OuterBudget, wanted_bytes: int) -> str:
    setting = _literal(outer.setting, format_setting(wanted_bytes))
    return f"{outer.name} ({format_bytes(outer.limit_bytes)}) to {setting}"


def _named(setting: str, report: JobReport) -> str:
    return f"--{setting}" if report.kind == "command" else setting


def _literal(setting: str, value: str) -> str:
    return f"{setting} {value}" if setting.startswith("--") else f'{setting}="{value}"'


def _recommend(report: JobReport) -> tuple[str, ...]:
    if report.outcome.is_memory_death:
        return _after_miss(report)
    if report.outcome in _ADVICE:
        return (_ADVICE[report.outcome](report),)
    if report.outcome is not Outcome.COMPLETED or report.budget.limit_bytes == 0:
        return ()
    needs, wanted = f"needs {format_bytes(report.proven_peak_bytes)}", suggested_budget(report)
    if report.utilisation > _TIGHT and wanted > report.budget.limit_bytes:
        return (f"{needs}: run with {_setting(report)} for some headroom",)
    if report.utilisation < _LOOSE and report.peak_bytes > 0 and wanted < report.budget.limit_bytes:
        return (f"{needs}: {_setting(report)} would do, and leave more to others",)
    return ()


def _after_timeout(report: JobReport) -> str:
    if report.timeout_s is None:
        return "allow it more time, or give it less to do"
    # Twice as much: how long it would have taken is unknown.
    longer = _literal(_named("timeout", report), f"{max(1, math.ceil(report.timeout_s * 2))}s")
    return f"allow it more time, for instance {longer}, or give it less to do"


def _after_signal(report: JobReport) -> str:
    if report.signal in _FAULTS:
        return (
            "its own code, or that of a library, failed: in a Python program PYTHONFAULTHANDLER=1 shows where"
        )
    return "somebody else sent it: a scheduler, a person, another program; look there for why"


def _after_loss(_: JobReport) -> str:
    return "find out what killed its supervisor, a process of memguard's, and run it again"


_ADVICE: Final[Mapping[Outcome, Callable[[JobReport], str]]] = {
    Outcome.TIMEOUT: _after_timeout,
    Outcome.SIGNAL: _after_signal,
    Outcome.LOST: _after_loss,
}


def _after_miss(report: JobReport) -> tuple[str, ...]:
    if report.pressure:
        return _after_pressure(report)
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
    batches = "batches" if report.kind == "command" else "batches (`job.batches`)"
    advice.append(f"work on fewer rows or columns, or in {batches}, so that less is held at once")
    if len(report.processes) > 1:
        advice.append(f"run fewer workers: {len(report.processes)} processes shared the budget at the peak")
    return tuple(advice)


def _after_pressure(report: JobReport) -> tuple[str, ...]:
    again = "--retries 1" if report.kind == "command" else "retries=1"
    return (
        f"name what it needs: run with {_setting(report)}, and it starts when so much is free",
        f"allow another try: with {again} it is run again by itself, with more reserved",
        "run `memguard status` to see which limit binds and what else uses it",
    )


def _death(report: JobReport, where: str) -> Death | None:
    if report.outcome in (Outcome.COMPLETED, Outcome.RAISED) or (
        report.outcome is Outcome.INTERRUPTED and report.kind == "command"
    ):
        return None
    runbook = _PRESSURE_RUNBOOK if report.pressure else RUNBOOKS.get(report.outcome)
    places = [f"report {where}" if where else "", f"memguard runbook {runbook}" if runbook else ""]
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
    after = f"after {format_duration(report.duration_s)}"
    phase = f" in phase {report.phases[-1].name}" if report.phases else ""
    if report.pressure:
        return f"the machine's memory ran short, and it was ended {after}{phase}"
    if report.outcome is Outcome.SIGNAL and report.signal:
        return f"it died of {report.signal} {after}{phase}; memguard did not send it"
    if report.outcome is Outcome.TIMEOUT and report.timeout_s is not None:
        return f"its time of {format_duration(report.timeout_s)} was up{phase}{_beside_its_time(report)}"
    return f"{_CAUSES[report.outcome]} {after}{phase}"


def _beside_its_time(report: JobReport) -> str:
    """Tell what of a job's time was not the job's: gone before its start, or taken after it was up."""
    assert report.timeout_s is not None
    over_s = report.duration_s - report.timeout_s
    if over_s <= -_NOTICED_S:
        return f"; {format_duration(-over_s)} of it were gone before it began"
    if over_s < _NOTICED_S:
        return ""
    if report.signal == "SIGKILL":
        return f"; it did not stop when asked, and was killed {format_duration(over_s)} later"
    return f"; asked to stop, it took {format_duration(over_s)} more"


def _why_this_one(report: JobReport) -> str:
    if report.pressure:
        return report.pressure
    if report.outcome in (Outcome.BUDGET_KILL, Outcome.BUDGET_SOFT_STOP):
        return "it alone passed its own budget; no other job was touched"
    if report.outcome is Outcome.KERNEL_OOM:
        return "the kernel chose; guarded jobs are marked to be chosen before anything else"
    return _REASONS.get(report.outcome, "only this job was meant")


_REASONS: Final = {
    Outcome.MEMORY_ERROR: "nothing else was involved",
    Outcome.TIMEOUT: "each job has its own time; no other job was touched",
    Outcome.SIGNAL: "the signal was sent to this job, or it brought it on itself; no other job was touched",
}


def _what_is_saved(report: JobReport) -> str:
    if report.kind == "command":
        return "whatever the command wrote itself"
    if report.kind == "managed":
        return "what the block had made so far: it ran in this process, and its memory is free once nothing holds it"
    if any(each.source == "job" and each.fact == "handed over: value" for each in report.evidence):
        return "what it returned when it was asked to stop; run with check=False to get it as `result.value`"
    return "no result; the memory of the process that asked for it is as it was"


def tell_stray_signal(report: JobReport) -> str:
    """Return a line on a command that died of a signal that nobody saw coming, ``""`` where it did not."""
    if report.outcome is not Outcome.SIGNAL or report.signal not in _UNEXPECTED:
        return ""
    return (
        f"{report.name}: killed by {report.signal}, which memguard did not send; "
        f"peak {format_bytes(report.peak_bytes)} of its budget of {format_bytes(report.budget.limit_bytes)}"
    )


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


def tell_fault(fault: str) -> str:
    """Return what failed of the guard, with the page on it where there is one."""
    pages = (page for beginning, page in FAULT_RUNBOOKS.items() if fault.startswith(beginning))
    page = next(pages, "")
    return f"{fault} (memguard runbook {page})" if page else fault


def events_of(report: JobReport) -> tuple[Event, ...]:
    """Return the events that follow from how a job ended, in the order in which they came about."""
    events = [_event(report, "memguard.guard_degraded", fault=fault) for fault in report.guard_degraded]
    if report.outcome in (Outcome.BUDGET_KILL, Outcome.BUDGET_SOFT_STOP) and not report.pressure:
        figures = {"peak_bytes": report.peak_bytes, "limit_bytes": report.budget.limit_bytes}
        events.append(_event(report, "memguard.budget_exceeded", outcome=report.outcome.value, **figures))
    alive = report.notes.get("models_alive_at_end")
    if isinstance(alive, int) and alive > 0:
        registered = report.notes.get("models_registered")
        events.append(_event(report, "memguard.model_survived", alive=alive, registered=registered))
    return tuple(events)


def _event(report: JobReport, name: str, **fields: JsonScalar) -> Event:
    return Event(name, job_id=report.job_id, fields=fields)
