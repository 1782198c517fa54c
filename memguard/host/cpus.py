"""How many processors this process can really use: its affinity, and the quotas of the cgroups around it.

Comes in: the scheduler's mask, and ``cpu.max`` (v2) or ``cpu.cfs_quota_us`` (v1) from the process's own cgroup up to
the root. Goes out: a whole number. A container with a quota of two processors on a machine of sixty-four sees
sixty-four in its mask; libraries then start sixty-four threads, which the kernel halts for most of each period.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from memguard.host._files import read_int, read_once
from memguard.host.cgroups import find_places

__all__ = ["allowed_cpus", "usable_cpus"]


def allowed_cpus() -> int:
    """Return how many processors the scheduler may put this process on: what libraries take by themselves."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cpus(*, root: Path = Path("/"), allowed: int | None = None) -> int:
    """Return how many processors' time this process can have, at least 1; a quota of 1.5 counts as 2.

    Args:
        root: where /proc and /sys are; another directory reads a recorded tree.
        allowed: what the scheduler's mask allows; ``None`` to ask it.
    """
    mask = allowed_cpus() if allowed is None else allowed
    return max(1, min([mask, *(math.ceil(quota) for quota in _quotas(str(root).rstrip("/")))]))


def _quotas(root: str) -> Iterator[float]:
    """Yield the quotas that bind, in processors; what cannot be read binds nothing, and costs speed at worst."""
    try:
        places = find_places(root, controller="cpu")
    except OSError:
        return
    for place in places:
        read = _quota_v1 if place.kind == "cgroup-v1" else _quota_v2
        for directory in place.directories:
            try:
                quota = read(directory)
            except (OSError, ValueError):
                continue
            if quota is not None:
                yield quota


def _quota_v1(directory: str) -> float | None:
    quota = read_int(f"{directory}/cpu.cfs_quota_us")
    period = read_int(f"{directory}/cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 and period > 0 else None  # -1 is none


def _quota_v2(directory: str) -> float | None:
    quota, period = read_once(f"{directory}/cpu.max").split()
    return None if quota == b"max" or int(period) <= 0 else int(quota) / int(period)
