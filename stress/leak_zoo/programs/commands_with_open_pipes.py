"""Leaks the pipe to each command that it started and waited for."""

import subprocess
import sys

TRUTH = {"leaks": True, "kind": "fd", "bytes": 0, "names": ["DONE", "Popen"], "slow": True}

DONE: list[subprocess.Popen[bytes]] = []


def iteration(number: int) -> None:
    """Run a command that reads nothing."""
    process = subprocess.Popen(["true"], stdin=subprocess.PIPE, stdout=sys.stderr)
    process.wait()
    DONE.append(process)
