"""Leaks what is to be undone at the end into a stack that is never unwound."""

import contextlib

TRUTH = {"leaks": True, "kind": "python", "bytes": 1_500, "names": ["STACK", "_exit_callbacks", "deque"]}

STACK = contextlib.ExitStack()


def iteration(number: int) -> None:
    """Do something that is to be undone."""
    STACK.callback(len, bytes([number % 251]) * 1000)
