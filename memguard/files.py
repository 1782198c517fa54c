"""Writing a file so that it is there whole or not at all: beside its place first, then put there in one step.

And words to a stream that may be closed, full or read by nobody: they are lost then, and nothing else is.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from memguard.errors import DataError, OutputError

__all__ = ["LossyStream", "check_apart", "check_output", "give_up_on", "publish", "whole_file"]

# What a file system that knows no hard links says of one; FAT does, and so do some that are mounted by a program.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_APPEARED: Final = "it appeared meanwhile; name another file, or give --force to replace it"


def check_output(path: Path, *, force: bool) -> None:
    """Refuse an output place that cannot or must not be written, before any work is done.

    Raises:
        DataError: if it exists (a link that leads nowhere does too) and ``force`` is not given, is a folder or a
            device, or its folder is missing or not writable.
    """
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise DataError("is a folder", subject=str(path), remedy="name a file in it")
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        # It would not be written to but replaced by a file: /dev/null, for everybody.
        raise DataError("is not a file that can be replaced", subject=str(path), remedy="name a new file")
    if mode is not None and not force:
        how = " as a link that leads nowhere" if stat.S_ISLNK(mode) else ""
        raise DataError(
            f"exists already{how}",
            subject=str(path),
            remedy="name another file, or give --force to replace it",
        )
    if not path.parent.is_dir():
        raise DataError(
            f"there is no folder {path.parent}", subject=str(path), remedy="make it first, or name another"
        )
    if not os.access(path.parent, os.W_OK):
        raise DataError("its folder is not writable", subject=str(path), remedy="name a file elsewhere")


def _mode(path: Path) -> int | None:
    """Return what is there: that to which a link leads, the link itself where it leads nowhere."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return path.lstat().st_mode if path.is_symlink() else None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"cannot be written there: {why}", subject=str(path), remedy="name another file"
        ) from error


def check_apart(places: Mapping[str, Path | str | None]) -> None:
    """Refuse one file in two roles, by whatever names: writing the one would destroy the other.

    Args:
        places: role, as people know it, to the file; ``None`` for a role that is not taken.

    Raises:
        DataError: it names both roles.
    """
    taken = [(role, str(place)) for role, place in places.items() if place is not None]
    for (role, place), (other_role, other) in itertools.combinations(taken, 2):
        if _is_same(place, other):
            raise DataError(
                f"is named both as {role} and as {other_role}", subject=other, remedy="name another file"
            )


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.realpath(one) == os.path.realpath(other) or os.path.samefile(one, other)
    except (
        OSError,
        ValueError,
    ):  # one of them is not there, so it is not the other; what else is wrong is told later
        return False


def publish(beside: str | Path, path: str | Path, *, force: bool) -> None:
    """Put a finished file in its place in one step; with ``force`` instead of what is there, a link included.

    Raises:
        FileExistsError: without ``force``, if there is anything of that name.
        OSError: if it cannot be put there.
    """
    if not force:
        try:
            os.link(beside, path)  # refused where the name is taken, unlike a rename
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _rename_new(beside, path)
        else:
            os.unlink(beside)
    else:
        os.replace(beside, path)


def _rename_new(beside: str | Path, path: str | Path) -> None:
    # The name is taken in one step; what then replaces it replaces an empty file of our own.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        os.replace(beside, path)
    except OSError:
        os.unlink(path)
        raise


@contextmanager
def whole_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path``; put it there if the block ends well, else remove it.

    Raises:
        OutputError: if writing or publishing fails, for instance because the disk is full, or without ``force``
            because the name has been taken meanwhile.
    """
    # The name is cut, for a file name may have 255 bytes and this one must fit wherever the other does.
    beside = path.with_name(f".{path.name[:32]}.{os.urandom(4).hex()}.part")
    try:
        yield beside
        publish(beside, path, force=force)
    except OSError as error:
        remedy = _APPEARED if isinstance(error, FileExistsError) else "make room, or name a file elsewhere"
        raise OutputError(
            f"{path} could not be written: {error.strerror or error}; {remedy}", path=str(path)
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            beside.unlink()


def give_up_on(stream: TextIO) -> None:
    """Send what a stream still holds to nowhere; Python would fail on it again at each flush, and at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class LossyStream:
    """A text stream for words that may be lost: what cannot be written is not, and nobody is told.

    Args:
        stream: where to; ``None``, as `sys.stderr` is in a process that was started without one, for nowhere.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = None if stream is None or stream.closed else stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether somebody sees it."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write, or lose it."""
        if self._stream is not None:
            try:
                self._stream.write(text)
            except OSError:
                give_up_on(self._stream)
        return len(text)

    def flush(self) -> None:
        """Flush, or lose what is held."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError:
                give_up_on(self._stream)
