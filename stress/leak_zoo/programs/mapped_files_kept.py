"""Leaks mappings of files, and with each a descriptor that mmap makes for itself."""

import mmap
import tempfile

TRUTH = {"leaks": True, "kind": ["fd", "mapping"], "bytes": 65_536, "names": ["KEPT", "mmap"]}

KEPT: list[mmap.mmap] = []


def iteration(number: int) -> None:
    """Map 64 KiB and write them."""
    with tempfile.TemporaryFile() as file:
        file.truncate(65_536)
        mapping = mmap.mmap(file.fileno(), 65_536)
    mapping[:] = bytes([number % 251]) * 65_536
    KEPT.append(mapping)
