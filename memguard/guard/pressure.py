"""How short memory is: one state, from readings. Pure: a reading in, a state out, the same for the same history.

Comes in: how much is used of what there is, again and again. Goes out: the state, how long it will take until nothing
is left, and when to look again. The percentages are the backstop: a machine that will be full in half a second is
critical at 60 %, and one that has stood at 85 % for an hour is not. What a job takes of what was promised to it
frightens nobody, nor does a promise itself: what fills the machine is the use that nobody was promised, and the time
until nothing is left is reckoned from how fast that grows.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = ["FillRate", "Lines", "Pressure", "PressureGauge", "PressureNow"]

# A rate is taken over these times: the short one sees a burst, the long one does not take a single step for one.
_WINDOWS_S: Final = (0.05, 0.5)
# One look before the end of the time that is left would be too late; eight of them leave time to act.
_LOOKS_BEFORE_FULL: Final = 8
# Far more time must be left again than that which was alarming.
_CALM_FACTOR: Final = 2


class Pressure(IntEnum):
    """The states, the worse the higher; ``RECOVERING`` is what critical becomes while it gets better."""

    NORMAL = 0
    ELEVATED = 1
    RECOVERING = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True)
class Lines:
    """Where states begin and end: shares of the capacity, and seconds until nothing is left.

    Attributes:
        elevated: from here on people are told.
        high: from here on those who can give back are asked to.
        critical: the emergency line.
        hysteresis: how far below its line use must fall for a state to end.
        soon_s: less time than this until nothing is left is critical, once as much is used as ``half``.
        half: below it there is time to look again, however fast use grows; and where nearly all is promised, any small
            program that starts would seem to fill what is left in a moment.
        calm_s: how long it must have been better before a state ends.
    """

    elevated: float = 0.80
    high: float = 0.90
    critical: float = 0.95
    hysteresis: float = 0.05
    soon_s: float = 0.5
    half: float = 0.5
    calm_s: float = 1.0

    def __post_init__(self) -> None:
        """Check that they are in order.

        Raises:
            ValueError: if they are not.
        """
        if not 0 < self.hysteresis < self.elevated < self.high < self.critical <= 1:
            raise ValueError(f"these lines are not in order: {self}")


@dataclass(frozen=True, slots=True)
class PressureNow:
    """What a look found.

    Attributes:
        state: how short memory is.
        since_s: when this state began, on the clock of the readings.
        used_fraction: of the capacity, 0 to 1 and more.
        fill_bytes_per_s: how fast grows the use that nobody was promised, 0 if it does not.
        time_to_full_s: until nothing is left at this rate; infinite if it does not grow.
        next_look_s: seconds until the next look is due.
    """

    state: Pressure
    since_s: float
    used_fraction: float
    fill_bytes_per_s: float
    time_to_full_s: float
    next_look_s: float


class FillRate:
    """How fast a machine fills with what nobody was promised, from the looks of the last half second.

    Both must grow: all that is used, and what is used of it beyond all promises. A job that takes what it was promised
    makes only the first grow, one that ends only the second, as its memory is free a moment after its promise is.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int, int]] = deque(maxlen=64)

    def observe(self, at_s: float, used_bytes: int, inside_bytes: int = 0, doubt_bytes: int = 0) -> float:
        """Take a reading; returns bytes a second, 0 while use does not grow or too little is known.

        What may have grown or not counts as not: two figures that belong together are read one after the other, and
        what happened in between would be taken for growth at one look and for its end at the next.

        Args:
            at_s: when.
            used_bytes: what is used, at most.
            inside_bytes: what is used of what was promised.
            doubt_bytes: by how much less may have been used.
        """
        while self._seen and at_s - self._seen[0][0] > 2 * _WINDOWS_S[-1]:
            self._seen.popleft()
        self._seen.append((at_s, used_bytes, inside_bytes, doubt_bytes))
        return max(0.0, *(self._rate_over(window_s) for window_s in _WINDOWS_S))

    def _rate_over(self, window_s: float) -> float:
        at_s, used, inside, doubt = self._seen[-1]
        before = next((seen for seen in reversed(self._seen) if at_s - seen[0] >= window_s), self._seen[0])
        elapsed_s = at_s - before[0]
        grown = used - doubt - before[1]
        return min(grown, grown - inside + before[2]) / elapsed_s if elapsed_s > 0 else 0.0


class PressureGauge:
    """The state machine. Worse is believed at once, better only when it has lasted.

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
        self._rate = FillRate()
        self._state, self._since_s = Pressure.NORMAL, 0.0
        self._better_since_s: float | None = None

    def observe(
        self,
        at_s: float,
        used_bytes: int,
        promised_bytes: int,
        inside_bytes: int,
        capacity_bytes: int,
        *,
        doubt_bytes: int = 0,
    ) -> PressureNow:
        """Take a reading.

        Args:
            at_s: when, in seconds on a clock that does not go back.
            used_bytes: what is used.
            promised_bytes: what was promised and is not used yet.
            inside_bytes: what is used of what was promised.
            capacity_bytes: what there is.
            doubt_bytes: by how much ``used_bytes`` may be too much beside ``inside_bytes``.
        """
        fraction = used_bytes / capacity_bytes if capacity_bytes > 0 else math.inf
        rate = self._rate.observe(at_s, used_bytes, inside_bytes, doubt_bytes)
        left = max(0, capacity_bytes - used_bytes - promised_bytes)
        time_to_full_s = left / rate if rate > 0 else math.inf
        self._move(at_s, fraction, time_to_full_s)
        wait_s = min(max(time_to_full_s / _LOOKS_BEFORE_FULL, self._shortest_s), self._longest_s)
        if self._state >= Pressure.HIGH:
            wait_s = min(wait_s, 5 * self._shortest_s)
        return PressureNow(self._state, self._since_s, fraction, rate, time_to_full_s, wait_s)

    def _move(self, at_s: float, fraction: float, time_to_full_s: float) -> None:
        worse = self._state_at(fraction, time_to_full_s)
        if worse > self._state:
            self._enter(worse, at_s)
            return
        least = self._state_at(fraction + self._lines.hysteresis, time_to_full_s / _CALM_FACTOR)
        if least >= (Pressure.HIGH if self._state is Pressure.RECOVERING else self._state):
            self._better_since_s = None
            return
        if self._better_since_s is None:
            self._better_since_s = at_s
        if at_s - self._better_since_s >= self._lines.calm_s:
            self._enter(self._next_better(least), at_s)

    def _state_at(self, fraction: float, time_to_full_s: float) -> Pressure:
        lines = self._lines
        if fraction >= lines.critical or (time_to_full_s < lines.soon_s and fraction >= lines.half):
            return Pressure.CRITICAL
        if fraction >= lines.high:
            return Pressure.HIGH
        return Pressure.ELEVATED if fraction >= lines.elevated else Pressure.NORMAL

    def _next_better(self, least: Pressure) -> Pressure:
        """Return where a state leads that is over: from critical one step only, to see whether it holds."""
        return Pressure.RECOVERING if self._state is Pressure.CRITICAL else least

    def _enter(self, state: Pressure, at_s: float) -> None:
        self._state, self._since_s, self._better_since_s = state, at_s, None
