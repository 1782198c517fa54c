"""``memguard top``: who has the machine's memory and who waits for it, look after look."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from typing import Final

import click

from memguard.cli.exits import say
from memguard.cli.overview import Watch
from memguard.cli.setting_flags import read_settings
from memguard.cli.stopping import StoppedBySignal, stopped_by_signals
from memguard.cli.top_columns import COLUMNS
from memguard.cli.top_view import View, document, frame, pressed, settled
from memguard.config import Settings
from memguard.errors import DurationSyntaxError
from memguard.units import parse_duration

__all__ = ["top_command"]

# Looking more often than that would be a load on the machine that one looks at.
_SHORTEST_INTERVAL_S: Final = 0.1


def _interval(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    try:
        seconds = parse_duration(value)
    except DurationSyntaxError as error:
        raise click.BadParameter(str(error)) from error
    if seconds < _SHORTEST_INTERVAL_S:
        raise click.BadParameter(f"{value} is too short; take 100ms or more")
    return seconds


@click.command("top")
@click.option("--once", is_flag=True, help="Print one look and end, as is done where stdout is no terminal.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a JSON document for each look, on a line of its own (schema memguard.top/1).",
)
@click.option(
    "--interval",
    "interval_s",
    default="1s",
    metavar="TIME",
    callback=_interval,
    help="The time between two looks, 100ms or more. Default: 1s.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N looks.")
@click.option(
    "--sort",
    type=click.Choice([column.name for column in COLUMNS]),
    default="used",
    help="The column to sort by. Default: used.",
)
@click.option("--filter", "part", default="", metavar="TEXT", help="Show jobs whose name contains TEXT.")
def top_command(
    *, once: bool, as_json: bool, interval_s: float, count: int | None, sort: str, part: str
) -> None:
    """Show live who has the machine's memory, who waits for it, and how soon it will be full.

    Keys: q quits, s < > change the column to sort by, r reverses, / filters by name, h tells the rest. Looking
    changes nothing: jobs do not notice it, and it goes on when the ledger comes, goes or breaks. Ctrl-C ends it too,
    with status 0.
    """
    settings = read_settings()
    view = View(sort=sort, filter=part)
    on_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    count = 1 if once or not (as_json or on_terminal or count) else count
    try:
        if as_json or once or not on_terminal:
            _print_looks(settings, view, interval_s, count, as_json=as_json)
        else:
            _show_live(settings, view, interval_s, count)
    except StoppedBySignal:
        raise
    except KeyboardInterrupt:
        return  # the usual way to end it


def _print_looks(
    settings: Settings, view: View, interval_s: float, count: int | None, *, as_json: bool
) -> None:
    watch = Watch(settings, with_actions=False)
    looks = 0
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    with stopped_by_signals():
        while True:
            began_s = time.monotonic()
            seen = watch.look()
            # By click itself: a reader who leaves ends this, and `memguard.cli.main` knows that it is no failure.
            if as_json:
                click.echo(json.dumps(document(seen, view)))
            else:
                click.echo("\n".join(each.text for each in frame(seen, view, columns)))
            for note in seen.machine.notes if looks == 0 else ():
                say(note)
            looks += 1
            if looks == count:
                return
            time.sleep(max(0.0, began_s + interval_s - time.monotonic()))


def _show_live(settings: Settings, view: View, interval_s: float, count: int | None) -> None:
    from memguard.cli.screen import Screen  # noqa: PLC0415 - needs a terminal, which some systems have not

    watch = Watch(settings, with_actions=False)
    ended_by, looks = 0, 0
    with Screen(coloured=not os.environ.get("NO_COLOR")) as screen:
        while not view.is_over and not ended_by and looks != count:
            due_s = time.monotonic() + interval_s
            seen, looks = watch.look(), looks + 1
            screen.draw(frame(seen, view, *screen.size))
            while (left_s := due_s - time.monotonic()) > 0 and not view.is_over and not ended_by:
                for event in screen.wait(left_s):
                    view = settled(pressed(view, event.key), seen, *screen.size)
                    ended_by = ended_by or event.ended_by
                    screen.draw(frame(seen, view, *screen.size))
    if ended_by not in (0, signal.SIGINT):
        raise StoppedBySignal(ended_by)
