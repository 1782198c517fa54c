"""Writing a file so that it is there whole or not at all: beside its place first, then renamed."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memguard.errors import DataError, OutputError

__all__ = ["check_output", "whole_file"]


def check_output(path: Path, *, force: bool) -> None:
    """Refuse an output place that cannot or must not be written, before any work is done.

    Raises:
        DataError: if it exists and ``force`` is not given, is a folder or a device, or its folder is missing or not
            writable.
    """
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise DataError("is a folder", subject=str(path), remedy="name a file in it")
    if mode is not None and not stat.S_ISREG(mode):
        # It would not be written to but replaced by a file: /dev/null, for everybody.
        raise DataError("is not a file that can be replaced", subject=str(path), remedy="name a new file")
    if mode is not None and not force:
        raise DataError(
            "exists already", subject=str(path), remedy="name another file, or give --force to replace it"
        )
    if not path.parent.is_dir():
        raise DataError(
            f"there is no folder {path.parent}", subject=str(path), remedy="make it first, or name another"
        )
    if not os.access(path.parent, os.W_OK):
        raise DataError("its folder is not writable", subject=str(path), remedy="name a file elsewhere")


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(
            f"cannot be written there: {error.strerror}", subject=str(path), remedy="name another file"
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it there if the block ends well, else remove it.

    Raises:
        OutputError: if writing or renaming fails, for instance because the disk is full.
    """
    # The name is cut, for a file name may have 255 bytes and this one must fit wherever the other does.
    beside = path.with_name(f".{path.name[:32]}.{os.urandom(4).hex()}.part")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error.strerror or error}; make room, or name a file elsewhere",
            path=str(path),
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            beside.unlink()
