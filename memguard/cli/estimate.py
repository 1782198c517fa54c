"""``memguard estimate``: what a command would reserve and why, and how well what was forecast was kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from memguard.cli.command_frame import Naming, complete_word, tell_not_started
from memguard.cli.exits import EXIT_KILLED, EXIT_NOT_STARTED, EXIT_OK, fill_streams, show
from memguard.cli.setting_flags import read_settings, setting_flags
from memguard.config import Settings

__all__ = ["estimate_command"]


@click.command("estimate", context_settings={"allow_interspersed_args": False})
@click.option(
    "--memory",
    metavar="SIZE",
    help="The budget it would be given: 4GiB, 512M, 80%. Default: the setting.",
)
@click.option("--name", help="What to call the job. Default: the command's name.")
@click.option(
    "--calibration", is_flag=True, help="Show how well past forecasts were kept, in place of a command's."
)
@click.option("--kind", metavar="TEXT", help="With --calibration: only of kinds that have this text in them.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="With --calibration: draw it as well, to this PNG file.",
)
@click.option("--force", is_flag=True, help="Replace the file of --picture if it exists.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON document (memguard.estimate/1, with --calibration memguard.calibration/1).",
)
@setting_flags("ledger", "priority", "episodes", "redact")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_word)
def estimate_command(
    *,
    memory: str | None,
    name: str | None,
    calibration: bool,
    kind: str | None,
    picture: Path | None,
    force: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Show what `memguard run` would reserve for COMMAND, without running it: memguard estimate [OPTIONS] -- COMMAND...

    The forecast with its interval, whether its rate is promised, the reasons, the past jobs that moved it most, and
    whether so much is free now, else who has it, what the command would need and what of it would fit.

    Exit status: the one that `memguard run` would come to if nothing changed: 0 it fits and would start now; 125 it
    would have to wait; 137 even the least that jobs like it used is above its budget; 126, 127 it cannot be executed,
    is not found; 2 wrong usage, or more named than there is. With --calibration 0.
    """
    fill_streams()
    _check_usage(command, kind, picture, calibration=calibration)
    settings = read_settings()
    if command:
        return _estimate(command, Naming(memory, name), settings, as_json=as_json)
    from memguard.cli.calibration import show_calibration  # noqa: PLC0415 - only who asks for it pays for it

    return show_calibration(settings, kind or "", picture, force=force, as_json=as_json)


def _check_usage(
    command: tuple[str, ...], kind: str | None, picture: Path | None, *, calibration: bool
) -> None:
    if calibration and command:
        raise click.UsageError("give --calibration or a command, not both")
    if not calibration and not command:
        raise click.UsageError("name a command: memguard estimate -- COMMAND..., or --calibration")
    if not calibration and (kind is not None or picture is not None):
        raise click.UsageError("--kind and --picture go with --calibration")


def _estimate(command: tuple[str, ...], naming: Naming, settings: Settings, *, as_json: bool) -> int:
    from memguard.cli.estimate_view import describe, document  # noqa: PLC0415 - it loads a database
    from memguard.cli.outlook import Verdict, outlook_of  # noqa: PLC0415

    seen = outlook_of(command, naming, settings)
    show(json.dumps(document(seen), indent=2) if as_json else "\n".join(describe(seen)))
    if seen.errno:
        return tell_not_started(command[0], OSError(seen.errno, os.strerror(seen.errno)))
    return {Verdict.NOW: EXIT_OK, Verdict.WAITS: EXIT_NOT_STARTED, Verdict.NEVER: EXIT_KILLED}[seen.verdict]
