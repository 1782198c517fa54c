"""How much leaks, in words: bytes, or how many descriptors and threads. Pure."""

from __future__ import annotations

from typing import Final

from memguard.leaks.records import Channel, Culprit, Kind, LeakReport
from memguard.units import format_bytes

__all__ = ["tell_rate", "worth_telling"]

# Who holds less than this share of what the first one holds only distracts.
_LEAST_SHARE: Final = 0.02

_COUNTED: Final = {
    Kind.FD: (Channel.FDS, "descriptor", "descriptors"),
    Kind.THREAD: (Channel.THREADS, "thread", "threads"),
}


def tell_rate(report: LeakReport) -> str:
    """Return what an iteration keeps: ``5 KiB``, ``1 descriptor``; ``""`` if nothing leaks or it cannot be told."""
    if report.kind in _COUNTED:
        channel, one, many = _COUNTED[report.kind]
        found = report.finding(channel)
        slope = 0.0 if found is None else round(found.slope, 2)
        return f"{slope:g} {one if slope == 1 else many}"
    return format_bytes(round(report.bytes_per_iteration)) if report.bytes_per_iteration else ""


def worth_telling(report: LeakReport) -> tuple[Culprit, ...]:
    """Return the culprits without those that hold next to nothing of what the heaviest one holds."""
    heaviest = max((each.bytes_per_iteration for each in report.culprits), default=0.0)
    return tuple(each for each in report.culprits if each.bytes_per_iteration >= _LEAST_SHARE * heaviest)
