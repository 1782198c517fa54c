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

# What is written without spaces, or, as Hangul, joins particles to words: letters and marks of which Unicode's line
# breaking (UAX 14, of Unicode 14) says that a line may break between them without one: classes SA (a dictionary is
# needed), ID, H2, H3, JL, JV, JT, with CJ and the letters of NS that go with them, and the aksara scripts that got
# classes of their own in Unicode 15.1 (Balinese, Batak, Brahmi, Cham, Dives Akuru, Grantha, Javanese, Kawi, Makasar).
# Tibetan is not among them: its syllables are parted by a mark.
_RANGES: Final = (
    "e01-e3a e40-e4e e81-ecd edc-edf 1000-103f 1050-108f 109a-109d 1100-11ff 1780-17d3 17d7-17d7 17dc-17dd 1950-19c9 "
    "19da-19da 1a20-1a7c 1aa7-1aa7 1b00-1b4c 1b6b-1b73 1bc0-1bf3 3005-3007 3021-3029 3031-3034 3038-303c 3041-3096 "
    "309d-309f 30a1-30fa 30fc-318e 3192-3195 31a0-31bf 31f0-31ff 3220-3229 3251-325f 3280-3289 32b1-32bf 3400-4dbf "
    "4e00-a48c a960-a9c0 a9cf-a9cf a9e0-a9ef a9fa-aa4d aa60-aa76 aa7a-aadd ac00-d7fb f900-fad9 11000-11046 11052-11065 "
    "11070-1107f 11300-11339 1133c-11374 11700-1172b 1173a-1173b 11740-11746 11900-11943 11ee0-11ef6 11f00-11f42 "
    "16fe0-16fe1 16fe3-16fe3 17000-18aff 18d00-18d08 1b000-1b2fb 20000-3ffff"
)
_UNSPACED: Final = "".join(
    f"{chr(int(first, 16))}-{chr(int(last, 16))}"
    for first, last in (each.split("-") for each in _RANGES.split())
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
