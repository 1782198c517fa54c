"""Leaks what the second reader of a stream has not read yet, and never will."""

import itertools
from collections.abc import Iterator

TRUTH = {"leaks": True, "kind": "python", "bytes": 5_500, "names": ["SECOND", "tee", "bytes"]}


def _stream() -> Iterator[bytes]:
    for number in itertools.count():
        yield bytes([number % 251]) * 500


FIRST, SECOND = itertools.tee(_stream())


def iteration(number: int) -> None:
    """Read ten more with the first reader."""
    for _ in range(10):
        next(FIRST)
