"""Leaks cycles that are hidden from the collector each time: gc.freeze() is called at the wrong moment."""

import gc

TRUTH = {"leaks": True, "kind": ("cycle", "python"), "bytes": 5_000, "names": ["Node", "list"]}


class Node:
    """Refers to itself."""

    def __init__(self, number: int) -> None:
        self.me = self
        self.payload = [number] * 600


def iteration(number: int) -> None:
    """Make a cycle, and freeze it."""
    node = Node(number)
    gc.freeze()
    del node
