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
    if not file.exists():
        raise DataError("there is no such file", subject=path, remedy=_similar_file(file))
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


def _similar_file(file: Path) -> str:
    try:
        names = sorted(os.listdir(file.parent))
    except OSError:
        return f"check the path: {file.parent} cannot be read"
    near = difflib.get_close_matches(file.name, names, n=1, cutoff=0.75)
    return f"did you mean {str(file.parent / near[0])!r}?" if near else f"give a {_FORMS} file that exists"
