"""How much leaks, in words: bytes, or how many descriptors and threads. Pure."""

from __future__ import annotations

from typing import Final

from memguard.leaks.records import Channel, Kind, LeakReport
from memguard.units import format_bytes

__all__ = ["tell_rate"]

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
