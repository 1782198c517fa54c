"""How well past forecasts were kept, as a picture: used over forecast, misses over time, waste over time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from memguard.cli.calibration_view import grouped, in_order, short_kind
from memguard.cli.canvas import Canvas, Color, text_width
from memguard.cli.estimate_view import when
from memguard.cli.lines import clip
from memguard.forecasting.reliability import Attempt, Record, band_of, rates_of, wasted_share
from memguard.units import format_share

__all__ = ["picture_of"]

_WIDTH: Final = 1100
_LEFT: Final = 90
_RIGHT_EDGE: Final = 1070
_PANEL: Final = 240
_TOPS: Final = (130, 510, 860)
_HEIGHT: Final = 1150
# More dots than this are a cloud; those of the newest are drawn.
_MOST_DOTS: Final = 2000
# More than so many have smaller dots.
_CROWD: Final = 400
_WINDOW: Final = 100
_BARS: Final = 70

# Told apart also by those who see no red and green (after Okabe and Ito); vermilion is kept for misses.
_COLORS: Final[tuple[Color, ...]] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
)
_OTHER: Final[Color] = (140, 140, 140)
_MISS: Final[Color] = (213, 94, 0)
_INK: Final[Color] = (40, 40, 40)
_FAINT: Final[Color] = (120, 120, 120)
_GRID: Final[Color] = (228, 228, 228)
_BAND: Final[Color] = (221, 235, 247)


@dataclass(frozen=True, slots=True)
class _Panel:
    """A field with axes: so many attempts from left to right, a value from 0 up.

    Attributes:
        canvas: to draw on.
        top: of the field, in pixels.
        count: how many attempts.
        most: the value at the upper edge.
    """

    canvas: Canvas
    top: int
    count: int
    most: float

    def x(self, place: float) -> float:
        """Return where the attempt with this number, counted from 0, lies."""
        return _LEFT + (place + 0.5) / self.count * (_RIGHT_EDGE - _LEFT)

    def y(self, value: float) -> float:
        """Return how high a value lies; what is above the upper edge lies on it."""
        return self.top + _PANEL * (1 - min(value, self.most) / self.most)

    def axes(self, title: str, note: str, step: float, told: Callable[[float], str]) -> None:
        """Draw title, grid and the values at the left."""
        self.canvas.text(_LEFT, self.top - 52, title, _INK)
        self.canvas.text(_LEFT, self.top - 28, note, _FAINT)
        for number in range(int(self.most / step + 1e-9) + 1):
            y = self.y(number * step)
            self.canvas.fill(_LEFT, y, _RIGHT_EDGE, y + 1, _GRID)
            self.canvas.text(_LEFT - 10, y - 6, told(number * step), _INK, align="right")

    def times(self, attempts: Sequence[Attempt]) -> None:
        """Write when the first, the middle and the last attempt ended."""
        bottom = self.top + _PANEL
        self.canvas.fill(_LEFT, bottom, _RIGHT_EDGE, bottom + 2, _INK)
        places = {0: "left", len(attempts) // 2: "middle", len(attempts) - 1: "right"}
        for place, align in places.items():
            x = {"left": _LEFT, "right": _RIGHT_EDGE}.get(align, self.x(place))
            self.canvas.text(x, bottom + 10, when(attempts[place].at_s), _FAINT, align=align)


def picture_of(records: Sequence[Record], miss_rate: float) -> bytes:
    """Return a PNG with three fields: used over forecast, misses against the stated rate, and waste; over time.

    Args:
        records: a kind each.
        miss_rate: the stated one, 0 to 1.
    """
    canvas = Canvas(_WIDTH, _HEIGHT)
    found = in_order(records)
    attempts = found[-_MOST_DOTS:]
    missed = sum(each.missed for each in attempts)
    which = f"{len(attempts)}" if len(attempts) == len(found) else f"The last {len(attempts)} of {len(found)}"
    title = f"{which} forecasts, {missed} missed; stated rate {format_share(miss_rate)}"
    canvas.text(_LEFT, 20, title, _INK, scale=3)
    if attempts:
        _draw_reliability(canvas, attempts, records)
        _draw_misses(canvas, attempts, miss_rate)
        _draw_waste(canvas, attempts)
    else:
        canvas.text(_LEFT, _TOPS[0], "no job was sized by a forecast yet", _FAINT)
    return canvas.png()


def _draw_reliability(canvas: Canvas, attempts: Sequence[Attempt], records: Sequence[Record]) -> None:
    panel = _Panel(canvas, _TOPS[0], len(attempts), _top_of(max(each.ratio for each in attempts)))
    note = "a dot a job, by kind; above the line at 1 it was missed"
    panel.axes("Used / forecast", note, 0.25 if panel.most <= 1.5 else 0.5, lambda value: f"{value:g}")
    color_of = {each.kind: color for each, color in zip(records, _COLORS, strict=False) if each.attempts}
    one = panel.y(1)
    canvas.fill(_LEFT, one - 1, _RIGHT_EDGE, one + 1, _INK)
    radius = 3.5 if len(attempts) <= _CROWD else 2.0
    for place, each in enumerate(attempts):
        x, y = panel.x(place), panel.y(each.ratio)
        if each.missed:
            canvas.line([(x - 5, y - 5), (x + 5, y + 5)], _MISS, 3)
            canvas.line([(x - 5, y + 5), (x + 5, y - 5)], _MISS, 3)
        else:
            canvas.disc(x, y, radius, color_of.get(each.kind, _OTHER), 0.85)
    panel.times(attempts)
    _draw_legend(canvas, panel.top + _PANEL + 40, color_of, has_others=len(records) > len(color_of))


def _top_of(most: float) -> float:
    """Return the upper edge: far misses lie on it, so that all others can be told apart."""
    return 1.25 if most <= 1.25 else 1.5 if most <= 1.5 else 2.0 if most <= 2 else 3.0


def _draw_legend(canvas: Canvas, top: int, color_of: dict[str, Color], *, has_others: bool) -> None:
    names = [(clip(short_kind(kind), 36), color) for kind, color in color_of.items()]
    x = float(_LEFT)
    for name, color in [*names, *([("other kinds", _OTHER)] if has_others else []), ("missed", _MISS)]:
        if x + 16 + text_width(name) > _RIGHT_EDGE:
            x, top = float(_LEFT), top + 22
        canvas.disc(x + 4, top + 3, 4, color)
        canvas.text(x + 16, top - 3, name, _INK)
        x += 44 + text_width(name)


def _draw_misses(canvas: Canvas, attempts: Sequence[Attempt], miss_rate: float) -> None:
    rates = rates_of(attempts, _WINDOW)
    bands = [band_of(min(end, _WINDOW), miss_rate) for end in range(1, len(attempts) + 1)]
    # The first few have a band up to 1 or next to it; to show it would press all the rest together.
    later = [max(pair) for pair in list(zip(rates, bands, strict=True))[_WINDOW // 5 :]]
    panel = _Panel(
        canvas, _TOPS[1], len(attempts), min(1.0, max([4 * miss_rate, *(1.15 * each for each in later)]))
    )
    wide = (_RIGHT_EDGE - _LEFT) / len(attempts) / 2
    for place, band in enumerate(bands):
        canvas.fill(panel.x(place) - wide, panel.y(band), panel.x(place) + wide, panel.y(0), _BAND)
    note = f"of the last {_WINDOW}; shaded: what chance explains (99 %); green: with a promise"
    panel.axes("Share missed", note, _step_of(panel.most), format_share)
    canvas.dashes(_LEFT, _RIGHT_EDGE, panel.y(miss_rate), _INK)
    _draw_rate(panel, list(enumerate(rates)), _COLORS[0])
    places = [place for place, each in enumerate(attempts) if each.promised]
    kept = rates_of([attempts[place] for place in places], _WINDOW)
    _draw_rate(panel, list(zip(places, kept, strict=True)), _COLORS[2])
    panel.times(attempts)


def _draw_rate(panel: _Panel, points: Sequence[tuple[int, float]], color: Color) -> None:
    panel.canvas.line([(panel.x(place), panel.y(rate)) for place, rate in points], color, 2.5)


def _step_of(most: float) -> float:
    return next(step for step in (0.02, 0.05, 0.1, 0.25) if most / step <= 6 or step == 0.25)


def _draw_waste(canvas: Canvas, attempts: Sequence[Attempt]) -> None:
    panel = _Panel(canvas, _TOPS[2], len(attempts), 1.0)
    note = "what was reserved and never used, by bytes and time; line: so far"
    panel.axes("Reserved in vain", note, 0.25, format_share)
    groups = grouped(attempts, _BARS)
    width = (_RIGHT_EDGE - _LEFT) / len(groups)
    for number, group in enumerate(groups):
        left = _LEFT + number * width
        canvas.fill(left + 1, panel.y(wasted_share(group)), left + width - 1, panel.y(0), _COLORS[4])
    canvas.line([(panel.x(place), panel.y(share)) for place, share in enumerate(_so_far(attempts))], _INK, 2)
    panel.times(attempts)


def _so_far(attempts: Sequence[Attempt]) -> Iterator[float]:
    wasted = reserved = 0.0
    for each in attempts:
        wasted, reserved = wasted + each.wasted_byte_s, reserved + each.reserved_byte_s
        yield wasted / reserved if reserved else 0.0
