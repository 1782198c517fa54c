"""What is known of a command before it starts: its budget and the words it is told by, and which jobs it resembles.

Comes in: the command's words and what its user named. Goes out: a `JobFrame`, the same for `memguard run`, which runs
it, and for `memguard estimate`, which does not.
"""

from __future__ import annotations

import errno
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from memguard.budget import bound_told_as, resolve_budget
from memguard.cli.exits import EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND, printable, say
from memguard.config import LogLevel, Settings
from memguard.estimate.likeness import Likeness
from memguard.jobs import capacity_report, machine_for, new_job_id
from memguard.redact import redact_arguments, redact_environment
from memguard.worker.compose import JobFrame
from memguard.worker.spec import BUDGET_VARIABLE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "Naming",
    "command_frame",
    "command_likeness",
    "complete_word",
    "is_budget_named",
    "tell_not_started",
]


@dataclass(frozen=True, slots=True)
class Naming:
    """What the user of a command said of it.

    Attributes:
        memory: its budget as it was typed; ``None`` for that of the settings.
        name: what to call it; ``None`` for the command's own name.
    """

    memory: str | None
    name: str | None = None


def command_frame(command: Sequence[str], naming: Naming, settings: Settings) -> JobFrame:
    """Return the frame of a command.

    Args:
        command: the program and its arguments.
        naming: what its user said of it.
        settings: as read.

    Raises:
        ConfigError, SizeSyntaxError, CapacityExceeded: as `memguard.budget.resolve_budget`.
    """
    machine = machine_for(settings)
    bound = bound_told_as(os.environ.get(BUDGET_VARIABLE, ""), "the enclosing `memguard run` or job")
    budget = resolve_budget(
        naming.memory,
        machine,
        default=settings.memory,
        outer=bound,
        source="--memory",
        default_source=f"memory ({settings.origins['memory']})",
    )
    words, job_id = redact_arguments(command, mode=settings.redact), new_job_id()
    return JobFrame(
        job_id=job_id,
        name=printable(naming.name or os.path.basename(command[0]) or "command"),
        kind="command",
        what=printable(" ".join(words))[:1000],
        started_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        limit_bytes=budget.limit_bytes,
        budget_source=budget.source,
        capacity=capacity_report(machine),
        estimate=None,
        arguments=words,
        environment=redact_environment(os.environ, mode=settings.redact),
        timeout_s=settings.timeout_s,
    )


def is_budget_named(naming: Naming, settings: Settings) -> bool:
    """Whether somebody said how much memory the command needs."""
    return naming.memory is not None or settings.origins["memory"] != "default"


def command_likeness(command: Sequence[str], settings: Settings) -> Likeness:
    """Return which jobs a command resembles."""
    from memguard.forecasting.commands import likeness_of_command  # noqa: PLC0415 - only forecasts need it

    return likeness_of_command(command, redact=settings.redact)


def tell_not_started(command: str, error: OSError) -> int:
    """Say why a command cannot be started, and return the status for that.

    Args:
        command: the program, as it was typed.
        error: what its start met.
    """
    word = printable(command)
    if not command:
        say("the command's name is empty; check the words after --", LogLevel.ERROR)
        return EXIT_NOT_FOUND
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        remedy = "check the name, or give its full path"
        if any(each.isspace() for each in command):
            remedy = f"name and arguments are words of their own: drop the quotes, or use sh -c {shlex.quote(word)}"
        say(f"{word}: command not found; {remedy}", LogLevel.ERROR)
        return EXIT_NOT_FOUND
    say(
        f"{word}: cannot be executed: {error.strerror}; check that it is a program and may be run (chmod +x)",
        LogLevel.ERROR,
    )
    return EXIT_CANNOT_EXECUTE


def complete_word(_context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Leave it to the shell to complete a word of the command as a file."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell that completes needs it

    return [CompletionItem(word, type="file")]
