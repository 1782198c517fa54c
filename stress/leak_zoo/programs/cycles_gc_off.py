"""Leaks cycles, since somebody turned the collector off."""

import gc

TRUTH = {"leaks": True, "kind": "cycle", "bytes": 3500, "names": ["Node"]}


class Node:
    """Refers to itself."""

    def __init__(self, number: int) -> None:
        self.me = self
        self.payload = [number + place for place in range(300, 375)]


def setup() -> None:
    """Turn the collector off, for speed."""
    gc.disable()


def iteration(number: int) -> None:
    """Make one cycle and drop it."""
    Node(number)
