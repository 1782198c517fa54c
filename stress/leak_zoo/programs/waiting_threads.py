"""Leaks a thread an iteration: each waits for an event that never comes."""

import threading

TRUTH = {"leaks": True, "kind": "thread", "bytes": 0, "names": []}
NEVER = threading.Event()


def setup() -> None:
    """Keep 2,000 stacks of threads from taking all address space."""
    threading.stack_size(256 * 1024)


def iteration(number: int) -> None:
    """Start a helper that is never told to end."""
    threading.Thread(target=NEVER.wait, daemon=True).start()
