"""Chains of references as a picture: one SVG, a column for each culprit, from the root down to what grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from memguard.leaks.records import Culprit
from memguard.units import format_bytes

__all__ = ["picture_of"]

_BOX_WIDTH: Final = 300
_BOX_HEIGHT: Final = 34
_STEP: Final = 58
_GAP: Final = 24
_HEAD: Final = 56
_LONGEST_LABEL: Final = 42


def picture_of(culprits: Sequence[Culprit]) -> str:
    """Return an SVG document that shows who holds what; needs nothing but a browser to look at.

    Args:
        culprits: those to draw, each a column; those without a chain have their type alone.
    """
    columns = [(each, [*each.chain, each.type]) for each in culprits]
    width = _GAP + max(1, len(columns)) * (_BOX_WIDTH + _GAP)
    height = _HEAD + max([len(chain) for _, chain in columns], default=1) * _STEP + _GAP
    parts = [part for place, (each, chain) in enumerate(columns) for part in _column(place, each, chain)]
    return "\n".join((_opening(width, height), *parts, "</svg>\n"))


def _opening(width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13" role="img">\n'
        "<title>Who holds what grows</title>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
    )


def _column(place: int, culprit: Culprit, chain: Sequence[str]) -> Iterator[str]:
    left = _GAP + place * (_BOX_WIDTH + _GAP)
    yield _text(left, 22, culprit.holder or "held by no name", weight="bold")
    yield _text(left, 42, f"{format_bytes(round(culprit.bytes_per_iteration))} an iteration")
    for number, link in enumerate(chain):
        top = _HEAD + number * _STEP
        fill = "#fde2c8" if number == len(chain) - 1 else "#e8eef7"
        yield (
            f'<g><title>{escape(link)}</title><rect x="{left}" y="{top}" width="{_BOX_WIDTH}" '
            f'height="{_BOX_HEIGHT}" rx="6" fill="{fill}" stroke="#557"/>'
        )
        yield f"{_text(left + 10, top + 22, link)}</g>"
        if number:
            middle = left + _BOX_WIDTH // 2
            yield (
                f'<line x1="{middle}" y1="{top - _STEP + _BOX_HEIGHT}" x2="{middle}" y2="{top}" '
                'stroke="#555" marker-end="url(#tip)"/>'
            )


def _text(x: int, y: int, text: str, weight: str = "normal") -> str:
    shown = text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 3]}..."
    return f'<text x="{x}" y="{y}" font-weight="{weight}" fill="#111">{escape(shown)}</text>'
