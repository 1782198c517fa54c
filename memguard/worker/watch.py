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
# After a warning, use must rise by this share of the budget to warn again: a saw-tooth across the line warns once.
_STEP_FRACTION: Final = 0.1


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
        recent_peak_bytes: highest sample since `start_anew`.
        warnings: how often use was told to be near: at the warning line, and at each tenth of the budget above it.
    """

    limits: WatchLimits
    peak_bytes: int = 0
    used_bytes: int = 0
    recent_peak_bytes: int = 0
    warnings: int = 0
    _next_warning_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self._next_warning_bytes = self.limits.warn_bytes

    def observe(self, used_bytes: int) -> tuple[Notice, ...]:
        """Take a sample; returns what is new, a nearing always before an exceeding."""
        self.used_bytes = used_bytes
        self.peak_bytes = max(self.peak_bytes, used_bytes)
        self.recent_peak_bytes = max(self.recent_peak_bytes, used_bytes)
        notices: list[Notice] = []
        if used_bytes >= self._next_warning_bytes:
            self._next_warning_bytes = used_bytes + int(self.limits.limit_bytes * _STEP_FRACTION)
            self.warnings += 1
            notices.append(Notice.NEARED)
        if used_bytes > self.limits.limit_bytes:
            notices.append(Notice.EXCEEDED)
        return tuple(notices)

    def figures(self) -> dict[str, int]:
        """Return the samples as a message has them."""
        return {
            "used_bytes": self.used_bytes,
            "peak_bytes": self.peak_bytes,
            "recent_peak_bytes": self.recent_peak_bytes,
        }

    def start_anew(self) -> None:
        """Forget what was before the latest sample, for `recent_peak_bytes`."""
        self.recent_peak_bytes = self.used_bytes

    def next_interval_s(self) -> float:
        """Seconds until the next look: before the next line can be reached at the fastest fill rate."""
        line = min(self._next_warning_bytes, self.limits.limit_bytes)
        soonest = max(0, line - self.used_bytes) / FASTEST_FILL_BYTES_PER_S
        return min(max(soonest, self.limits.shortest_interval_s), self.limits.longest_interval_s)
