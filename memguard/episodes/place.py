"""Where a store lies: whether it can be kept there, and how it is read where nothing can be written.

Comes in: a folder, or the path of its database. Goes out: nothing, or the reason why it cannot be.
"""

from __future__ import annotations

import os
from pathlib import Path

from memguard.episodes.syncing import sync_folder
from memguard.errors import EpisodeStoreError
from memguard.host.file_systems import file_system_of, is_network

__all__ = ["Stamp", "check_log", "check_place", "make_folder", "size_of", "stamp_of"]

# A file's number, length and time.
Stamp = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp | None:
    """Return what tells a file that nobody here can write to from a changed one; ``None`` where SQLite can tell.

    To read a file with a log SQLite needs a third one, which cannot be made in such a folder. Without a log the file is
    read as one that never changes, and it is looked at before and after each use whether that was so.
    """
    if os.access(path.parent, os.W_OK) or _has_log(path):
        return None
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


def check_log(path: Path) -> None:
    """Refuse a database with a log that nobody here can read: less would be shown than there is.

    Raises:
        EpisodeStoreError: it says what to do.
    """
    if _has_log(path) and not os.access(path.parent, os.W_OK) and not size_of(f"{path}-shm"):
        raise EpisodeStoreError(
            f"the log of {path} has adds that can only be read where this user may write; copy the folder to such a "
            "place, and open the copy",
            path=str(path),
        )


def _has_log(path: Path) -> bool:
    return size_of(f"{path}-wal") > 0


def size_of(path: Path | str) -> int:
    """Return how long a file is; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def make_folder(folder: Path) -> None:
    """Make a folder for this user alone, if it is not there, and bring its name to the disk.

    Raises:
        EpisodeStoreError: if it cannot be made.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in missing:
            sync_folder(each.parent)
    except OSError as error:
        raise EpisodeStoreError(
            f"{folder} cannot be made: {error.strerror}; name another folder", path=str(folder)
        ) from error


def check_place(folder: Path) -> None:
    """Refuse a folder on a file system that several machines write to.

    Raises:
        EpisodeStoreError: it names the file system.
    """
    try:
        kind = file_system_of(folder)
    except OSError as error:
        raise EpisodeStoreError(f"{folder}: {error.strerror}", path=str(folder)) from error
    if is_network(kind):
        raise EpisodeStoreError(
            f"{folder} lies on a network file system ({kind}), where a database in use by several machines is damaged "
            "sooner or later; name a folder on a local disk",
            path=str(folder),
        )
