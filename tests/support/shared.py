"""What stands in /dev/shm."""

from __future__ import annotations

from pathlib import Path

SHARED = Path("/dev/shm")


def entries_of(pid: int) -> list[str]:
    """Return what /dev/shm holds in the name of a process."""
    return sorted(
        each.name for each in SHARED.iterdir() if f"-{pid}-" in each.name or f"_{pid}_" in each.name
    )
