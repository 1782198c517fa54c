"""Tables as a stream of Arrow batches: a file or a frame comes in, batches of named columns go out.

CSV is read by pyarrow's streaming reader, one block after another on one thread: memory stays at a few blocks
whatever the file's size, a row with too few or too many fields is an error with its number (pandas fills
short rows silently), and every column arrives as text, so that its type is decided once over all rows and
every batch of every later pass agrees. Parquet and frames keep their types. Runs inside the worker only. It
does not decide what a column means; that is `survey` and `checks`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from memguard.errors import DataError
from memguard_integrations.autofeat.names import duplicated
from memguard_integrations.autofeat.paths import check_input, fingerprint, is_parquet
from memguard_integrations.autofeat.wording import ARGUMENTS, FLAGS, Wording

__all__ = ["TARGET", "CsvSource", "FrameSource", "IndexSpec", "ParquetSource", "Source", "open_source"]

# The target's column beside features in memory.
TARGET: Final = "__target__"

# The reader holds about twenty of them, read ahead and parsed; larger ones are slower too.
_BLOCK_BYTES: Final = 1024 * 1024
_ROWS_PER_BATCH: Final = 50_000
_DELIMITERS: Final = (",", ";", "\t", "|")
_DELIMITER_NAMES: Final = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MISSING_TEXTS: Final = (
    *(
        "",
        "NA",
        "N/A",
        "n/a",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "NaN",
        "nan",
        "-NaN",
        "-nan",
        "NULL",
        "null",
        "None",
    ),
    *("<NA>", "-1.#IND", "1.#IND", "-1.#QNAN", "1.#QNAN"),
)


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """The row labels of a table that was written by pandas.

    Attributes:
        columns: stored columns that are the index; empty for a range.
        start: first label of a range.
        step: distance between its labels.
    """

    columns: tuple[str, ...] = ()
    start: int = 0
    step: int = 1

    @property
    def is_default(self) -> bool:
        """Whether the labels are just the row numbers."""
        return not self.columns and (self.start, self.step) == (0, 1)


class Source(Protocol):
    """A table that can be read again and again from its start, batch by batch."""

    @property
    def label(self) -> str:
        """What to call it in a message."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns, index columns left out."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed in reading it, one sentence each."""

    @property
    def index(self) -> IndexSpec:
        """Its row labels."""

    @property
    def wording(self) -> Wording:
        """How a remedy is written to whoever gave it."""

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield all rows in order, with exactly these columns (index columns may be asked for too)."""

    def fingerprint(self) -> str:
        """Return what changes when the table does."""


def open_source(path: str) -> Source:
    """Open a ``.csv``, ``.csv.gz`` or ``.parquet`` file.

    Raises:
        DataError: if there is no such file or it cannot be read as what its name says.
    """
    check_input(path)
    # Arrow's own allocator keeps what it once had (50 MiB after a CSV file); this one gives it back when
    # asked.
    pa.set_memory_pool(pa.system_memory_pool())
    return ParquetSource(path) if is_parquet(path) else CsvSource(path)


