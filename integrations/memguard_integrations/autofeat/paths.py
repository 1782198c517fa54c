"""The input file before anything is started: is it there, is it of a kind that can be read."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Final

from memguard.errors import DataError

__all__ = ["SUFFIXES", "check_input", "fingerprint", "is_parquet"]

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
_FORMS: Final = ".csv, .csv.gz or .parquet"


def check_input(path: str) -> None:
    """Raise unless ``path`` is a readable, non-empty file of a known kind.

    Raises:
        DataError: it names the file and what to give instead.
    """
    file = Path(path)
    if not _exists(file):
        raise _missing(file)
    if file.is_dir():
        raise DataError("is a directory", subject=path, remedy=f"name a {_FORMS} file in it")
    if not path.lower().endswith(SUFFIXES):
        raise DataError("is of no known kind", subject=path, remedy=f"give a {_FORMS} file")
    if not os.access(file, os.R_OK):
        raise DataError("may not be read", subject=path, remedy=f"allow it: chmod u+r {path}")
    if file.is_file() and file.stat().st_size == 0:
        raise DataError("is empty", subject=path, remedy="give a file with a header and rows")


def is_parquet(path: str) -> bool:
    """Whether the file is read as Parquet."""
    return path.lower().endswith(".parquet")


def fingerprint(path: str) -> str:
    """Return what changes when the file does: size, time of change and inode."""
    stat = os.stat(path)
    return f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise DataError(
            f"cannot be looked at: {error.strerror}", subject=str(file), remedy="check the path"
        ) from error


def _missing(file: Path) -> DataError:
    folder = next((each for each in reversed(file.parents) if not each.is_dir()), None)
    if folder is not None:
        what = "no folder, but a file" if folder.exists() else "no such folder"
        near = _similar(folder, "") if what == "no such folder" else ""
        return DataError(f"{folder} is {what}", subject=str(file), remedy=near or "check the path")
    near = _similar(file, f"give a {_FORMS} file that exists")
    return DataError("there is no such file", subject=str(file), remedy=near)


def _similar(wanted: Path, otherwise: str) -> str:
    try:
        names = sorted(os.listdir(wanted.parent))
    except OSError:
        return f"check the path: {wanted.parent} cannot be read"
    near = difflib.get_close_matches(wanted.name, names, n=1, cutoff=0.75)
    return f"did you mean {str(wanted.parent / near[0])!r}?" if near else otherwise
