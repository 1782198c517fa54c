"""What the allocator of C keeps of freed memory, given back to the system."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

__all__ = ["trim_heap"]


def trim_heap() -> bool:
    """Have C's allocator give the system what it keeps of freed memory; returns whether it could be asked.

    Only glibc has this (`malloc_trim`); it takes some milliseconds for each GiB that a process has had.
    """
    trim = _malloc_trim()
    if trim is None:
        return False
    trim(0)
    return True


@functools.cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library, which gives back by itself or not at all
        return None
