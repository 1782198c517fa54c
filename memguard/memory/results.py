"""What became of a batch: its value, or why it has none, with nothing that keeps its rows alive.

A traceback keeps the frames of the work, and a frame its rows and all that was made of them: so the frames of a
failed batch are emptied at once, and a failure that is kept has no traceback, only the place as text.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Generic, TypeVar

__all__ = ["BatchFailure", "BatchResult", "empty_frames", "strip_frames", "words_of"]

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[T_co]):
    """What a function made of rows ``start`` to ``stop`` (exclusive), counted from the first row of all."""

    start: int
    stop: int
    value: T_co


@dataclass(frozen=True, slots=True)
class BatchFailure:
    """Rows ``start`` to ``stop`` (exclusive) have no result.

    Attributes:
        start: the first of them, counted from the first row of all.
        stop: the one behind the last of them.
        error: what the function raised, without its traceback.
        where: the innermost place it came from, ``in function (file.py:12)``, or ``""``.
    """

    start: int
    stop: int
    error: Exception
    where: str = ""

    def __str__(self) -> str:
        return f"rows {self.start}:{self.stop} failed: {words_of(self.error)}"


def words_of(error: BaseException) -> str:
    """Return type and message of an error; never raises, whatever the error's own code does."""
    return "".join(traceback.format_exception_only(error)).strip()


def empty_frames(error: BaseException, around: BaseException | None) -> str:
    """Empty all frames that an error came through, so that it keeps no data alive.

    Args:
        error: what was caught.
        around: what was being handled when the work began; it and what is behind it are not this error's.

    Returns:
        The innermost place, for `BatchFailure.where`.
    """
    where = _place_of(error)
    for each in _chain(error, around):
        traceback.clear_frames(each.__traceback__)
    return where


def strip_frames(error: BaseException, around: BaseException | None) -> None:
    """Take away the tracebacks of an error and of those behind it: even empty frames keep their callers' alive."""
    for each in list(_chain(error, around)):
        each.__traceback__ = None
        if each.__context__ is around:
            each.__context__ = None


def _place_of(error: BaseException) -> str:
    places = list(traceback.walk_tb(error.__traceback__))
    if not places:
        return ""
    frame, line = places[-1]
    return f"in {frame.f_code.co_qualname} ({PurePath(frame.f_code.co_filename).name}:{line})"


def _chain(error: BaseException, around: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that it was raised from, while handling, or is a group of; each once."""
    waiting, seen = [error], {id(around), id(None)}
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        parts = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        waiting += [part for part in (each.__cause__, each.__context__, *parts) if part is not None]