class CsvSource:
    """A CSV file with a header line; every value arrives as text, stripped, missing ones as null."""

    index = IndexSpec()
    wording = FLAGS

    def __init__(self, path: str) -> None:
        self.label = path
        header, self._delimiter = _read_header(path)
        self._raw_names = tuple(header)
        stripped = [name.strip() for name in header]
        self.names = tuple(name or f"column_{number}" for number, name in enumerate(stripped, 1))
        self.notes = tuple(self._make_notes(stripped))
        _refuse_duplicates(self.names, path)

    def _make_notes(self, stripped: Sequence[str]) -> Iterator[str]:
        if self._delimiter != ",":
            yield f"its fields are separated by {_DELIMITER_NAMES[self._delimiter]}"
        for number, name in enumerate(stripped, 1):
            if not name:
                yield f"column {number} has no name in the header; it is called column_{number}"

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield all rows as text columns.

        Raises:
            DataError: for a row with the wrong number of fields, bytes that are not UTF-8, a damaged archive.
        """
        raw = [self._raw_names[self.names.index(name)] for name in columns]
        try:
            with self._open(raw) as reader:
                for batch in reader:
                    if batch.num_rows:
                        yield _stripped(batch.select(raw), columns)
        except (pa.ArrowInvalid, OSError, zlib.error, EOFError) as error:
            raise _unreadable(self.label, error) from error
        finally:
            pa.default_memory_pool().release_unused()

    def _open(self, raw: Sequence[str]) -> pa_csv.CSVStreamingReader:
        # A table of zero columns has no rows: the first column is read along when only rows are counted.
        wanted = list(raw) or [self._raw_names[0]]
        return pa_csv.open_csv(
            self.label,
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(self._raw_names, pa.string()),
                include_columns=wanted,
                strings_can_be_null=True,
                null_values=list(_MISSING_TEXTS),
            ),
        )

    def fingerprint(self) -> str:
        """Return what changes when the file does."""
        return fingerprint(self.label)


class ParquetSource:
    """A Parquet file; columns keep their types, the index that pandas stored is kept apart."""

    notes: tuple[str, ...] = ()
    wording = FLAGS

    def __init__(self, path: str) -> None:
        self.label = path
        try:
            self._schema = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(path, error) from error
        self.index = _stored_index(self._schema)
        self.names = tuple(name for name in self._schema.names if name not in self.index.columns)
        _refuse_duplicates(self._schema.names, path)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield all rows.

        Raises:
            DataError: for a damaged file.
        """
        try:
            with pq.ParquetFile(self.label) as file:
                # Reading row groups ahead would hold several of them at once.
                yield from file.iter_batches(_ROWS_PER_BATCH, columns=list(columns), use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(self.label, error) from error
        finally:
            pa.default_memory_pool().release_unused()

    def fingerprint(self) -> str:
        """Return what changes when the file does."""
        return fingerprint(self.label)


class FrameSource:
    """A pandas frame in memory, a target beside it where there is one; numbers are read without a copy."""

    notes: tuple[str, ...] = ()
    index = IndexSpec()
    wording = ARGUMENTS

    def __init__(self, frame: Any, *, target: Any = None, label: str = "X") -> None:
        self.label = label
        self.rows = len(frame)
        names = [str(name) for name in frame.columns]
        series = [frame.iloc[:, place] for place in range(len(names))]
        if target is not None:
            names.append(TARGET)
            series.append(target)
        self.names = tuple(names)
        _refuse_duplicates(self.names, label)
        columns = {name: self._column(name, each) for name, each in zip(names, series, strict=True)}
        self._table = pa.table(columns)

    def _column(self, name: str, values: Any) -> pa.Array:
        try:
            return pa.Array.from_pandas(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            problem = f"holds values of mixed or unknown types ({_first_line(error)})"
            if name == TARGET:
                remedy = "convert it to numbers or to text"
                raise self.wording.target_error(self.label, name, problem, remedy) from error
            raise DataError(
                f"column {name!r} {problem}",
                subject=self.label,
                remedy="convert it to numbers or to text, or leave it out",
            ) from error

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield all rows."""
        yield from self._table.select(list(columns)).to_batches(_ROWS_PER_BATCH)

    def fingerprint(self) -> str:
        """Return nothing: a worker's copy of a frame does not change."""
        return ""


def _refuse_duplicates(names: Sequence[str], label: str) -> None:
    again = duplicated(names)
    if again:
        raise DataError(
            f"has more than one column called {', '.join(map(repr, again))}",
            subject=label,
            remedy="give each column its own name",
        )


def _read_header(path: str) -> tuple[list[str], str]:
    # Read by hand: pandas renames duplicates silently, and Arrow must be told the names to read them as text.
    try:
        with _open_text(path) as text:
            line = text.readline(1 << 20)
            while line.strip() == "" and line != "":
                line = text.readline(1 << 20)
            if "\0" in line:
                raise UnicodeDecodeError("utf-8", b"\0", 0, 1, "a zero byte")
            delimiter = _guess_delimiter(line)
            return next(csv.reader(_chain(line, text), delimiter=delimiter), []) or _refuse_empty(
                path
            ), delimiter
    except (UnicodeDecodeError, csv.Error, OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _open_text(path: str) -> io.TextIOBase:
    if path.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _chain(first: str, rest: io.TextIOBase) -> Iterator[str]:
    yield first
    yield from rest


def _refuse_empty(path: str) -> list[str]:
    raise DataError("is empty", subject=path, remedy="give a file with a header and rows")


def _guess_delimiter(line: str) -> str:
    outside_quotes = "".join(line.split('"')[::2])
    return max(_DELIMITERS, key=outside_quotes.count)


def _stripped(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    columns = [_strip(batch.column(place)) for place in range(batch.num_columns)]
    return pa.RecordBatch.from_arrays(columns, names=list(names))


def _strip(column: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(column)
    missing = pc.is_in(trimmed, value_set=pa.array(_MISSING_TEXTS))
    return pc.if_else(missing, pa.scalar(None, pa.string()), trimmed)


def _stored_index(schema: pa.Schema) -> IndexSpec:
    stored = (schema.metadata or {}).get(b"pandas")
    if stored is None:
        return IndexSpec()
    spec = json.loads(stored).get("index_columns") or []
    if spec and isinstance(spec[0], dict):
        return IndexSpec(start=int(spec[0].get("start") or 0), step=int(spec[0].get("step") or 1))
    return IndexSpec(tuple(str(name) for name in spec))


def _unreadable(path: str, error: Exception) -> DataError:
    if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
        problem, remedy = "is not text in UTF-8", "give a CSV file, and save it as UTF-8"
    elif is_parquet(path):
        problem, remedy = (
            f"cannot be read as Parquet ({_first_line(error)})",
            "write it again, or give a CSV file",
        )
    else:
        problem, remedy = f"cannot be read as CSV ({_first_line(error)})", _csv_remedy(path, error)
    return DataError(problem, subject=path, remedy=remedy)


def _csv_remedy(path: str, error: Exception) -> str:
    if isinstance(error, gzip.BadGzipFile):
        return f"compress it with gzip, or name it as what it is, such as {path[: -len('.gz')]}"
    # Only where a row is named is there a line to correct.
    return "correct that line, or write it again" if "Row #" in str(error) else "write it again"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [type(error).__name__]
    line = text[0].removeprefix("CSV parse error: ")
    return line if len(line) <= 120 else line[:117] + "..."
