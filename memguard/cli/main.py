"""``memguard``: the entry point. Commands are loaded when they are called, so that wrapping a command starts fast."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Final

import click

from memguard.cli.exits import EXIT_FAILED, EXIT_OK, say, status_of_error, tell_error
from memguard.files import give_up_on

__all__ = ["COMMANDS", "COMPLETION_VARIABLE", "cli", "main"]

# Set by the scripts of `memguard completion`.
COMPLETION_VARIABLE: Final = "_MEMGUARD_COMPLETE"
# What a write of our output can meet; memguard's own errors are known by their types.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
# name -> module and attribute
COMMANDS: Final = {
    "autofeat": ("memguard.cli.autofeat", "autofeat_command"),
    "completion": ("memguard.cli.completion", "completion_command"),
    "config": ("memguard.cli.config", "config_command"),
    "doctor": ("memguard.cli.doctor", "doctor_command"),
    "episodes": ("memguard.cli.episodes", "episodes_command"),
    "estimate": ("memguard.cli.estimate", "estimate_command"),
    "leaks": ("memguard.cli.leaks", "leaks_command"),
    "report": ("memguard.cli.report", "report_command"),
    "run": ("memguard.cli.run", "run_command"),
    "runbook": ("memguard.cli.runbook", "runbook_command"),
    "sentinel": ("memguard.cli.sentinel", "sentinel_command"),
    "status": ("memguard.cli.status", "status_command"),
    "top": ("memguard.cli.top", "top_command"),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="automl-memguard", prog_name="memguard")
def cli() -> None:
    """Run AutoML jobs and other commands inside a memory budget.

    Exit status: 0 done; 1 the job failed; 2 wrong usage or unusable data; 125 memguard could not start the job,
    126 the command cannot be executed, 127 it was not found; 124 its time was up, 130 interrupted, 143 stopped by
    SIGTERM; 137 killed for its memory. `memguard leaks` exits with its verdict: 0 stable, 1 leaking, 3 inconclusive,
    `memguard estimate` with what `memguard run` would come to, and `memguard run` otherwise with the command's own
    status, or 128 + n if signal n killed it.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    try:
        status = _invoke(sys.argv[1:] if arguments is None else arguments)
    except click.exceptions.Exit as leave:
        status = leave.exit_code
    except BrokenPipeError:
        give_up_on(sys.stdout)  # in click's own output; see `show`
        status = EXIT_OK
    except BaseException as error:
        known = status_of_error(error)
        if known is not None:
            tell_error(error)
            status = known
        elif isinstance(error, OSError) and error.errno in _FULL:
            give_up_on(sys.stdout)
            say(f"the output could not be written: {error.strerror}; make room, or send it elsewhere")
            status = EXIT_FAILED
        else:
            raise
    sys.exit(status if isinstance(status, int) else EXIT_OK)


def _invoke(words: list[str]) -> object:
    """Run a command. Not by click's own `main`, which has other exit statuses for a Ctrl-C and for a broken pipe."""
    if COMPLETION_VARIABLE in os.environ:
        return cli.main(args=words, prog_name="memguard")
    with cli.make_context("memguard", words) as context:
        return cli.invoke(context)
