"""Exit statuses: every error of the tree becomes a status and one line here, and nowhere else."""

from __future__ import annotations

import dataclasses
import os
import select
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click

from memguard.config import LogLevel
from memguard.errors import (
    CapacityExceeded,
    ConfigError,
    DataError,
    DurationSyntaxError,
    EpisodeInvalid,
    JobError,
    JobInterrupted,
    JobTimeout,
    LedgerError,
    MemguardError,
    MemoryLimitExceeded,
    MissingExtra,
    ReservationTimeout,
    SizeSyntaxError,
    WorkerStartError,
)
from memguard.files import give_up_on
from memguard.report import JobReport, Outcome
from memguard.story import tell_death

__all__ = [
    "EXIT_CANNOT_EXECUTE",
    "EXIT_FAILED",
    "EXIT_INCONCLUSIVE",
    "EXIT_INTERRUPTED",
    "EXIT_KILLED",
    "EXIT_NOT_FOUND",
    "EXIT_NOT_STARTED",
    "EXIT_OK",
    "EXIT_TIMEOUT",
    "EXIT_USAGE",
    "fill_streams",
    "log_is_json",
    "printable",
    "say",
    "say_death",
    "say_nowait",
    "show",
    "status_of_command",
    "status_of_error",
    "stderr_has_room",
    "tell_error",
]

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
# Of `memguard leaks` alone, whose 0 and 1 are verdicts.
EXIT_INCONCLUSIVE: Final = 3
# coreutils' `timeout` ends with this status; only memguard's own jobs do, a wrapped command keeps its status.
EXIT_TIMEOUT: Final = 124
# The next three as `env`, `timeout` and `docker run` have them.
EXIT_NOT_STARTED: Final = 125
EXIT_CANNOT_EXECUTE: Final = 126
EXIT_NOT_FOUND: Final = 127
EXIT_INTERRUPTED: Final = 130
# 128 + SIGKILL: what schedulers key their out-of-memory rules on.
EXIT_KILLED: Final = 137
_LAST_STREAM: Final = 2

_BY_ERROR: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (SizeSyntaxError, EXIT_USAGE),
    (DurationSyntaxError, EXIT_USAGE),
    (ConfigError, EXIT_USAGE),
    (DataError, EXIT_USAGE),
    (CapacityExceeded, EXIT_USAGE),
    (EpisodeInvalid, EXIT_USAGE),
    (MissingExtra, EXIT_NOT_STARTED),
    (WorkerStartError, EXIT_NOT_STARTED),
    (ReservationTimeout, EXIT_NOT_STARTED),
    (LedgerError, EXIT_NOT_STARTED),
    (MemoryLimitExceeded, EXIT_KILLED),
    (JobTimeout, EXIT_TIMEOUT),
    (JobInterrupted, EXIT_INTERRUPTED),
    (JobError, EXIT_FAILED),
    (MemguardError, EXIT_FAILED),
    (KeyboardInterrupt, EXIT_INTERRUPTED),
    (click.exceptions.Abort, EXIT_INTERRUPTED),
    (click.UsageError, EXIT_USAGE),
)


def status_of_error(error: BaseException) -> int | None:
    """Return the exit status for an error, or ``None`` for one that is a fault of memguard itself."""
    own = getattr(error, "exit_status", None)
    if isinstance(error, MemguardError | KeyboardInterrupt) and isinstance(own, int):
        return own
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), None)


def status_of_command(report: JobReport, exit_code: int) -> int:
    """Return what `memguard run` exits with: the command's own status, 128 + n for signal n, 137 for a memory kill.

    Args:
        report: the command's report.
        exit_code: as `subprocess` has it, negative for a signal.
    """
    if report.outcome in (Outcome.BUDGET_KILL, Outcome.KERNEL_OOM):
        return EXIT_KILLED
    return exit_code if exit_code >= 0 else 128 - exit_code


def tell_error(error: BaseException) -> None:
    """Say what went wrong, on stderr."""
    if isinstance(error, KeyboardInterrupt | click.exceptions.Abort):
        _end_line_of_ctrl_c()
        say(str(error) or "interrupted", LogLevel.ERROR)
    elif isinstance(error, JobError) and error.report is not None and error.report.death is not None:
        say_death(error.report)
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), file=sys.stderr)
    elif isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx is not None else "memguard"
        say(f"{' '.join(error.format_message().split())} (see `{where} --help`)", LogLevel.ERROR)
    else:
        say(str(error), LogLevel.ERROR)


def _end_line_of_ctrl_c() -> None:
    # A terminal has shown ^C, and the cursor stands behind it.
    if sys.stderr is not None and sys.stderr.isatty() and not log_is_json():
        click.echo(file=sys.stderr)


def printable(text: str) -> str:
    """Return a text in which nothing moves a terminal's cursor: line ends and control characters are spelt out."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def show(text: str) -> None:
    """Print data on stdout. A reader who leaves, as `head` does, has what he wanted: that is no failure.

    Whether he is still there when the last word is written is chance, so it has no part in the exit status.
    """
    try:
        click.echo(text)
    except BrokenPipeError:
        give_up_on(sys.stdout)


def say(text: str, level: LogLevel = LogLevel.INFO, fields: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write words to stderr: marked as memguard's own, or as a line of the log where that is JSON.

    Where stderr is closed, full or read by nobody they are lost, and never the reason why a job fails.

    Args:
        text: what to say.
        level: how serious it is, for the log.
        fields: parts of it, for the log.
    """
    if sys.stderr is None:
        return
    if log_is_json():
        from memguard.log import log_words  # noqa: PLC0415 - as below

        log_words(text, level, fields)
        return
    try:
        click.echo(f"memguard: {text}", file=sys.stderr)
    except OSError:
        give_up_on(sys.stderr)


def log_is_json() -> bool:
    """Whether stderr has JSON lines, and no other words."""
    if "memguard.log" not in sys.modules:
        return False
    from memguard.log import shows_json  # noqa: PLC0415 - who asked for a log has loaded it

    return shows_json()


def say_death(report: JobReport) -> None:
    """Tell how a job died; in a log of JSON lines each part is a field."""
    death = report.death
    if death is None or not log_is_json():
        say(tell_death(report))
        return
    parts = dataclasses.asdict(death)
    parts["what_next"] = "; ".join(death.what_next)
    say(f"{parts.pop('who')}: {parts.pop('why_now')}", LogLevel.ERROR, parts)


def say_nowait(text: str) -> None:
    """Like `say`, but lose the words where stderr is a full pipe: who guards must not wait for a reader."""
    if stderr_has_room():
        say(text)


def stderr_has_room() -> bool:
    """Whether somebody can be told something without waiting for him to read."""
    return sys.stderr is not None and bool(select.select([], [sys.stderr], [], 0)[1])


def fill_streams() -> None:
    """Open the null device in place of each standard stream that is closed.

    The next file to be opened would get its number, and whatever a library writes to stderr would end up in it. Not for
    a wrapped command, which must find closed what was closed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STREAM:
        pass
    os.close(descriptor)
