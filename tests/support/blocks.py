"""What work in a guarded block takes."""

from __future__ import annotations

import mmap


def allocate(count_bytes: int) -> mmap.mmap:
    """Take fresh private pages: what the C library kept of earlier tests must not serve again."""
    taken = mmap.mmap(-1, count_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, count_bytes, mmap.PAGESIZE):
        taken[start] = 1
    return taken
