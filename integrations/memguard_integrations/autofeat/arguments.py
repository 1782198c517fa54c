"""What arguments may be: a name out of a few, a whole number, AutoFeat's own transformations. Pure."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Final, TypeVar

from memguard.errors import DataError, DurationSyntaxError, SizeSyntaxError
from memguard.units import parse_duration, parse_size

__all__ = [
    "TRANSFORMATIONS",
    "check_duration",
    "check_size",
    "choice",
    "transformation_names",
    "whole_number",
]

# What autofeat 2.1.3 knows; it meets any other with a KeyError in the midst of a fit.
TRANSFORMATIONS: Final = (
    *("exp", "exp-", "log", "abs", "sqrt", "sin", "cos"),
    *("2^", "^2", "^3", "1+", "1-", "1/"),
)

Kind = TypeVar("Kind", bound=StrEnum)


def choice(kind: type[Kind], value: Any, argument: str) -> Kind:
    """Return the member that is meant.

    Raises:
        DataError: for anything else; it names the choices.
    """
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(repr(each.value) for each in kind)
        raise DataError(
            f"{value!r} is none of {choices}", subject=argument, remedy="use one of them"
        ) from None


def whole_number(value: Any, argument: str, *, least: int) -> int:
    """Return a whole number of at least ``least``; numpy's are whole numbers too, ``True`` is none.

    Raises:
        DataError: for anything else.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise DataError(
            f"{value!r} is no whole number", subject=argument, remedy=f"use a whole number, {least} or more"
        )
    if number < least:
        raise DataError(f"{number} is too few", subject=argument, remedy=f"use {least} or more")
    return number


def transformation_names(names: Iterable[Any], argument: str = "transformations") -> tuple[str, ...]:
    """Return the names as a tuple.

    Raises:
        DataError: for a single text, which would be taken letter by letter, for what can be gone through once
            only, and for a name that AutoFeat does not know.
    """
    # An iterator would be used up by this very look.
    if isinstance(names, str | Iterator) or not isinstance(names, Iterable):
        raise DataError(f"{names!r} is no list of names", subject=argument, remedy='write ["log", "^2"]')
    result = tuple(names)
    unknown = next((name for name in result if name not in TRANSFORMATIONS), None)
    if unknown is not None:
        near = difflib.get_close_matches(str(unknown), TRANSFORMATIONS, n=1)
        raise DataError(
            f"{unknown!r} is none that AutoFeat knows",
            subject=argument,
            remedy=f"use {', '.join(TRANSFORMATIONS)}" + (f"; did you mean {near[0]!r}?" if near else ""),
        )
    return result


def check_size(value: Any, argument: str) -> None:
    """Refuse what is no size; whether there is that much is asked when it is needed.

    Raises:
        SizeSyntaxError: it names the argument and the forms.
    """
    try:
        if value is not None:
            parse_size(value)
    except SizeSyntaxError as error:
        raise SizeSyntaxError(f"{argument}: {error}", text=error.text) from None


def check_duration(value: Any, argument: str) -> None:
    """Refuse what is no duration.

    Raises:
        DurationSyntaxError: it names the argument and the forms.
    """
    try:
        if value is not None:
            parse_duration(value)
    except DurationSyntaxError as error:
        raise DurationSyntaxError(f"{argument}: {error}", text=error.text) from None
