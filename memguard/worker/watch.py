"""Watching a job's use: when it nears its budget, when it passes it, and when to look again. Pure.

Comes in: samples of used bytes with their times. Goes out: notices, the peak, the next interval. Reads no machine;
`memguard.worker.guard` does. A watch samples: growth between two looks is bounded by the interval, not excluded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = ["FASTEST_FILL_BYTES_PER_S", "Notice", "UsageWatch", "WatchLimits"]

# No process measured here fills fresh memory faster than 1.5 GiB/s; fast machines are assumed to reach 6 GiB/s,
# the figure earlyoom uses too (its main.c). The next look comes before the next line can be reached at that rate.
FASTEST_FILL_BYTES_PER_S: Final = 6 * 1024**3
# Once warned, use must fall this far below the line before crossing it warns again.
_REARM_FRACTION: Final = 0.1


class Notice(StrEnum):
    """What a sample means."""

    NEARED = "neared"
    EXCEEDED = "exceeded"


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """The lines to watch.

    Attributes:
        limit_bytes: the budget.
        warn_fraction: share of it from which on use is near, 0 to 1.
        shortest_interval_s: never look more often.
        longest_interval_s: never look less often.
    """

    limit_bytes: int
    warn_fraction: float
    shortest_interval_s: float
    longest_interval_s: float

    @property
    def warn_bytes(self) -> int:
        """The warning line."""
        return int(self.limit_bytes * self.warn_fraction)


@dataclass(slots=True)
class UsageWatch:
    """Follows one job's use against its lines.

    Attributes:
        peak_bytes: highest sample so far.
        used_bytes: latest sample.
        crossings: times the warning line was crossed upwards.
    """

    limits: WatchLimits
    peak_bytes: int = 0
    used_bytes: int = 0
    crossings: int = 0
    _armed: bool = field(default=True)

    def observe(self, used_bytes: int) -> tuple[Notice, ...]:
        """Take a sample; returns what is new, a nearing always before an exceeding."""
        self.used_bytes = used_bytes
        self.peak_bytes = max(self.peak_bytes, used_bytes)
        notices: list[Notice] = []
        if self._crossed(used_bytes):
            notices.append(Notice.NEARED)
        if used_bytes > self.limits.limit_bytes:
            notices.append(Notice.EXCEEDED)
        return tuple(notices)

    def _crossed(self, used_bytes: int) -> bool:
        if used_bytes < self.limits.warn_bytes - self.limits.limit_bytes * _REARM_FRACTION:
            self._armed = True
        if not self._armed or used_bytes < self.limits.warn_bytes:
            return False
        self._armed = False
        self.crossings += 1
        return True

    def next_interval_s(self) -> float:
        """Seconds until the next look: before the next line can be reached at the fastest fill rate."""
        line = self.limits.warn_bytes if self._armed else self.limits.limit_bytes
        soonest = max(0, line - self.used_bytes) / FASTEST_FILL_BYTES_PER_S
        return min(max(soonest, self.limits.shortest_interval_s), self.limits.longest_interval_s)
