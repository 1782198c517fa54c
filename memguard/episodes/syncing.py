"""Names of files on the disk: a file that was synced is still lost with the power if its folder was not."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync_folder"]


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk.

    Raises:
        OSError: if they cannot be brought there.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
