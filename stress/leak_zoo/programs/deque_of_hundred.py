"""A ring of the newest hundred results fills."""

from collections import deque

TRUTH = {"leaks": False}
NEWEST: deque[list[int]] = deque(maxlen=100)


def iteration(number: int) -> None:
    """Remember a result."""
    NEWEST.append([number] * 500)
