"""Leaks exit handlers: each iteration registers one, with its state, in a list that C code has."""

import atexit

TRUTH = {
    "leaks": True,
    "kind": "python",
    "bytes": 6_000,
    "names": ["atexit", "exit handlers", "bytes", "partial"],
}


def iteration(number: int) -> None:
    """Ask to be cleaned up at the end."""
    atexit.register(len, bytes([number % 251]) * 6_000)
