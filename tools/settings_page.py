"""docs/settings.md, from the table of settings."""

from __future__ import annotations

import importlib
from functools import cache

from memguard.cli.main import COMMANDS
from memguard.config import CONFIG_VARIABLE, SETTINGS, Setting
from tools.markdown import table_row

__all__ = ["commands_with", "render"]

_HEAD = f"""\
# Settings

What can be set, and where. The first of these wins, setting by setting:

1. a flag, where the command has one: `memguard run --grace 20s -- ...`;
2. an environment variable: `MEMGUARD_GRACE=20s`;
3. `memguard.toml` in the working directory: `grace = "20s"`;
4. the table `[tool.memguard]` of `pyproject.toml` in the working directory;
5. the default.

Parent directories are not searched: a limit must not come from a place nobody looked at. To use a file from
elsewhere, name it in `{CONFIG_VARIABLE}`; then it is the only file that is read (a `pyproject.toml` by its
table). Relative paths in a file start where the file lies. An impossible value, or an unknown name in a file, is an
error that names the setting, where it was set, and what would be accepted. An unknown `MEMGUARD_*` variable is told
in one line by every command and counts for nothing: a job inherits variables that another version may know. `unset`
takes an optional setting back.

`memguard config` shows every setting, its value and where that came from; `memguard config --json` is for
programs.
"""


def render() -> str:
    """Return the page."""
    overview = [table_row("setting", "default", "variable"), table_row("---", "---", "---")]
    overview += [
        table_row(f"[`{each.name}`](#{each.name})", f"`{each.default}`", f"`{each.environment}`")
        for each in SETTINGS
    ]
    return "\n".join([_HEAD, *overview, "", *(_section(setting) for setting in SETTINGS)]).rstrip() + "\n"


def _section(setting: Setting) -> str:
    return (
        f"## `{setting.name}`\n\n{setting.help}\n\nForms: {setting.forms}. Default: `{setting.default}`. "
        f"{_flag(setting)} Attribute in Python: `settings.{setting.attribute}`.\n"
    )


def _flag(setting: Setting) -> str:
    commands = commands_with(setting.flag)
    if not commands:
        return "No command has a flag for it."
    return f"Flag: `{setting.flag}` of {' and '.join(f'`memguard {name}`' for name in commands)}."


def commands_with(flag: str) -> list[str]:
    """Return the commands of the command line that have a flag, in order."""
    return [name for name, flags in _flags().items() if flag in flags]


@cache
def _flags() -> dict[str, frozenset[str]]:
    commands = {
        name: getattr(importlib.import_module(module), attribute)
        for name, (module, attribute) in COMMANDS.items()
    }
    return {
        name: frozenset(word for parameter in command.params for word in parameter.opts)
        for name, command in commands.items()
    }
