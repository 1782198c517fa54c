"""docs/settings.md, from the table of settings."""

from __future__ import annotations

from memguard.config import CONFIG_VARIABLE, SETTINGS, Setting
from tools.markdown import table_row

__all__ = ["render"]

_HEAD = f"""\
# Settings

What can be set, and where. The first of these wins, setting by setting:

1. a flag of the command, where the command has it: `--sample-interval-min 20ms`;
2. an environment variable: `MEMGUARD_SAMPLE_INTERVAL_MIN=20ms`;
3. `memguard.toml` in the working directory: `sample_interval_min = "20ms"`;
4. the table `[tool.memguard]` of `pyproject.toml` in the working directory;
5. the default.

Parent directories are not searched: a limit must not come from a place nobody looked at. To use a file from
elsewhere, name it in `{CONFIG_VARIABLE}`; then it is the only file that is read (a `pyproject.toml` by its
table). Relative paths in a file start where the file lies. An unknown name or an impossible value is an error
that names the setting, where it was set, and what would be accepted. `unset` takes an optional setting back.

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
        f"Flag: `{setting.flag}`. Attribute in Python: `settings.{setting.attribute}`.\n"
    )
