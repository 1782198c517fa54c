"""How many descriptors and threads other processes have."""

from __future__ import annotations

import os
from collections.abc import Iterable

__all__ = ["descriptors_and_threads"]


def descriptors_and_threads(pids: Iterable[int]) -> tuple[int, int]:
    """Return how many descriptors and threads some processes have together; one that is gone has none.

    Descriptors of another user's process cannot be seen, and count as none.
    """
    descriptors = threads = 0
    for pid in pids:
        descriptors += _entries(f"/proc/{pid}/fd")
        threads += _entries(f"/proc/{pid}/task")
    return descriptors, threads


def _entries(folder: str) -> int:
    try:
        return len(os.listdir(folder))
    except OSError:
        return 0  # gone, or not ours to look into
