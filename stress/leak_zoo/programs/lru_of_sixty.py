"""A cache with a bound fills, which takes 60 iterations."""

import functools

TRUTH = {"leaks": False}


@functools.lru_cache(maxsize=60)
def render(number: int) -> bytes:
    """Make 10 KB."""
    return bytes([number % 251]) * 10_000


def iteration(number: int) -> None:
    """Ask for something new."""
    render(number)
