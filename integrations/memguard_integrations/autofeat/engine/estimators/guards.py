"""The arguments that autofeat does not have: how much memory, where to spill, whether to do less. Checked in fit."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from memguard.errors import ConfigError
from memguard.units import parse_bytes

__all__ = ["LIGHT_MODES", "GuardSettings", "guard_settings"]

LIGHT_MODES: Final = ("auto", "never")


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What the guard arguments of an estimator mean.

    Attributes:
        memory_bytes: what expansion and selection may hold; None leaves it to them.
        scratch_dir: where columns go that do not fit; None is the system's folder for temporary files.
        light: whether less may be done than was asked for where memory is short.
        selection_bytes: what of the memory is for selection's work; None for a share of it.
    """

    memory_bytes: int | None
    scratch_dir: str | None
    light: bool
    selection_bytes: int | None = None


def guard_settings(estimator: Any) -> GuardSettings:
    """Return what the guard arguments of an estimator mean.

    Raises:
        SizeSyntaxError: ``memory`` is no size.
        ConfigError: ``scratch_dir`` is no folder, or ``light_mode`` is unknown.
    """
    memory = None if estimator.memory is None else parse_bytes(estimator.memory)
    return GuardSettings(memory, _folder(estimator.scratch_dir), _may_do_less(estimator.light_mode))


def _folder(scratch_dir: str | PathLike[str] | None) -> str | None:
    if scratch_dir is None:
        return None
    if not Path(scratch_dir).is_dir():
        raise ConfigError(
            f"{fspath(scratch_dir)!r} is no folder: make it first, or leave `scratch_dir` out",
            setting="scratch_dir",
            origin="argument",
        )
    return fspath(scratch_dir)


def _may_do_less(light_mode: object) -> bool:
    if light_mode not in LIGHT_MODES:
        raise ConfigError(
            f"{light_mode!r} is no light mode: it is one of {', '.join(LIGHT_MODES)}",
            setting="light_mode",
            origin="argument",
        )
    return light_mode == "auto"
