"""Flags made from the table of settings, and the settings as a command reads them: its flags first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from memguard.cli.exits import say
from memguard.config import (
    SETTINGS,
    LogLevel,
    Setting,
    Settings,
    describe_unknown,
    load_settings,
    unknown_environment,
)

__all__ = ["JOB_SETTINGS", "read_settings", "setting_flags"]

# What people change from job to job; the rest belongs to the machine, and into a file.
JOB_SETTINGS: Final = ("timeout", "grace", "fence", "redact", "episodes", "log_level", "log_format")
_KEPT: Final = "memguard.flags"
_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}

_F = TypeVar("_F", bound=Callable[..., Any])


def setting_flags(*names: str) -> Callable[[_F], _F]:
    """Give a command the flags of some settings; `read_settings` hands over what was given."""

    def decorate(function: _F) -> _F:
        for name in reversed(names):
            function = _option(_BY_NAME[name])(function)
        return function

    return decorate


def _option(setting: Setting) -> Callable[[_F], _F]:
    def keep(context: click.Context, _: click.Parameter, value: str | None) -> None:
        context.meta.setdefault(_KEPT, {})[setting.name] = value

    choices, examples = setting.kind.choices, setting.kind.examples
    shown = (
        f"{setting.help}{f' Written {examples}.' if examples else ''} Default: {setting.default}, or as set."
    )
    return click.option(
        setting.flag,
        setting.name,
        metavar=None if choices else setting.kind.metavar,
        type=click.Choice(choices, case_sensitive=False) if choices else str,
        help=shown,
        expose_value=False,
        callback=keep,
    )


def read_settings(*, quiet: bool = False) -> Settings:
    """Read the settings for the command that is running, set up its log, and tell of variables that are none.

    Raises:
        ConfigError: as `memguard.config.load_settings`.
    """
    context = click.get_current_context(silent=True)
    settings = load_settings(context.meta.get(_KEPT) if context is not None else None)
    _set_up_log(settings)
    for name in () if quiet else unknown_environment():
        say(describe_unknown(name), LogLevel.WARNING)
    return settings


def _set_up_log(settings: Settings) -> None:
    """Show the log to who asked for it; else errors alone, as the commands say the warnings in words of their own."""
    asked = any(settings.origins[name] != "default" for name in ("log_level", "log_format"))
    # Its import takes longer than a whole `memguard run`, and who has not loaded it logs nothing.
    if asked or "memguard.log" in sys.modules:
        from memguard.log import configure_logging  # noqa: PLC0415

        configure_logging(settings.log_format, settings.log_level if asked else LogLevel.ERROR)
