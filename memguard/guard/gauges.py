"""How short memory is where several limits hold: one gauge for each, and the worst of them counts. Pure.

Comes in: each limit with its use and what is promised below it. Goes out: one `PressureNow`, the limit it is of, and
how soon to look again, so that a job which takes all it can from now on is seen before the critical line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from memguard.guard.pressure import Lines, PressureGauge, PressureNow
from memguard.units import GIB

__all__ = ["Gauges", "LimitNow"]

# A process that writes to new memory at full speed takes this much in a second.
_FULL_SPEED: Final = 6 * GIB
# Two looks before the line, for the first of them sees only that something began.
_LOOKS_BEFORE_LINE: Final = 2
# Where all are held to their reservation, only one who comes new can do that, and a program takes a moment to start.
_CALMER: Final = 4


@dataclass(frozen=True, slots=True)
class LimitNow:
    """One limit as a look found it.

    Attributes:
        name: which one it is; the same at each look.
        capacity_bytes: the limit.
        used_bytes: what counts against it.
        promised_bytes: what was promised below it and is not used yet.
        inside_bytes: what is used of what was promised below it.
        doubt_bytes: by how much less was used when that was measured, perhaps.
    """

    name: str
    capacity_bytes: int
    used_bytes: int
    promised_bytes: int
    inside_bytes: int
    doubt_bytes: int = 0

    @property
    def available_bytes(self) -> int:
        """What is left, never negative."""
        return max(0, self.capacity_bytes - self.used_bytes)


class Gauges:
    """A gauge for each limit.

    Args:
        lines: where states begin.
        shortest_s: between two looks.
        longest_s: between two looks.
    """

    def __init__(
        self, lines: Lines | None = None, *, shortest_s: float = 0.01, longest_s: float = 1.0
    ) -> None:
        self._lines = lines or Lines()
        self._shortest_s, self._longest_s = shortest_s, longest_s
        self._gauges: dict[str, PressureGauge] = {}

    def observe(
        self, at_s: float, limits: Iterable[LimitNow], *, may_burst: bool = True
    ) -> tuple[PressureNow, LimitNow]:
        """Take a reading.

        Args:
            at_s: when, in seconds on a clock that does not go back.
            limits: all that hold, at least one.
            may_burst: whether there may be a job that nothing keeps from taking more than was promised to it.

        Returns:
            The worst, and its limit; the next look is the one that is due first for any of them.
        """
        limits = list(limits)
        self._gauges = {each.name: self._gauges.get(each.name) or self._gauge() for each in limits}
        seen = [(self._observe(at_s, each), each) for each in limits]
        worst, limit = max(seen, key=lambda each: (each[0].state, each[0].used_fraction))
        soonest_s = min(self._wait_s(now, each, 1 if may_burst else _CALMER) for now, each in seen)
        return replace(worst, next_look_s=soonest_s), limit

    def _gauge(self) -> PressureGauge:
        return PressureGauge(self._lines, shortest_s=self._shortest_s, longest_s=self._longest_s)

    def _observe(self, at_s: float, limit: LimitNow) -> PressureNow:
        gauge = self._gauges[limit.name]
        return gauge.observe(
            at_s,
            limit.used_bytes,
            limit.promised_bytes,
            limit.inside_bytes,
            limit.capacity_bytes,
            doubt_bytes=limit.doubt_bytes,
        )

    def _wait_s(self, now: PressureNow, limit: LimitNow, factor: int) -> float:
        headroom = self._lines.critical * limit.capacity_bytes - limit.used_bytes
        burst_s = factor * headroom / _FULL_SPEED / _LOOKS_BEFORE_LINE
        return max(self._shortest_s, min(now.next_look_s, burst_s, self._longest_s))
