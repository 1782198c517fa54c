"""``memguard leaks``: whether a function, a command or a process leaks, how much, what, and who holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from memguard.cli.exits import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, fill_streams, show
from memguard.cli.leaks_view import describe, document
from memguard.cli.setting_flags import JOB_SETTINGS, read_settings, setting_flags
from memguard.cli.stopping import stopped_by_signals
from memguard.files import check_output, whole_file
from memguard.leaks.findings import Findings
from memguard.leaks.pictures import picture_of
from memguard.leaks.records import Verdict
from memguard.units import parse_duration

__all__ = ["leaks_command"]

_WATCHED: Final = "memguard.watched"
_STATUS: Final = {
    Verdict.STABLE: EXIT_OK,
    Verdict.LEAKING: EXIT_FAILED,
    Verdict.INCONCLUSIVE: EXIT_INCONCLUSIVE,
}


class _WithCommand(click.Command):
    """Takes what stands behind ``--`` as a command of its own, with its own flags."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            args, ctx.meta[_WATCHED] = args[:place], tuple(args[place + 1 :])
        return super().parse_args(ctx, args)


def _duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    return None if value is None else parse_duration(value)


@click.command("leaks", cls=_WithCommand)
@click.argument("target", metavar="[MODULE:FUNCTION | -- COMMAND...]", required=False)
@click.option(
    "--pid",
    type=click.IntRange(1),
    metavar="PID",
    help="Watch a process that runs already, and its children.",
)
@click.option(
    "--iterations",
    type=click.IntRange(2),
    default=100,
    show_default=True,
    help="How often to call the function; small leaks take some 40 calls, those below noise 200.",
)
@click.option(
    "--for",
    "time_s",
    callback=_duration,
    metavar="TIME",
    help="How long to look at most: 90, 5m. No call is begun, no sample taken after that. Default: 10m.",
)
@click.option(
    "--every",
    "interval_s",
    callback=_duration,
    default="1s",
    show_default=True,
    metavar="TIME",
    help="Time between two samples of a command or process: its iterations.",
)
@click.option("--memory", metavar="SIZE", help="Budget of the child: 4GiB, 512M, 80%. Default: the setting.")
@click.option("--svg", type=click.Path(path_type=Path), help="Draw who holds what grows, to this file.")
@click.option("--force", is_flag=True, help="Replace the file of --svg if it exists.")
@click.option(
    "--contents",
    is_flag=True,
    help="Show keys and newest entries of what grew (this runs their __repr__). Else types and sizes alone.",
)
@click.option("--no-trace", is_flag=True, help="Do not run the function again to find where it allocates.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (memguard.leaks/1) on stdout.")
@click.option(
    "-q", "--quiet", is_flag=True, help="Say nothing while it runs. The report is printed all the same."
)
@setting_flags(*JOB_SETTINGS)
@click.pass_context
def leaks_command(
    context: click.Context,
    *,
    target: str | None,
    pid: int | None,
    iterations: int,
    time_s: float | None,
    interval_s: float,
    memory: str | None,
    svg: Path | None,
    force: bool,
    contents: bool,
    no_trace: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Say whether MODULE:FUNCTION, a running COMMAND or a process leaks, how much, what, and who holds it.

    The function is called again and again in a fresh child with a memory budget; modules are looked for in the
    current folder first. It takes nothing, or the number of the iteration; a `setup()` beside it is called before,
    once. What it prints goes to stderr. A command and a process are watched from outside: then nobody can say who holds
    what grows. Exit status: 0 stable, 1 leaking, 3 inconclusive (the report says what would decide).
    """
    fill_streams()
    watched: tuple[str, ...] = context.meta.get(_WATCHED, ())
    _check_one(target, pid, watched, has_dashes=_WATCHED in context.meta)
    if svg is not None:
        check_output(svg, force=force)
    settings = read_settings(quiet=quiet)
    with stopped_by_signals():
        if target is not None:
            from memguard.cli.leaks_of_function import Wishes, look_at_function  # noqa: PLC0415 - it loads a database

            wishes = Wishes(iterations, time_s, memory, contents, not no_trace, quiet)
            found = look_at_function(target, wishes, settings)
        else:
            from memguard.cli.leaks_from_outside import look_from_outside  # noqa: PLC0415 - as above

            found = look_from_outside(pid, watched, memory, interval_s, time_s, quiet=quiet)
    if found.status is not None:
        return found.status  # the command could not be started, and somebody has said so
    return _tell(found, svg, force=force, as_json=as_json)


def _check_one(target: str | None, pid: int | None, watched: tuple[str, ...], *, has_dashes: bool) -> None:
    if has_dashes and not watched:
        raise click.UsageError("behind -- there is no command")
    given = [each for each in (target, pid, watched or None) if each is not None]
    if len(given) != 1:
        raise click.UsageError("name one thing to look at: MODULE:FUNCTION, or --pid PID, or -- COMMAND...")


def _tell(found: Findings, svg: Path | None, *, force: bool, as_json: bool) -> int:
    if svg is not None:
        with whole_file(svg, force=force) as beside:
            beside.write_text(picture_of(found.report.culprits), encoding="utf-8")
    told: Any = json.dumps(document(found), indent=2) if as_json else "\n".join(describe(found))
    show(told)
    return _STATUS[found.report.verdict]
