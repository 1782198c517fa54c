"""Huge pages for a process that will be forked often: fewer page-table entries to copy at each fork.

Measured with autofeat imported (160 MiB of anonymous memory): a fork takes half the time. A child that writes
to such memory still copies single 4 KiB pages, so what a job is charged for does not change.
"""

from __future__ import annotations

import contextlib
from typing import Final

from memguard.host import _libc
from memguard.host._files import read_all

__all__ = ["collapse_anonymous_memory"]

_HUGE_PAGE_BYTES: Final = 2 * 1024 * 1024


def collapse_anonymous_memory() -> int:
    """Ask the kernel to back this process's private anonymous memory with huge pages, as far as it can.

    Best effort: kernels before 6.1 and machines without huge pages leave everything as it is.

    Returns:
        Bytes in ranges that were collapsed.
    """
    collapsed = 0
    with contextlib.suppress(OSError, AttributeError):  # no /proc, or no such call: nothing is lost but speed
        for start, end in _anonymous_ranges(read_all("/proc/self/maps").decode("ascii", "replace")):
            collapsed += _collapse(start, end)
    return collapsed


def _anonymous_ranges(maps: str) -> list[tuple[int, int]]:
    """Return the aligned parts of private writable mappings that have no file, stacks left out."""
    ranges = []
    for line in maps.splitlines():
        span, permissions, _, _, inode, *name = line.split(maxsplit=5)
        if permissions != "rw-p" or inode != "0" or (name and name[0].startswith(("[stack", "[v"))):
            continue
        start, end = (int(part, 16) for part in span.split("-"))
        aligned = -(-start // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES, end // _HUGE_PAGE_BYTES * _HUGE_PAGE_BYTES
        if aligned[0] < aligned[1]:
            ranges.append(aligned)
    return ranges


def _collapse(start: int, end: int) -> int:
    try:
        _libc.madvise_collapse(start, end - start)
    except OSError:  # this range has holes, or no huge page is free: the others may do
        return 0
    return end - start
