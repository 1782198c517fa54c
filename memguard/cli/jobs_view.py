"""Jobs, pressure and the sentinel in words and as JSON, for ``memguard status`` and ``memguard top``. Pure.

Comes in: an `Overview`. Goes out: facts, rows of tables, parts of documents.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Final

from memguard.cli.exits import printable
from memguard.cli.overview import Overview
from memguard.guard import Pressure
from memguard.ledger.records import Action, Room
from memguard.ledger.standing import JobState, Standing
from memguard.units import format_bytes, format_duration

__all__ = [
    "JOB_HEADERS",
    "JOB_RIGHT",
    "action_json",
    "action_text",
    "figures_json",
    "job_json",
    "job_row",
    "ledger_facts",
    "ledger_text",
    "name_of",
    "pressure_text",
    "sentinel_text",
    "state_text",
    "waiting_lines",
]

JOB_HEADERS: Final = ("job", "pid", "state", "reserved", "used", "peak", "overrun", "prio", "for")
JOB_RIGHT: Final = (1, 3, 4, 5, 6, 7, 8)
# Longer than a day is as good as never.
_LONGEST_FORECAST_S: Final = 86400.0


def figures_json(seen: Overview) -> dict[str, Any]:
    """Return what both documents say of the machine's pressure and of what was promised."""
    standings, pressure = seen.standings, seen.pressure
    return {
        "reserved_bytes": standings.reserved_bytes,
        "promised_bytes": standings.promised_bytes,
        "free_for_jobs_bytes": standings.free_bytes,
        "state": pressure.state.name.lower(),
        "fill_bytes_per_s": pressure.fill_bytes_per_s,
        "time_to_full_s": _finite(pressure.time_to_full_s),
        "sentinel": _sentinel_json(seen),
        "ledger": {
            "path": None if seen.ledger.path is None else str(seen.ledger.path),
            "trouble": seen.ledger.trouble or None,
        },
    }


def _sentinel_json(seen: Overview) -> dict[str, Any] | None:
    sight = seen.sentinel
    if sight is None:
        return None
    return {
        "pid": sight.pid,
        "looked_ago_s": max(0.0, seen.at_s - sight.at_s),
        "state_for_s": max(0.0, seen.at_s - sight.since_s),
        "next_look_s": sight.next_look_s,
    }


def job_json(job: Standing, at_s: float) -> dict[str, Any]:
    """Return a job as both documents have it."""
    lease, entry = job.lease, job.entry
    waits = job.state is JobState.WAITING
    return {
        "lease_id": lease.lease_id,
        "parent_id": lease.parent_id or None,
        "name": lease.name,
        "pid": lease.owner.pid,
        "root_pid": entry.root_pid or None,
        "state": job.state.value,
        "reserved_bytes": lease.reserved_bytes,
        "used_bytes": lease.used_bytes,
        "peak_bytes": job.peak_bytes,
        "overrun_bytes": 0 if waits else lease.overrun_bytes,
        "limit_bytes": entry.limit_bytes or None,
        "priority": lease.priority,
        "for_s": max(0.0, at_s - job.since_s),
        "waits_for": job.waits_for or None,
        "domain": lease.domain,
    }


def action_json(action: Action) -> dict[str, Any]:
    """Return what the sentinel did as the document has it."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(action.wall_time_s)),
        "lease_id": action.lease_id,
        "name": action.name,
        "what": action.rung.lower(),
        "why": action.why,
        "used_bytes": action.used_bytes,
        "reserved_bytes": action.reserved_bytes,
        "freed_bytes": action.freed_bytes,
    }


def action_text(action: Action) -> str:
    """Return what the sentinel did in a line."""
    at = time.strftime("%H:%M:%S", time.localtime(action.wall_time_s))
    freed = "" if action.freed_bytes is None else f"; {format_bytes(action.freed_bytes)} became free"
    used = f"{format_bytes(action.used_bytes)} used of {format_bytes(action.reserved_bytes)} reserved"
    return printable(f"{at}  {action.rung.lower()}  {action.name} ({used}): {action.why}{freed}")


def ledger_facts(seen: Overview) -> list[tuple[str, str]]:
    """Return name and value of what is to be said beside the machine's own figures."""
    standings, room = seen.standings, seen.room
    unused = f", {format_bytes(standings.promised_bytes)} of it not used yet" if standings.running else ""
    facts = [
        (
            "reserved",
            f"{format_bytes(standings.reserved_bytes)} by {_count(standings.running, 'job')}{unused}",
        ),
        ("for jobs", f"{format_bytes(standings.free_bytes)} free{_why_less(seen, room)}"),
        ("state", pressure_text(seen)),
        ("sentinel", sentinel_text(seen) + _page("SentinelGone", _is_unwatched(seen))),
    ]
    trouble = ledger_text(seen) + _page("LedgerDamaged", bool(seen.ledger.trouble))
    return [*facts, ("ledger", trouble)] if trouble else facts


