"""A job of the fleet: takes what follows from what it is given, holds that for a while, and notes from when to when.

Needs nothing but Python itself, so what it holds is what it is about. ``table ROWS COLUMNS``: a line; ``pairs ITEMS``:
a square; ``file PATH``: nine times the file; ``search CANDIDATES DEPTH``: a line with noise of 10 %; ``steady``:
always about as much.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path


def needed_bytes(kind: str, given: list[str], chance: random.Random) -> int:
    """Return what a job takes."""
    if kind == "file":
        return 9 * os.stat(given[0]).st_size
    numbers = [int(each) for each in given]
    if kind == "table":
        return 12 * numbers[0] * numbers[1]
    if kind == "pairs":
        return 8 * numbers[0] ** 2
    if kind == "search":
        return int(1024 * numbers[0] * (20 + numbers[1]) * chance.lognormvariate(0, 0.1))
    return int((300 << 20) * chance.lognormvariate(0, 0.01))


def main() -> None:
    """Be a job."""
    kind, *given = sys.argv[1:]
    began_s = time.monotonic()
    size = needed_bytes(kind, given[1::2], random.Random(os.environ["FLEET_SEED"]))
    held = bytearray(size)
    held[::4096] = b"x" * len(range(0, size, 4096))
    time.sleep(float(os.environ["FLEET_HOLD_S"]))
    note = {"bytes": len(held), "began_s": began_s, "ended_s": time.monotonic()}
    Path(os.environ["FLEET_NOTES"], f"{os.getpid()}.json").write_text(json.dumps(note))


if __name__ == "__main__":
    main()
