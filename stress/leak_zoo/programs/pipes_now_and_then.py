"""Leaks the reading end of a pipe at every fifth iteration."""

import os

TRUTH = {"leaks": True, "kind": "fd", "bytes": 0, "names": []}


def iteration(number: int) -> None:
    """Close one end only, sometimes."""
    reader, writer = os.pipe()
    os.close(writer)
    if number % 5:
        os.close(reader)
