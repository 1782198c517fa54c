"""What ``memguard top`` shows: rows, their order, what fits, and what each key does. Pure.

Comes in: an `Overview`, a `View` (what the person chose) and the size of the terminal. Goes out: lines, and the next
`View`.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from memguard.cli.exits import printable
from memguard.cli.jobs_view import (
    figures_json,
    job_json,
    ledger_text,
    pressure_text,
    sentinel_text,
    waiting_lines,
)
from memguard.cli.lines import Line, Style, clip, pad, width_of
from memguard.cli.overview import Overview
from memguard.cli.top_columns import BY_NAME, COLUMNS, Column, JobSeen
from memguard.guard import Pressure
from memguard.ledger.standing import JobState, Standing
from memguard.units import format_bytes, format_share

__all__ = ["SCHEMA", "View", "document", "frame", "pressed", "settled", "shown_jobs"]

SCHEMA: Final = "memguard.top/1"
_SHORTEST_NAME: Final = 8
_BAR: Final = 30
_INDENT: Final = "  "
_NO_BOUND: Final = 10**9
_PAGE: Final = 10
_HELP: Final = (
    "q            quit (Ctrl-C too)",
    "s  >  right  sort by the next column        <  left  by the one before",
    "r            the other way round",
    "/            show jobs whose name contains a text; Enter keeps it, Esc drops it",
    "up  down  page up  page down   where there are more jobs than lines",
    "h  ?         this help; any key goes back",
    "",
    "The bar: # is used, + is promised to jobs and not used yet, . is free; right of it what jobs may still have.",
    "used      of the job's whole process tree        overrun  used beyond what is reserved",
    "to limit  until the job reaches its limit (else its reservation) as it grew in the last seconds",
    "for       how long it has run, or waited; a job inside another stands below it",
)


# Where not all fit, these go first; what is left tells who has what.
_DISPENSABLE: Final = ("priority", "share", "peak", "overrun", "to limit", "for", "reserved", "state", "used")


@dataclass(frozen=True, slots=True)
class View:
    """What the person chose.

    Attributes:
        sort: the name of the column to sort by.
        reverse: the other way round than the column has it.
        filter: a part of the names to show; ``""`` for all.
        is_typing: whether keys are letters of the filter.
        helps: whether the help is shown.
        first: how many rows are above the first that is shown.
        is_over: whether it is time to go.
    """

    sort: str = "used"
    reverse: bool = False
    filter: str = ""
    is_typing: bool = False
    helps: bool = False
    first: int = 0
    is_over: bool = False


def pressed(view: View, key: str) -> View:
    """Return what a key makes of a view."""
    if view.helps:
        return dataclasses.replace(view, helps=False, is_over=key == "q")
    if view.is_typing:
        return _typed(view, key)
    return _commanded(view, key)


def _typed(view: View, key: str) -> View:
    if key == "enter":
        return dataclasses.replace(view, is_typing=False)
    if key == "escape":
        return dataclasses.replace(view, is_typing=False, filter="", first=0)
    if key == "backspace":
        return dataclasses.replace(view, filter=view.filter[:-1], first=0)
    if len(key) == 1 and key.isprintable():
        return dataclasses.replace(view, filter=view.filter + key, first=0)
    return view


def _commanded(view: View, key: str) -> View:
    change: dict[str, dict[str, Any]] = {
        "q": {"is_over": True},
        "r": {"reverse": not view.reverse},
        "/": {"is_typing": True},
        "h": {"helps": True},
        "?": {"helps": True},
        "escape": {"filter": "", "first": 0},
        "s": {"sort": _next_column(view.sort, 1), "reverse": False},
        ">": {"sort": _next_column(view.sort, 1), "reverse": False},
        "right": {"sort": _next_column(view.sort, 1), "reverse": False},
        "<": {"sort": _next_column(view.sort, -1), "reverse": False},
        "left": {"sort": _next_column(view.sort, -1), "reverse": False},
        "up": {"first": max(0, view.first - 1)},
        "down": {"first": view.first + 1},
        "page up": {"first": max(0, view.first - _PAGE)},
        "page down": {"first": view.first + _PAGE},
    }
    return dataclasses.replace(view, **change.get(key, {}))


def _next_column(name: str, step: int) -> str:
    names = [column.name for column in COLUMNS]
    return names[(names.index(name) + step) % len(names)]


def shown_jobs(seen: Overview, view: View) -> list[Standing]:
    """Return the jobs that the filter lets through, sorted; who is inside a lease stays below it."""
    column = BY_NAME[view.sort]
    wanted = view.filter.lower()
    ordered = sorted(
        (each for each in seen.standings.jobs if wanted in each.lease.name.lower()),
        key=lambda each: column.key(JobSeen(each, seen)),
        reverse=column.descends != view.reverse,
    )
    there = {each.lease.lease_id for each in ordered}
    inside: dict[str, list[Standing]] = {}
    for each in ordered:
        parent = each.lease.parent_id if each.depth and each.lease.parent_id in there else ""
        inside.setdefault(parent, []).append(each)
    return _flattened(inside, "")


def _flattened(inside: dict[str, list[Standing]], parent_id: str) -> list[Standing]:
    return [
        each for job in inside.get(parent_id, []) for each in (job, *_flattened(inside, job.lease.lease_id))
    ]


def document(seen: Overview, view: View) -> dict[str, Any]:
    """Return what ``--json`` prints for a look."""
    machine = seen.machine
    return {
        "schema": SCHEMA,
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seen.wall_time_s)),
        "capacity_bytes": machine.capacity_bytes,
        "used_bytes": machine.used_bytes,
        "used_fraction": machine.used_fraction,
        "available_bytes": machine.available_bytes,
        **figures_json(seen),
        "jobs": [_job_document(JobSeen(each, seen)) for each in shown_jobs(seen, view)],
        "notes": list(machine.notes),
    }


def _job_document(job: JobSeen) -> dict[str, Any]:
    left_s = job.time_to_limit_s
    return {
        **job_json(job.standing, job.seen.at_s),
        "growth_bytes_per_s": job.growth_bytes_per_s,
        "time_to_limit_s": left_s if math.isfinite(left_s) else None,
    }


def frame(seen: Overview, view: View, columns: int | None = None, rows: int | None = None) -> list[Line]:
    """Return the lines of a frame.

    Args:
        seen: what was found.
        view: what the person chose.
        columns: how wide the terminal is; ``None`` for as wide as it takes.
        rows: how many lines it has; ``None`` for as many as it takes, without the line on keys.
    """
    if view.helps:
        lines = [Line("memguard top: keys", Style.BOLD), Line(""), *(Line(each) for each in _HELP)]
    else:
        lines = _frame(seen, view, columns, rows)
    clipped = [Line(clip(each.text, columns), each.style) for each in lines]
    return clipped if rows is None else clipped[:rows]


def _frame(seen: Overview, view: View, columns: int | None, rows: int | None) -> list[Line]:
    jobs = shown_jobs(seen, view)
    head = [*_header(seen, columns), Line("")]
    table = _table(jobs, seen, view, columns)
    if rows is None:
        reasons = _reasons(jobs, seen, columns, _NO_BOUND)
        return [*head, *table, *([Line(""), *reasons] if reasons else [])]
    few = _reasons(jobs, seen, columns, rows - len(head) - len(jobs) - 3)
    foot = [*([Line(""), *few] if few else []), Line(_keys(view), Style.FAINT)]
    space = rows - len(head) - len(foot)
    body = _windowed(table, view.first, max(2, space))
    filler = [Line("")] * max(0, space - len(body))
    return [*head, *body, *filler, *foot]


def settled(view: View, seen: Overview, columns: int, rows: int) -> View:
    """Return a view that is scrolled no further than there are jobs."""
    if not view.first:
        return view
    jobs, space = len(shown_jobs(seen, view)), max(2, rows - len(_header(seen, columns)) - 2)
    most = 0 if jobs < space else jobs - max(1, space - 2)
    return dataclasses.replace(view, first=min(view.first, most))


def _reasons(jobs: Sequence[Standing], seen: Overview, columns: int | None, most: int) -> list[Line]:
    """Return why jobs wait: for as many jobs as there is room, and on a terminal for as many lines."""
    told = waiting_lines(jobs, seen.at_s)[: max(0, most)]
    wrapped = [part for each in told for part in _wrapped(each, columns)]
    return [Line(each, Style.FAINT) for each in wrapped[: max(0, most)]]


def _wrapped(text: str, columns: int | None) -> list[str]:
    if columns is None:
        return [text] if text else []
    return textwrap.wrap(text, max(columns, len(_INDENT) + 1), subsequent_indent=_INDENT)


def _header(seen: Overview, columns: int | None) -> list[Line]:
    standings, machine, pressure = seen.standings, seen.machine, seen.pressure
    at = time.strftime("%H:%M:%S", time.localtime(seen.wall_time_s))
    style = {
        Pressure.NORMAL: Style.PLAIN,
        Pressure.HIGH: Style.ALARM,
        Pressure.CRITICAL: Style.ALARM,
    }.get(pressure.state, Style.WARN)
    trouble = ledger_text(seen)
    worse = Style.WARN if seen.ledger.trouble else Style.PLAIN
    return [
        Line(
            f"memguard top {at}: {standings.running} running, {standings.waiting} waiting",
            Style.BOLD,
        ),
        Line(
            f"{_bar(seen)} {format_share(machine.used_fraction)} used: {format_bytes(machine.used_bytes)} of "
            f"{format_bytes(machine.capacity_bytes)} ({machine.binding.source})"
        ),
        Line(
            f"reserved {format_bytes(standings.reserved_bytes)}, {format_bytes(standings.promised_bytes)} of it not "
            f"used yet; {format_bytes(standings.free_bytes)} free for jobs"
        ),
        Line(f"state {pressure_text(seen)}; sentinel: {sentinel_text(seen)}", style),
        *(Line(each, Style.WARN) for each in machine.notes[:1]),
        *(Line(each, worse) for each in _wrapped(f"ledger {trouble}" if trouble else "", columns)),
    ]


def _bar(seen: Overview) -> str:
    capacity = max(1, seen.machine.capacity_bytes)
    used = min(_BAR, round(_BAR * seen.machine.used_bytes / capacity))
    promised = min(_BAR - used, round(_BAR * seen.standings.promised_bytes / capacity))
    return f"[{'#' * used}{'+' * promised}{'.' * (_BAR - used - promised)}]"


def _keys(view: View) -> str:
    if view.is_typing:
        return f"names that contain: {printable(view.filter)}_   (Enter keeps, Esc drops it)"
    shown = f"  only: {printable(view.filter)}" if view.filter else ""
    return f"sorted by {view.sort}{shown}   q quit  s < > sort  r reverse  / filter  h help"


def _table(jobs: Sequence[Standing], seen: Overview, view: View, columns: int | None) -> list[Line]:
    rows = [tuple(column.text(JobSeen(each, seen)) for column in COLUMNS) for each in jobs]
    cells = {column.name: [row[place] for row in rows] for place, column in enumerate(COLUMNS)}
    heads = {column.name: _head(column, view) for column in COLUMNS}
    widths = {
        name: max([width_of(heads[name]), *(width_of(each) for each in texts)])
        for name, texts in cells.items()
    }
    kept = _fitting(widths, view.sort, columns)
    lines = [
        "  ".join(pad(texts[name], widths[name], BY_NAME[name].right) for name in kept).rstrip()
        for texts in (heads, *({name: cells[name][place] for name in kept} for place in range(len(jobs))))
    ]
    styles = [Style.HEAD, *(_style_of(each.state) for each in jobs)]
    if not jobs:
        why = f"no job's name contains {view.filter!r}" if view.filter and seen.standings.jobs else "no jobs"
        return [Line(lines[0], Style.HEAD), Line(why)]
    return [Line(text, style) for text, style in zip(lines, styles, strict=True)]


def _head(column: Column, view: View) -> str:
    if column.name != view.sort:
        return column.name
    return f"{column.name} {'v' if column.descends != view.reverse else '^'}"


def _fitting(widths: dict[str, int], sort: str, columns: int | None) -> list[str]:
    """Return the columns that fit, after the names' was made as narrow as it may be; changes its width."""
    kept = [column.name for column in COLUMNS]
    if columns is None:
        return kept

    def overhang() -> int:
        return sum(widths[name] + 2 for name in kept) - 2 - columns

    longest = widths["name"]
    widths["name"] = min(longest, _SHORTEST_NAME)
    for name in _DISPENSABLE:
        if overhang() > 0 and name != sort:
            kept.remove(name)
    widths["name"] = max(1, min(longest, widths["name"] - overhang()))
    return kept


def _style_of(state: JobState) -> Style:
    if state is JobState.RUNNING:
        return Style.PLAIN
    if state in (JobState.FROZEN, JobState.BEING_KILLED):
        return Style.ALARM
    return Style.FAINT if state is JobState.GONE else Style.WARN


def _windowed(table: list[Line], first: int, space: int) -> list[Line]:
    """Return the part of a table that fits, with a last line that says how much there is above and below."""
    head, rows = table[0], table[1:]
    if len(table) <= space:
        return table
    shown = max(1, space - 2)
    first = min(first, len(rows) - shown)
    below = len(rows) - shown - first
    return [
        head,
        *rows[first : first + shown],
        Line(f"... {first} above, {below} below (up, down)", Style.FAINT),
    ]
