"""``memguard status``: how much memory jobs can have here, how much is used, and which limit binds."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from memguard.cli.exits import say, show
from memguard.cli.jobs_view import (
    JOB_HEADERS,
    JOB_RIGHT,
    action_json,
    action_text,
    figures_json,
    job_json,
    job_row,
    ledger_facts,
    waiting_lines,
)
from memguard.cli.overview import Overview, Watch
from memguard.cli.setting_flags import read_settings
from memguard.cli.tables import print_table
from memguard.config import LedgerChoice
from memguard.host import MachineReading
from memguard.host.readings import MemoryLimit
from memguard.units import format_bytes, format_share

__all__ = ["SCHEMA", "document", "status_command"]

SCHEMA: Final = "memguard.status/1"
# What people are shown of the sentinel's past; the document has more of it.
_ACTIONS_SHOWN: Final = 5
_ACTIONS_TOLD: Final = 100


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (schema memguard.status/1).")
def status_command(*, as_json: bool) -> None:
    """Show how much memory jobs can have here, which limit binds, who has it and who waits for it.

    Used is what could not be given back at once: file cache that can be dropped is not counted, tmpfs is. Free for
    jobs is what nobody uses, less what was promised to jobs and is not used yet, and less the reserve. For each job
    that waits a line tells why. Looking changes nothing; a ledger that cannot be read is told of, and the rest shown.
    """
    settings = read_settings()
    seen = Watch(settings).look()
    if as_json:
        show(json.dumps(document(seen), indent=2))
    else:
        _print(seen)
    for note in seen.machine.notes:
        say(note)
    if seen.ledger.trouble and as_json:
        say(f"the ledger could not be read: {seen.ledger.trouble}")
    if seen.machine.binding.source == "MEMGUARD_CAPACITY":
        say("inside MEMGUARD_CAPACITY only guarded jobs count as used, those that the ledger knows")
    if settings.ledger is LedgerChoice.OFF and seen.ledger.path is not None:
        say("the setting ledger is off: jobs started from here reserve nothing, and wait for nobody")


def document(seen: Overview) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    machine = seen.machine
    pressure = machine.pressure
    return {
        "schema": SCHEMA,
        "capacity_bytes": machine.capacity_bytes,
        "used_bytes": machine.used_bytes,
        "used_fraction": machine.used_fraction,
        "available_bytes": machine.available_bytes,
        **figures_json(seen),
        "swap_free_bytes": machine.swap_free_bytes,
        "pressure": None
        if pressure is None
        else {"some_avg10": pressure.some_avg10, "full_avg10": pressure.full_avg10},
        "limits": [_limit(limit, machine) for limit in machine.limits],
        "jobs": [job_json(each, seen.at_s) for each in seen.standings.jobs],
        "actions": [action_json(each) for each in seen.ledger.actions[-_ACTIONS_TOLD:]],
        "notes": list(machine.notes),
    }


def _limit(limit: MemoryLimit, machine: MachineReading) -> dict[str, Any]:
    return {
        "source": limit.source,
        "path": limit.path,
        "limit_bytes": limit.limit_bytes,
        "used_bytes": limit.used_bytes,
        "free_bytes": limit.free_bytes,
        "binds": limit is machine.binding,
    }


def _print(seen: Overview) -> None:
    facts = _facts(seen)
    width = max(len(name) for name, _ in facts)
    show("\n".join(f"{name:<{width}}  {value}" for name, value in facts))
    show("")
    headers = ("limit", "used", "free", "of", "set in", "")
    print_table(headers, [_row(limit, seen.machine) for limit in seen.machine.limits], right=(0, 1, 2))
    _print_jobs(seen)


def _print_jobs(seen: Overview) -> None:
    if jobs := seen.standings.jobs:
        show("")
        print_table(JOB_HEADERS, [job_row(each, seen.at_s) for each in jobs], right=JOB_RIGHT)
    if lines := waiting_lines(jobs, seen.at_s):
        show("\n".join(["", *lines]))
    if actions := seen.ledger.actions[-_ACTIONS_SHOWN:]:
        show("\n".join(["", "what the sentinel did last:", *(action_text(each) for each in actions)]))


def _facts(seen: Overview) -> list[tuple[str, str]]:
    machine = seen.machine
    binding = machine.binding
    where = "" if binding.path == binding.source else f" ({binding.path})"
    used = f"{format_bytes(machine.used_bytes)} = {format_share(machine.used_fraction)} of the capacity"
    return [
        ("capacity", f"{format_bytes(machine.capacity_bytes)}, bound by {binding.source}{where}"),
        ("used", used),
        ("available", format_bytes(machine.available_bytes)),
        *ledger_facts(seen),
        ("free swap", f"{format_bytes(machine.swap_free_bytes)}, not counted as available"),
        ("pressure", _stalled(machine)),
    ]


def _stalled(machine: MachineReading) -> str:
    if machine.pressure is None:
        return "not told by this kernel"
    some, full = machine.pressure.some_avg10, machine.pressure.full_avg10
    return f"{some:g} % of the last 10 s lost to waiting, {full:g} % by all at once"


def _row(limit: MemoryLimit, machine: MachineReading) -> tuple[str, ...]:
    figures = (limit.limit_bytes, limit.used_bytes, limit.free_bytes)
    binds = "binds" if limit is machine.binding else ""
    return (*(format_bytes(figure) for figure in figures), limit.source, limit.path, binds)
