"""Texts and queries in the form in which the text index takes them, for any script.

Pure. Where words stand apart by spaces they stay words; runs of scripts that write without spaces become overlapping
pairs of characters and the run's last character, so that a query of one character is the beginning of a token, of two
characters a token, and of more a phrase. Width, case and diacritics make no difference.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["any_of", "fold", "terms_of"]

# Tibetan, Thai, Lao, Myanmar, Khmer; Hangul, which has spaces and joins particles to words; kana, bopomofo, Han.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005\u3007\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN: Final = re.compile(f"[{_UNSPACED}]+")
_PARTS: Final = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")


def fold(text: str) -> str:
    """Return a text as the index takes it."""
    if text.isascii():
        return text
    return _RUN.sub(_spread, _normal(text))


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _spread(run: re.Match[str]) -> str:
    characters = run.group()
    return f" {' '.join(characters[at : at + 2] for at in range(len(characters)))} "


def terms_of(query: str) -> list[str]:
    """Return what a query asks for, each as a term of FTS5's language; nothing where there is no letter or digit.

    Nothing in a query has a meaning beyond itself: quotes, stars and words such as OR are parted at or looked for.
    """
    normal = _normal(query).replace('"', " ").replace("\0", " ")
    parts = (part for chunk in normal.split() for part in _PARTS.findall(chunk))
    return list(dict.fromkeys(_term(part) for part in parts if any(_is_of_word(each) for each in part)))


def _term(part: str) -> str:
    if not _RUN.fullmatch(part):
        return f'"{part}"'
    if len(part) == 1:
        return f'"{part}" *'
    return f'"{" ".join(part[at : at + 2] for at in range(len(part) - 1))}"'


def _is_of_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


def any_of(terms: list[str]) -> str:
    """Return the query for texts that have one of the terms at least."""
    return " OR ".join(terms)
