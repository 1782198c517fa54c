"""A small file that many processes map: written and read without locks, and without a descriptor that stays open.

Comes in: a path and a size. Goes out: a view of the file's bytes, until `SharedMap.close`.
"""

from __future__ import annotations

import os
import weakref
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
            self._path, self._file = os.fspath(path), _file_of(os.fstat(descriptor))
            if os.fstat(descriptor).st_size < size_bytes:
                # With pages: a full file system is told here, and not by a signal at the first write.
                os.posix_fallocate(descriptor, 0, size_bytes)
            address, self.memory = map_file(descriptor, size_bytes)
        finally:
            os.close(descriptor)
        self._unmap = weakref.finalize(self, _unmap, self.memory, address, size_bytes)
        self._unmap.atexit = False  # the process goes, and its mappings with it

    @property
    def is_replaced(self) -> bool:
        """Whether another file is at its path by now; one that is gone was not replaced yet."""
        try:
            return _file_of(os.stat(self._path)) != self._file
        except OSError:
            return False

    @property
    def is_there(self) -> bool:
        """Whether it is still the file at its path."""
        try:
            return _file_of(os.stat(self._path)) == self._file
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Unmap; once or many times."""
        self._unmap()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _file_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _unmap(memory: memoryview, address: int, size_bytes: int) -> None:
    memory.release()
    unmap_file(address, size_bytes)
