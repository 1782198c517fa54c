"""How values are read: text becomes a typed value once, and a value can be shown as text again."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from memguard.errors import DurationSyntaxError
from memguard.units import (
    DURATION_FORMS,
    SIZE_FORMS,
    SMALLEST_BUDGET_BYTES,
    Size,
    format_bytes,
    guess_unit,
    parse_duration,
    parse_size,
)

__all__ = [
    "FRACTION",
    "PATH",
    "SIZE",
    "STORE",
    "FenceChoice",
    "Kind",
    "LedgerChoice",
    "LogFormat",
    "LogLevel",
    "Redaction",
    "Switch",
    "choice",
    "default_episodes",
    "duration",
    "fraction",
    "show_duration",
    "shown",
    "whole_number",
]


Scalar = str | int | float | None


class FenceChoice(StrEnum):
    """What holds a job to its budget besides the watching supervisor."""

    AUTO = "auto"
    CGROUP = "cgroup"
    RLIMIT = "rlimit"
    NONE = "none"


class LedgerChoice(StrEnum):
    """Whether jobs share the machine's memory by its ledger."""

    AUTO = "auto"
    OFF = "off"


class Switch(StrEnum):
    """Whether something is done."""

    AUTO = "auto"
    OFF = "off"


class LogFormat(StrEnum):
    """How the command line writes its log; ``auto`` is text, with colour where a terminal reads it."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least serious message that is still logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Redaction(StrEnum):
    """Which recorded arguments and variables lose their value in reports."""

    AUTO = "auto"
    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of one sort are read and shown.

    Attributes:
        forms: the accepted forms, for messages and pages.
        parse: text to value; raises `ValueError` for anything that is not one of the forms.
        show: value to a text that `parse` reads as the same value.
        metavar: what stands for a value in a line of usage.
        plain: value to a JSON scalar and what that counts: ``bytes``, ``fraction`` (of the capacity for a
            size, of the budget for the warning line), ``s``, or ``""`` for nothing.
        choices: all values there are, where they can be listed.
        examples: some values, where a line of usage has room for no more.
    """

    forms: str
    metavar: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    plain: Callable[[Any], tuple[Scalar, str]]
    choices: tuple[str, ...] = ()
    examples: str = ""


def shown(text: str) -> str:
    """Quote what somebody wrote, cut where it is long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _parse_size(text: str) -> Size:
    size = parse_size(text)
    if not (size.absolute_bytes or size.fraction):
        raise ValueError(f"{shown(text)} is no memory at all")
    if size.absolute_bytes is not None and size.absolute_bytes < SMALLEST_BUDGET_BYTES:
        least = f"too small to run anything, the least is {format_bytes(SMALLEST_BUDGET_BYTES)}"
        raise ValueError(
            f"{shown(text)} is {format_bytes(size.absolute_bytes)}, {least}{guess_unit(size.text)}"
        )
    return size


def _plain_size(size: Size) -> tuple[Scalar, str]:
    return (size.fraction, "fraction") if size.absolute_bytes is None else (size.absolute_bytes, "bytes")


def _plain_text(value: object) -> tuple[Scalar, str]:
    return str(value), ""


def fraction(most: int = 100) -> Kind:
    """Return the kind of percentages above 0 and up to ``most``."""

    def parse(text: str) -> float:
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%", text.strip())
        if match is None or not 0 < float(match[1]) <= most:
            raise ValueError(f"{shown(text)} cannot be read")
        return float(match[1]) / 100

    return Kind(
        f"a percentage above 0% and up to {most}%, such as {'80%' if most >= 80 else '5%'}",
        "SHARE",
        parse,
        lambda share: f"{share * 100:.10g}%",
        lambda share: (share, "fraction"),
    )


def duration(minimum_s: float) -> Kind:
    """Return the kind of durations that are ``minimum_s`` seconds or longer."""

    def parse(text: str) -> float:
        try:
            seconds = parse_duration(text)
        except DurationSyntaxError:
            raise ValueError(f"{shown(text)} is not a duration") from None
        if seconds < minimum_s:
            raise ValueError(f"{shown(text)} is too short")
        return seconds

    forms = DURATION_FORMS + (f"; at least {show_duration(minimum_s)}" if minimum_s else "")
    return Kind(forms, "T", parse, show_duration, lambda seconds: (seconds, "s"), examples="90s, 5m, 4h")


def show_duration(seconds: float) -> str:
    """Write seconds so that they can be typed back: ``"10ms"``, ``"300s"``."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def whole_number(minimum: int, maximum: int) -> Kind:
    """Return the kind of whole numbers from ``minimum`` to ``maximum``, both included."""
    forms = f"a whole number from {minimum} to {maximum}"

    def parse(text: str) -> int:
        # At most nine digits: int() refuses thousands of them in words that help nobody.
        if re.fullmatch(r"-?[0-9]{1,9}", text.strip()) and minimum <= int(text) <= maximum:
            return int(text)
        raise ValueError(f"{shown(text)} is not {forms}")

    return Kind(forms, "N", parse, str, lambda number: (number, ""))


def choice(choices: type[StrEnum]) -> Kind:
    """Return the kind of the members of ``choices``, in small or capital letters."""
    forms = "one of " + ", ".join(choices)

    def parse(text: str) -> StrEnum:
        try:
            return choices(text.strip().lower())
        except ValueError:
            raise ValueError(f"{shown(text)} is not {forms}") from None

    return Kind(forms, "|".join(choices), parse, str, _plain_text, tuple(choices))


def _parse_path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(f"{shown(text)} is not a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{shown(text)} is in the home of somebody who has none here") from None


def default_episodes(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return where this user's past jobs are kept: ``$XDG_STATE_HOME/memguard/episodes``; ``None`` without a home."""
    state = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return Path(state) / "memguard" / "episodes"
    home = environ.get("HOME", "")
    return Path(home, ".local", "state", "memguard", "episodes") if os.path.isabs(home) else None


def _parse_store(text: str) -> Path | None:
    return default_episodes() if text.strip() == "auto" else _parse_path(text)


SIZE: Final = Kind(SIZE_FORMS, "SIZE", _parse_size, lambda size: str(size.text), _plain_size)
FRACTION: Final = fraction()
PATH: Final = Kind("a path (in a file: relative to that file)", "DIR", _parse_path, str, _plain_text)
STORE: Final = Kind(
    "a path (in a file: relative to that file), or auto", "DIR", _parse_store, str, _plain_text
)