def _page(name: str, is_needed: bool) -> str:
    return f" (memguard runbook {name})" if is_needed else ""


def _is_unwatched(seen: Overview) -> bool:
    return seen.sentinel is None and seen.standings.running > 0


def _why_less(seen: Overview, room: Room) -> str:
    if room.is_closed:
        return ": nothing is given out while memory is short"
    kept = seen.machine.capacity_bytes - room.capacity_bytes
    return f" ({format_bytes(kept)} are kept in reserve)" if kept > 0 else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def pressure_text(seen: Overview) -> str:
    """Return how short memory is, and how long it will last if it shrinks."""
    pressure = seen.pressure
    told = pressure.state.name.lower()
    if seen.sentinel is not None and pressure.state is not Pressure.NORMAL:
        told += f" for {format_duration(max(0.0, seen.at_s - pressure.since_s))}"
    if pressure.time_to_full_s <= _LONGEST_FORECAST_S:
        told += (
            f"; full in {format_duration(pressure.time_to_full_s)} "
            f"at {format_bytes(pressure.fill_bytes_per_s)}/s"
        )
    return told


def sentinel_text(seen: Overview) -> str:
    """Return who watches the machine."""
    sight, last = seen.sentinel, seen.ledger.sight
    if sight is not None:
        ago = format_duration(max(0.0, seen.at_s - sight.at_s))
        return f"pid {sight.pid}, looked {ago} ago"
    if last is not None and seen.standings.running and seen.at_s >= last.at_s:
        return f"none looks; the last one, pid {last.pid}, did {format_duration(seen.at_s - last.at_s)} ago"
    return "none runs"


def ledger_text(seen: Overview) -> str:
    """Return what is wrong with the ledger, or that there is none; ``""`` where all is well."""
    if seen.ledger.trouble:
        return printable(f"not read: {seen.ledger.trouble}")
    return "" if seen.ledger.path is not None else "none yet: no job has reserved memory here"


def name_of(job: Standing) -> str:
    """Return a job's name, moved in by its depth."""
    return "  " * job.depth + printable(job.lease.name)


def state_text(state: JobState) -> str:
    """Return a state in words."""
    return state.value.replace("_", " ")


def job_row(job: Standing, at_s: float) -> tuple[str, ...]:
    """Return a job as a row below `JOB_HEADERS`; what does not apply to one that waits is left out."""
    lease, waits = job.lease, job.state is JobState.WAITING
    figures = (lease.used_bytes, job.peak_bytes, lease.overrun_bytes)
    shown = ("-",) * 3 if waits else tuple(format_bytes(figure) if figure else "-" for figure in figures)
    return (
        name_of(job),
        str(lease.owner.pid),
        state_text(job.state),
        format_bytes(lease.reserved_bytes),
        *shown,
        str(lease.priority),
        format_duration(max(0.0, at_s - job.since_s)),
    )


def waiting_lines(jobs: Sequence[Standing], at_s: float) -> list[str]:
    """Return a line for each job that waits: since when, and why."""
    return [
        printable(
            f"{each.lease.name} (pid {each.lease.owner.pid}) has waited "
            f"{format_duration(max(0.0, at_s - each.since_s))}: {each.waits_for}"
        )
        for each in jobs
        if each.state is JobState.WAITING
    ]


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
