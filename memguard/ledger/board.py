"""What each lease uses, and what is asked of it: one small file that all processes map, read and written without locks.

Comes in: figures of the guards, some hundred times a second. Goes out: the same to whoever decides. A slot belongs to
one lease (the ledger says which) and has one writer for each field; a field is eight bytes and is written at once. What
must survive stands in the ledger, not here.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final, Self

__all__ = ["SLOTS", "Board", "used_in"]

# 64 bytes, a line of the processor's cache: writers do not slow each other.
_SLOT_BYTES: Final = 64
SLOTS: Final = 1024
_FIELD: Final = struct.Struct("=Q")
_SLOT: Final = struct.Struct("=QQ")
_USED, _TOKEN = 0, 8


class Board:
    """A table of figures, one slot a lease.

    Args:
        path: the file; made if it is missing.

    Raises:
        OSError: if it cannot be opened or has no room.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(descriptor).st_size < SLOTS * _SLOT_BYTES:
                # With pages: a full file system is told here, and not by a signal at the first write.
                os.posix_fallocate(descriptor, 0, SLOTS * _SLOT_BYTES)
            self._memory = mmap.mmap(descriptor, SLOTS * _SLOT_BYTES)
        finally:
            os.close(descriptor)

    def claim(self, slot: int, token: int) -> None:
        """Begin to use a slot, for the lease that has this token."""
        _FIELD.pack_into(self._memory, slot * _SLOT_BYTES + _USED, 0)
        _FIELD.pack_into(self._memory, slot * _SLOT_BYTES + _TOKEN, token)

    def write_used(self, slot: int, used_bytes: int) -> None:
        """Tell what a lease's tree uses now."""
        _FIELD.pack_into(self._memory, slot * _SLOT_BYTES + _USED, used_bytes)

    def copy(self) -> bytes:
        """Return all figures as they are now, for `used_in`."""
        return self._memory[:]

    def close(self) -> None:
        """Unmap; once or many times."""
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def used_in(figures: bytes, slot: int, token: int) -> int:
    """Return what a lease's tree was last seen to use; 0 while its guard has not said."""
    used, owner = _SLOT.unpack_from(figures, slot * _SLOT_BYTES)
    return int(used) if owner == token else 0
