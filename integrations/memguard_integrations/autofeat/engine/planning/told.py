"""How light mode is told: a typed warning, an event in the log, and words for the report. Loads nothing."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Final

from memguard.events import Event, JsonScalar
from memguard.units import format_bytes

_OURS: Final = (
    os.path.join("memguard_integrations", "autofeat"),
    os.path.join("sklearn", "utils"),
    "contextlib",
)

__all__ = ["LightMode", "tell_light"]


class LightMode(UserWarning):
    """A fit did less than it was asked for, because memory or the disk was short.

    ``light_mode="never"`` has it raise instead.

    Attributes:
        left_out: what was left out, one sentence each.
        needed_bytes: what it would have needed whole, in memory and on disk together; 0 where that is not known.
        had_bytes: what could be had of both; 0 where that is not known.
        why: what was short.
    """

    def __init__(self, left_out: tuple[str, ...], needed_bytes: int, had_bytes: int, why: str) -> None:
        super().__init__(left_out, needed_bytes, had_bytes, why)
        self.left_out = left_out
        self.needed_bytes = needed_bytes
        self.had_bytes = had_bytes
        self.why = why

    @classmethod
    def on_the_way(cls, left_out: tuple[str, ...]) -> LightMode:
        """Return what is told of a fit that left something out after it had begun; its figures are its worker's."""
        return cls(left_out, 0, 0, "memory or disk ran short on the way")

    def event(self) -> Event:
        """Return what is published of it."""
        fields: dict[str, JsonScalar] = {
            "left_out": "; ".join(self.left_out),
            "needed_bytes": self.needed_bytes,
            "had_bytes": self.had_bytes,
            "why": self.why,
        }
        return Event("memguard.light_mode_entered", fields=fields)

    def __reduce__(self) -> tuple[type[LightMode], tuple[object, ...]]:
        return type(self), (self.left_out, self.needed_bytes, self.had_bytes, self.why)

    def __str__(self) -> str:
        figures = []
        if self.needed_bytes:
            figures.append(f"it would have needed {format_bytes(self.needed_bytes)}")
        if self.had_bytes:
            figures.append(f"{format_bytes(self.had_bytes)} could be had")
        said = f"light mode: {'; '.join(self.left_out)}; {self.why}"
        return f"{said}: {', '.join(figures)}" if figures else said


def tell_light(told: LightMode) -> None:
    """Warn whoever called the estimator, and put an event into the log."""
    from memguard.log import log_event  # noqa: PLC0415 - a fit that leaves nothing out needs no log

    log_event(told.event())
    warnings.warn(told, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Return the stack level, of the code that called an estimator, past the engine's and scikit-learn's own."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and any(name in frame.f_code.co_filename for name in _OURS):
        frame, level = frame.f_back, level + 1
    return level
