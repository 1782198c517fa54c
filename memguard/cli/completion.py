"""``memguard completion``: the script that completes memguard's commands and flags in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from memguard.cli.exits import show

__all__ = ["completion_command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(*, shell: str) -> None:
    """Print the completion script of SHELL.

    Install it for bash with `memguard completion bash > ~/.local/share/bash-completion/completions/memguard`, for zsh
    into a folder of $fpath as `_memguard`, for fish into ~/.config/fish/completions/memguard.fish.
    """
    from memguard.cli.main import COMPLETION_VARIABLE, cli  # noqa: PLC0415 - the group that loads this command

    kind = get_completion_class(shell)
    assert kind is not None
    show(kind(cli, {}, "memguard", COMPLETION_VARIABLE).source())
