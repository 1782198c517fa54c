"""Where a store may be: a folder that can be made, on a disk of this machine."""

from __future__ import annotations

from pathlib import Path

from memguard.errors import EpisodeStoreError
from memguard.host.file_systems import file_system_of, is_network

__all__ = ["check_place", "make_folder"]


def make_folder(folder: Path) -> None:
    """Make a store's folder, for this user alone, if it is not there.

    Raises:
        EpisodeStoreError: if it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EpisodeStoreError(
            f"{folder} cannot be made: {error.strerror}; name another folder", path=str(folder)
        ) from error


def check_place(folder: Path) -> None:
    """Refuse a place where no store can be kept.

    Raises:
        EpisodeStoreError: for a network file system, or a folder that cannot be seen.
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
