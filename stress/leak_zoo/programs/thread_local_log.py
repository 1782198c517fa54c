"""Leaks into a list that a thread local holds."""

import threading

TRUTH = {"leaks": True, "kind": "python", "bytes": 1100, "names": ["LOCAL", "lines", "str"]}
LOCAL = threading.local()


def setup() -> None:
    """Make this thread's own log."""
    LOCAL.lines = []


def iteration(number: int) -> None:
    """Log a line of a kilobyte."""
    LOCAL.lines.append(f"{number:01000d}")
