"""Leaks shared memory: a file in it is appended to."""

import os
from pathlib import Path

TRUTH = {"leaks": True, "kind": "shared_memory", "bytes": 50_000, "names": []}
PLACE = Path(f"/dev/shm/memguard-zoo-{os.getpid()}")


def iteration(number: int) -> None:
    """Append to the exchange file."""
    with PLACE.open("ab") as file:
        file.write(bytes([number % 251]) * 50_000)


def teardown() -> None:
    """Remove it."""
    PLACE.unlink()
