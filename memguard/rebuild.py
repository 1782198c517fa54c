"""Rebuilding records from plain data: each field as its annotation says. Pure.

Comes in: what a JSON document holds, which may be anything. Goes out: a frozen record, or an error that names the
field.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from enum import StrEnum
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

__all__ = ["rebuild", "shown"]

# Figures of a document are taken up to here: beyond it they are damage, and readers' integers end.
_LARGEST_FIGURE: Final = 2**63


def rebuild(cls: type, values: Mapping[str, Any]) -> Any:
    """Return a record of a dataclass; keys that it does not know are ignored.

    Raises:
        TypeError, ValueError: for a value that is none of its field's.
    """
    hints = get_type_hints(cls)
    known = {each.name: each for each in dataclasses.fields(cls)}
    return cls(**{name: _field(name, hints[name], values[name]) for name in known if name in values})


def _field(name: str, hint: Any, value: Any) -> Any:
    try:
        if hint is float and isinstance(value, float) and _LARGEST_FIGURE < abs(value) < math.inf:
            raise ValueError("a number beyond 2^63")
        return _value(hint, value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def _value(hint: Any, value: Any) -> Any:
    """Return ``value`` as what a field's annotation says; a file may hold anything.

    Raises:
        TypeError: if it cannot be that.
        ValueError: if it is no member of an enum.
    """
    if isinstance(hint, UnionType):
        fitting = [each for each in get_args(hint) if (each is type(None)) == (value is None)]
        return _first_that_fits(fitting, value)
    if dataclasses.is_dataclass(hint):
        return rebuild(hint, _checked(value, dict))  # type: ignore[arg-type]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        return tuple(_value(inner[0], each) for each in _checked(value, list))
    if origin is Mapping:
        return {name: _value(inner[1], each) for name, each in _checked(value, dict).items()}
    return _checked(value, hint)


def _first_that_fits(hints: list[Any], value: Any) -> Any:
    for hint in hints:
        with contextlib.suppress(TypeError):
            return _value(hint, value)
    raise TypeError(f"{shown(value)} does not belong here")


def _checked(value: Any, kind: Any) -> Any:
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{shown(value)} where {kind.__name__} belongs")
    if isinstance(value, int) and abs(value) > _LARGEST_FIGURE:
        raise ValueError("a number beyond 2^63")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no figure")
    return value


def shown(value: Any) -> str:
    """Return a value of a file for a message: short, and without looking into what may be deep or huge."""
    return (
        f"{value!r:.40}" if isinstance(value, str | float | bool | None) else f"some {type(value).__name__}"
    )
