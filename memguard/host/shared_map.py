"""A small file that many processes map: written and read without locks, and without a descriptor that stays open.

Comes in: a path and a size. Goes out: a view of the file's bytes, until `SharedMap.close`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from memguard.host._libc import map_file, unmap_file

__all__ = ["SharedMap"]


class SharedMap:
    """The mapped file.

    Args:
        path: the file; made, with mode 0600, if it is missing.
        size_bytes: how much of it; it is made that long if it is shorter.

    Attributes:
        memory: its bytes; of no use once it is closed (ValueError).

    Raises:
        OSError: if it cannot be opened or has no room.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(descriptor).st_size < size_bytes:
                # With pages: a full file system is told here, and not by a signal at the first write.
                os.posix_fallocate(descriptor, 0, size_bytes)
            self._address, self.memory = map_file(descriptor, size_bytes)
        finally:
            os.close(descriptor)
        self._size_bytes = size_bytes
        self._is_open = True

    def close(self) -> None:
        """Unmap; once or many times."""
        if self._is_open:
            self._is_open = False
            self.memory.release()
            unmap_file(self._address, self._size_bytes)

    def __del__(self) -> None:
        if getattr(self, "_is_open", False):
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
