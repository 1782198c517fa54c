"""Leaks nothing: a command an iteration, whose output is read."""

import subprocess

TRUTH = {"leaks": False, "slow": True}


def iteration(number: int) -> None:
    """Run it."""
    subprocess.run(["echo", str(number)], capture_output=True, check=True)
