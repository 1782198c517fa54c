"""``memguard status``: how much memory jobs can have here, how much is used, and which limit binds."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from memguard.cli.exits import say, show
from memguard.cli.setting_flags import read_settings
from memguard.cli.tables import print_table
from memguard.host import MachineReading
from memguard.host.readings import MemoryLimit
from memguard.jobs import machine_for
from memguard.units import format_bytes, format_share

__all__ = ["SCHEMA", "document", "status_command"]

SCHEMA: Final = "memguard.status/1"


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (schema memguard.status/1).")
def status_command(*, as_json: bool) -> None:
    """Show how much memory jobs can have here, how much is in use, and which limit binds.

    Used is what could not be given back at once: file cache that can be dropped is not counted, tmpfs is.
    """
    machine = machine_for(read_settings())
    if as_json:
        show(json.dumps(document(machine), indent=2))
    else:
        _print(machine)
    for note in machine.notes:
        say(note)
    if machine.binding.source == "MEMGUARD_CAPACITY":
        say(
            "inside MEMGUARD_CAPACITY only guarded jobs count, and each report tells its own use; none is added up here"
        )


def document(machine: MachineReading) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    pressure = machine.pressure
    return {
        "schema": SCHEMA,
        "capacity_bytes": machine.capacity_bytes,
        "used_bytes": machine.used_bytes,
        "used_fraction": machine.used_fraction,
        "available_bytes": machine.available_bytes,
        "swap_free_bytes": machine.swap_free_bytes,
        "pressure": None
        if pressure is None
        else {"some_avg10": pressure.some_avg10, "full_avg10": pressure.full_avg10},
        "limits": [_limit(limit, machine) for limit in machine.limits],
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


def _print(machine: MachineReading) -> None:
    facts = _facts(machine)
    width = max(len(name) for name, _ in facts)
    show("\n".join(f"{name:<{width}}  {value}" for name, value in facts))
    show("")
    headers = ("limit", "used", "free", "of", "set in", "")
    print_table(headers, [_row(limit, machine) for limit in machine.limits], right=(0, 1, 2))


def _facts(machine: MachineReading) -> list[tuple[str, str]]:
    binding, pressure = machine.binding, machine.pressure
    stalled = "not told by this kernel"
    if pressure is not None:
        some, full = pressure.some_avg10, pressure.full_avg10
        stalled = f"{some:g} % of the last 10 s lost to waiting, {full:g} % by all at once"
    return [
        ("capacity", f"{format_bytes(machine.capacity_bytes)}, bound by {binding.source} ({binding.path})"),
        (
            "used",
            f"{format_bytes(machine.used_bytes)} = {format_share(machine.used_fraction)} of the capacity",
        ),
        ("available", format_bytes(machine.available_bytes)),
        ("free swap", f"{format_bytes(machine.swap_free_bytes)}, not counted as available"),
        ("pressure", stalled),
    ]


def _row(limit: MemoryLimit, machine: MachineReading) -> tuple[str, ...]:
    figures = (limit.limit_bytes, limit.used_bytes, limit.free_bytes)
    binds = "binds" if limit is machine.binding else ""
    return (*(format_bytes(figure) for figure in figures), limit.source, limit.path, binds)
