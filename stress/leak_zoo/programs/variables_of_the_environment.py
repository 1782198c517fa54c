"""Leaks variables of the environment, one an iteration."""

import os

TRUTH = {"leaks": True, "kind": ["python", "native"], "bytes": 500, "names": ["environ"]}


def iteration(number: int) -> None:
    """Set one more."""
    os.environ[f"LEAK_ZOO_{number}"] = "x" * 200
