"""Lines of a terminal: how they look, how wide they are, and what of them fits. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Line", "Style", "clip", "pad", "width_of"]


class Style(StrEnum):
    """How a line looks, beside what it says."""

    PLAIN = ""
    BOLD = "\x1b[1m"
    HEAD = "\x1b[7m"
    FAINT = "\x1b[2m"
    WARN = "\x1b[33m"
    ALARM = "\x1b[31m"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the screen."""

    text: str
    style: Style = Style.PLAIN


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return len(text) if text.isascii() else sum(_cells(each) for each in text)


def _cells(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def clip(text: str, columns: int | None) -> str:
    """Return as much of a text as fits, with a mark where something is missing."""
    if columns is None or width_of(text) <= columns:
        return text
    kept, left = list[str](), columns - 1
    for letter in text:
        left -= _cells(letter)
        if left < 0:
            break
        kept.append(letter)
    return "".join(kept) + "~"


def pad(text: str, width: int, right: bool) -> str:
    """Return a text as wide as it should be."""
    text = clip(text, width)
    blanks = " " * (width - width_of(text))
    return blanks + text if right else text + blanks
