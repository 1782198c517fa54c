"""Leaks private anonymous mappings of a mebibyte that Python objects keep."""

import mmap

TRUTH = {"leaks": True, "kind": "mapping", "bytes": 1_048_576, "names": ["MAPS", "mmap"]}
MAPS: list[mmap.mmap] = []


def iteration(number: int) -> None:
    """Map a scratch area and keep it."""
    area = mmap.mmap(-1, 1_048_576, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.write(bytes([number % 251]) * 1_048_576)
    MAPS.append(area)
