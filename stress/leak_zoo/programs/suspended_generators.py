"""Leaks generators that wait in the middle, each with its variables."""

from collections.abc import Iterator

TRUTH = {"leaks": True, "kind": "python", "bytes": 2_500, "names": ["WAITING", "generator"]}
WAITING: list[Iterator[int]] = []


def rows(number: int) -> Iterator[int]:
    """Yield from a buffer of its own."""
    buffer = bytes([number % 251]) * 2_000
    yield from buffer


def iteration(number: int) -> None:
    """Look at the first row only."""
    reader = rows(number)
    next(reader)
    WAITING.append(reader)
