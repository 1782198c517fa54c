"""Ids that sort by the time at which they were made (UUID version 7, RFC 9562), also among those of one millisecond.

A random id would touch a random page of the index with each add; these touch the last one.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import Final

__all__ = ["check_id", "new_ids"]

_LONGEST: Final = 200
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# 12 bits under the millisecond: a counter, as RFC 9562 section 6.2 method 1 has it, that moves the clock on when full.
_COUNTS: Final = 1 << 12
# Of a random hexadecimal digit the one that begins with the bits 10, which tell the variant.
_VARIANTS: Final = str.maketrans("0123456789abcdef", 4 * "89ab")


class _Clock:
    """The last millisecond and count that were given out in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tick = 0

    def take(self, count: int) -> int:
        """Return the first of ``count`` ticks, each later than any before, also where the clock was set back."""
        now = (time.time_ns() // 1_000_000) * _COUNTS
        with self.lock:
            first = max(now, self.tick + 1)
            self.tick = first + count - 1
        return first


_clock: Final = _Clock()


def new_ids(count: int) -> list[str]:
    """Return ``count`` new ids in rising order, each unlike any other anywhere (62 random bits)."""
    first, noise = _clock.take(count), os.urandom(8 * count).hex()
    if count == 1:  # as most calls want it, and in half of the time
        digits = f"{first >> 12:012x}7{first & (_COUNTS - 1):03x}{noise[0].translate(_VARIANTS)}{noise[1:]}"
        return [f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"]
    variants = noise[::16].translate(_VARIANTS)
    made: list[str] = []
    while len(made) < count:
        tick = first + len(made)
        moment, least = f"{tick >> 12:012x}", tick & (_COUNTS - 1)
        head = f"{moment[:8]}-{moment[8:]}-7"
        start, end = len(made), min(count, len(made) + _COUNTS - least)
        made += [
            f"{head}{least + at - start:03x}-{variants[at]}{noise[16 * at + 1 : 16 * at + 4]}-"
            f"{noise[16 * at + 4 : 16 * at + 16]}"
            for at in range(start, end)
        ]
    return made


def check_id(text: object) -> str:
    """Return an id that somebody gave.

    Raises:
        ValueError: if it is no text of 1 to 200 characters, or has control characters.
    """
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST or _UNPRINTABLE.search(text):
        raise ValueError(f"an id is a text of 1 to {_LONGEST} characters without control characters")
    return text


def _renew_lock() -> None:
    _clock.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
