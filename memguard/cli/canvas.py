"""A small canvas of pixels that becomes a PNG file: fields, lines, discs and words, in plain Python.

For the one picture that memguard draws it brings no library. A picture of a million pixels takes about a second.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Final

from memguard.cli.glyphs import COLUMNS, glyph

__all__ = ["Canvas", "Color", "text_width"]

Color = tuple[int, int, int]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# Eight bits for each of red, green and blue; no palette, no interlacing.
_RGB8: Final = (8, 2, 0, 0, 0)


def text_width(text: str, scale: int = 2) -> int:
    """Return how many pixels a text takes from left to right."""
    return max(0, len(text) * (COLUMNS + 1) - 1) * scale


class Canvas:
    """Pixels, from the left and from the top; what lies outside is not drawn.

    Args:
        width: in pixels.
        height: in pixels.
        background: its color.
    """

    def __init__(self, width: int, height: int, background: Color = (255, 255, 255)) -> None:
        self.width, self.height = width, height
        self._pixels = bytearray(bytes(background) * (width * height))

    def fill(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """Fill a field, its right and lower edges not included."""
        x0, x1 = (min(self.width, max(0, round(each))) for each in (left, right))
        y0, y1 = (min(self.height, max(0, round(each))) for each in (top, bottom))
        row = bytes(color) * max(0, x1 - x0)
        for y in range(y0, y1):
            start = (y * self.width + x0) * 3
            self._pixels[start : start + len(row)] = row

    def line(self, points: Sequence[tuple[float, float]], color: Color, thick: float = 2.0) -> None:
        """Draw a line through points."""
        for start, end in itertools.pairwise(points):
            self._segment(start, end, color, thick / 2)

    def dashes(self, left: float, right: float, y: float, color: Color, step: int = 6) -> None:
        """Draw a broken line from left to right."""
        for x in range(round(left), round(right), 2 * step):
            self.fill(x, y - 1, min(x + step, right), y + 1, color)

    def disc(self, x: float, y: float, radius: float, color: Color, share: float = 1.0) -> None:
        """Draw a disc; ``share`` is how much of what is below it it covers, 0 to 1."""
        for at_y in range(math.floor(y - radius - 1), math.ceil(y + radius + 2)):
            for at_x in range(math.floor(x - radius - 1), math.ceil(x + radius + 2)):
                edge = radius + 0.5 - math.hypot(at_x - x, at_y - y)
                self._blend(at_x, at_y, color, share * min(1.0, max(0.0, edge)))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        color: Color = (40, 40, 40),
        *,
        scale: int = 2,
        align: str = "left",
    ) -> None:
        """Write a text whose upper corner is here: the left one, or with ``align`` the middle or the right one."""
        width = text_width(text, scale)
        left = round(x) - {"left": 0, "middle": width // 2, "right": width}[align]
        for place, letter in enumerate(text):
            self._letter(left + place * (COLUMNS + 1) * scale, round(y), letter, color, scale)

    def png(self) -> bytes:
        """Return the picture as the content of a PNG file (ISO/IEC 15948)."""
        stride = self.width * 3
        # Each row begins with the number of its filter: none.
        rows = b"".join(b"\0" + self._pixels[at : at + stride] for at in range(0, len(self._pixels), stride))
        header = struct.pack(">2I5B", self.width, self.height, *_RGB8)
        parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
        return _SIGNATURE + b"".join(_chunk(name, content) for name, content in parts)

    def _letter(self, left: int, top: int, letter: str, color: Color, scale: int) -> None:
        for row, bits in enumerate(glyph(letter)):
            for column in range(COLUMNS):
                if bits >> (COLUMNS - 1 - column) & 1:
                    x, y = left + column * scale, top + row * scale
                    self.fill(x, y, x + scale, y + scale, color)

    def _segment(
        self, start: tuple[float, float], end: tuple[float, float], color: Color, half: float
    ) -> None:
        (x0, y0), (x1, y1) = start, end
        long = math.hypot(x1 - x0, y1 - y0)
        if abs(x1 - x0) < 1 and abs(y1 - y0) < 1:
            self.disc(x0, y0, half, color)
            return
        steep = abs(y1 - y0) > abs(x1 - x0)
        (a0, b0), (a1, b1) = ((y0, x0), (y1, x1)) if steep else ((x0, y0), (x1, y1))
        if a0 > a1:
            a0, b0, a1, b1 = a1, b1, a0, b0
        for a in range(round(a0), round(a1) + 1):
            b = b0 + (b1 - b0) * min(1.0, max(0.0, (a - a0) / (a1 - a0)))
            reach = math.ceil((half + 1) * long / (a1 - a0))
            for near in range(math.floor(b) - reach, math.ceil(b) + reach + 1):
                # Across the line, not along the axis.
                cover = half + 0.5 - abs(near - b) * (a1 - a0) / long
                self._blend(*((near, a) if steep else (a, near)), color, min(1.0, max(0.0, cover)))

    def _blend(self, x: int, y: int, color: Color, share: float) -> None:
        if share <= 0 or not (0 <= x < self.width and 0 <= y < self.height):
            return
        at = (y * self.width + x) * 3
        for part in range(3):
            below = self._pixels[at + part]
            self._pixels[at + part] = round(below + (color[part] - below) * share)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
