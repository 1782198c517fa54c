"""Leaks instances through a cache on a method: the cache holds every self."""

import functools

TRUTH = {"leaks": True, "kind": "cache", "bytes": 10_500, "names": ["total", "Account"]}


class Account:
    """Has many entries."""

    def __init__(self, number: int) -> None:
        self.entries = [number] * 1_250

    @functools.cache  # noqa: B019 - this is the leak
    def total(self) -> int:
        """Add up."""
        return sum(self.entries)


def iteration(number: int) -> None:
    """Open an account, ask for its total, drop it."""
    Account(number).total()
