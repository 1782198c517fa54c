"""Which sentinels there are, also those that have only been started."""

from __future__ import annotations

import os
from pathlib import Path

from memguard.guard.spawn import is_sentinel
from memguard.host.identity import read_stat


def sentinels_of(folder: Path) -> set[int]:
    """Return the processes alive that are told to be a sentinel of a ledger, whether they watch already or not."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdecimal() and is_sentinel(int(name)):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as opened:
                    if os.fsencode(folder) in opened.read() and not read_stat(int(name)).is_dead:
                        found.add(int(name))
            except (OSError, ValueError):
                continue
    return found
