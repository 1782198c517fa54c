"""Leaks a descriptor an iteration."""

import os

TRUTH = {"leaks": True, "kind": "fd", "bytes": 0, "names": []}


def iteration(number: int) -> None:
    """Open and forget."""
    os.open(os.devnull, os.O_RDONLY)
