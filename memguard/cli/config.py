"""``memguard config``: every setting, its value, and where the value came from."""

from __future__ import annotations

import json
import os
from typing import Final

import click

from memguard.cli.exits import show
from memguard.cli.setting_flags import read_settings
from memguard.config import SETTINGS, Setting, Settings, unknown_environment

__all__ = ["SCHEMA", "config_command"]

SCHEMA: Final = "memguard.config/1"


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (schema memguard.config/1).")
def config_command(*, as_json: bool) -> None:
    """Show every setting, its value, and where the value came from.

    The first of these wins, setting by setting: a flag, a MEMGUARD_* variable, memguard.toml,
    [tool.memguard] in pyproject.toml, the default. The two files are looked for in the working directory
    only; MEMGUARD_CONFIG names another file, which is then the only one read.
    """
    settings, unknown = read_settings(), unknown_environment(os.environ)
    show(json.dumps(document(settings, unknown), indent=2) if as_json else table(settings))


def document(settings: Settings, unknown: tuple[str, ...]) -> dict[str, object]:
    """Return what ``--json`` prints."""
    lines = [_described(setting, settings) for setting in SETTINGS]
    return {"schema": SCHEMA, "settings": lines, "unknown_environment": list(unknown)}


def _described(setting: Setting, settings: Settings) -> dict[str, object]:
    held = getattr(settings, setting.attribute)
    value, unit = setting.plain(held)
    return {
        "name": setting.name,
        "text": setting.show(held),
        "value": value,
        "unit": unit,
        "origin": settings.origins[setting.name],
        "default": setting.default,
        "environment": setting.environment,
        "help": setting.help,
    }


def table(settings: Settings) -> str:
    """Return the settings as aligned lines for people: name, value, origin."""
    rows = [
        (setting.name, setting.show(getattr(settings, setting.attribute)), settings.origins[setting.name])
        for setting in SETTINGS
    ]
    name_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{name:{name_width}}  {value:{value_width}}  {origin}" for name, value, origin in rows)
