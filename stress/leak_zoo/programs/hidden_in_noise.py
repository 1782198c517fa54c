"""Leaks 20 KB an iteration below a result whose size jumps by megabytes."""

import random

TRUTH = {"leaks": True, "kind": "python", "bytes": 20_033, "names": ["ARCHIVE", "bytes"]}
ARCHIVE: list[bytes] = []
RESULT: list[bytearray] = []
CHANCE = random.Random(1)


def iteration(number: int) -> None:
    """Replace the result, which has a size of its own each time; archive a summary."""
    RESULT[:] = [bytearray(CHANCE.randrange(4_000_000))]
    ARCHIVE.append(bytes([number % 251]) * 20_000)
