"""Room for columns on disk: a file without a name, mapped, whose space is reserved before anything is written to it.

Comes in: a directory and how many bytes. Goes out: a mapping. Space that a file only promises would end the process
by SIGBUS at the write that finds the disk full; space that is reserved is refused with an error that can be told.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from pathlib import Path

from memguard.errors import OutputError
from memguard.units import format_bytes

__all__ = ["ScratchFull", "map_scratch", "scratch_folder", "scratch_free_bytes"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ScratchFull(OutputError):  # noqa: N818 - named for what happened, as all of memguard's errors
    """A scratch directory without room for what does not fit into memory; nothing of it is left behind.

    Attributes:
        path: the directory.
        needed_bytes: how much more is needed at most.
        free_bytes: how much is free there.
    """

    def __init__(self, *, path: str, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"the scratch directory {path} has {format_bytes(free_bytes)} free, and up to "
            f"{format_bytes(needed_bytes)} more are needed; name another one (scratch_dir=), give more memory, or "
            f"take fewer steps or transformations",
            path=path,
        )
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


def map_scratch(directory: str | os.PathLike[str] | None, size_bytes: int) -> mmap.mmap:
    """Map a new file without a name; the disk has it back when the mapping goes, however the process ends.

    Args:
        directory: where; ``None`` for the system's directory for temporary files.
        size_bytes: how large, above 0; all of it is reserved at once.

    Raises:
        ScratchFull: if there is no room.
        OSError: if the directory cannot be written to.
    """
    place = Path(scratch_folder(directory))
    with tempfile.TemporaryFile(dir=place) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise ScratchFull(
                path=str(place), needed_bytes=size_bytes, free_bytes=_free_bytes(place)
            ) from error
        return mmap.mmap(file.fileno(), size_bytes)


def scratch_folder(directory: str | os.PathLike[str] | None) -> str:
    """Return where columns go that do not fit: the system's directory for temporary files where none is named."""
    return tempfile.gettempdir() if directory is None else os.fspath(directory)


def scratch_free_bytes(directory: str | os.PathLike[str] | None) -> int:
    """Return how much is free there for this user; 0 if it cannot be asked."""
    try:
        return _free_bytes(Path(scratch_folder(directory)))
    except OSError:  # whoever writes there is told the reason
        return 0


def _free_bytes(place: Path) -> int:
    told = os.statvfs(place)
    return told.f_bavail * told.f_frsize
