"""Where episodes come from: JSON lines, a JSON array, Parquet, NumPy's columns, a pipe; `objects.py` has the rest.

Comes in: a file. Goes out: records, one at a time, with a digest of each and a proof of what lies before it;
and the episode of each, with an id that follows from content and place. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from memguard.episodes.columns import columns_of, rows_of
from memguard.episodes.json_arrays import items_of
from memguard.episodes.records import Episode
from memguard.errors import DataError, EpisodeInvalid, MissingExtra

__all__ = ["NAMES", "FileSource", "Record", "Source", "digest_of", "episode_in", "episode_of"]

_AT_ONCE: Final = 1000
_LONGEST_LINE: Final = 128 << 20
# What other stores call the same thing, each tried in turn.
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text", "content", "memory", "document", "page_content"),
    "vector": ("vector", "embedding"),
    "metadata": ("metadata", "payload"),
    "happened_at_s": ("happened_at_s", "happened_at", "timestamp", "created_at"),
}
_REMEDY: Final = "mend it, or leave such lines out with --skip-bad"
_PICKLES: Final = (".pkl", ".pickle", ".p", ".joblib", ".pt", ".pth", ".dill")
_INSTEAD_OF_PICKLES: Final = (
    "in the program that made it write lines, `file.write(json.dumps({'text': each.text, 'vector': list(each.vector), "
    "'metadata': each.metadata}) + '\\n')`, and import the .jsonl; or hand the objects to "
    "memguard.episodes.import_objects"
)


class Record(NamedTuple):
    """A record of a file.

    Attributes:
        number: from 1.
        read_bytes: how far the file was read with it.
        content: what it holds; a `DataError` where that cannot be told.
        digest: of the record.
        proof: of the file up to it.
    """

    number: int
    read_bytes: int
    content: Any
    digest: str
    proof: str


def digest_of(content: bytes) -> str:
    """Return what tells a record from others."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


class Source(Protocol):
    """Where records come from."""

    @property
    def namespace(self) -> str:
        """Where episodes go that do not say so themselves."""

    @property
    def mark(self) -> str:
        """What tells this source from others that go to the same namespace."""

    @property
    def size_bytes(self) -> int | None:
        """How long it is; ``None``: nobody knows."""

    def records(self, after: int = 0, proof: str = "") -> Iterator[Record]:
        """Give the records behind some, if what lies before them is still what it was; else all."""

    def wrong(self, number: int, what: str) -> DataError:
        """Return what is wrong with a record, with its place."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of episodes.

    Attributes:
        path: where it is; ``.jsonl`` or ``.ndjson``, ``.json`` (an array, or lines), ``.parquet``, ``.npz`` (a column
            for each of text, vector, metadata ...); ``-``: JSON lines from stdin.
        namespace: where episodes go that do not say so themselves.
    """

    path: Path
    namespace: str = "default"

    @property
    def mark(self) -> str:
        """What tells this file, by its place, from others that go to the same namespace."""
        told = hashlib.blake2b(str(self.path.absolute()).encode("utf-8", "surrogateescape"), digest_size=10)
        told.update(f"\0{self.namespace}".encode())
        return told.hexdigest()

    @property
    def is_pipe(self) -> bool:
        """Whether it is read once, from stdin."""
        return str(self.path) == "-"

    @property
    def size_bytes(self) -> int | None:
        """How long it is; ``None`` for a pipe, and what cannot be looked at."""
        try:
            return None if self.is_pipe else self.path.stat().st_size
        except OSError:
            return None  # `records` says why

    def require(self) -> None:
        """Look whether it can be read, before anything is made for it.

        Raises:
            DataError: it cannot.
        """
        if self.is_pipe:
            return
        try:
            self.path.open("rb").close()
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> DataError:
        missing = isinstance(error, FileNotFoundError)
        what = "there is no such file" if missing else f"cannot be read: {error.strerror}"
        return DataError(
            what,
            subject=str(self.path),
            remedy="name a file of JSON lines, a JSON array, a Parquet file or columns in .npz",
        )

    def records(self, after: int = 0, proof: str = "") -> Iterator[Record]:
        """Give the records behind some, if what lies before them is still what it was; else all.

        Args:
            after: how many to pass over.
            proof: of the last of them, as it was when it was read.

        Raises:
            DataError: if the file cannot be read.
            MissingExtra: if what reads it is not installed.
        """
        if self.is_pipe:
            return self._lines_of(sys.stdin.buffer, 0)
        kind = self.path.suffix.lower()
        if kind in _PICKLES:
            raise DataError(
                "is a pickle, which may run any code while it is read, and is never opened",
                subject=str(self.path),
                remedy=_INSTEAD_OF_PICKLES,
            )
        read = self._readers().get(kind)
        if read is None:
            raise DataError(
                f"{kind or 'a file without an ending'} is no kind of file that can be imported",
                subject=str(self.path),
                remedy="give .jsonl, .json, .parquet or .npz",
            )
        return self._behind(read, after, proof)

    def _readers(self) -> Mapping[str, Callable[[int], Iterator[Record]]]:
        lines = dict.fromkeys((".jsonl", ".ndjson"), self._lines)
        return {**lines, ".json": self._array_or_lines, ".parquet": self._rows, ".npz": self._columns}

    @staticmethod
    def _behind(read: Callable[[int], Iterator[Record]], after: int, proof: str) -> Iterator[Record]:
        for record in read(after):
            if record.number == after and record.proof != proof:
                yield from read(0)
                return
            if record.number > after:
                yield record

    def _lines(self, after: int) -> Iterator[Record]:
        """Give lines, those before the last that is passed over unread."""
        try:
            with self.path.open("rb") as file:
                yield from self._lines_of(file, after)
        except OSError as error:
            raise self._unreadable(error) from error

    def _lines_of(self, file: BinaryIO, after: int) -> Iterator[Record]:
        told, read = hashlib.blake2b(digest_size=10), 0
        for number, line in enumerate(_bounded_lines(file), start=1):
            told.update(line)
            read += len(line)
            if number >= after and (line.strip() or number == after):
                content = None if number == after else self._line(number, line)
                yield Record(number, read, content, digest_of(line), told.hexdigest())

    def _array_or_lines(self, after: int) -> Iterator[Record]:
        try:
            with self.path.open("rb") as file:
                head = file.read(1024).lstrip()
                file.seek(0)
                if head.startswith(b"["):
                    yield from self._items(file, after)
                else:
                    yield from self._lines_of(file, after)
        except OSError as error:
            raise self._unreadable(error) from error

    def _items(self, file: BinaryIO, after: int) -> Iterator[Record]:
        """Give what is in an array; behind what is no JSON nothing can be told apart."""
        told, number, read = hashlib.blake2b(digest_size=10), 0, 0
        try:
            for item, text in items_of(file, longest=_LONGEST_LINE):
                number += 1
                stored = text.encode("utf-8", "surrogatepass")
                told.update(stored)
                read += len(stored)
                if number >= after:
                    yield Record(number, read, item, digest_of(stored), told.hexdigest())
        except (ValueError, RecursionError) as error:
            raise self.wrong(number + 1, f"is not JSON: {error}") from error

    def _line(self, number: int, line: bytes) -> Any:
        try:
            if len(line) > _LONGEST_LINE:
                raise ValueError(f"it is longer than {_LONGEST_LINE >> 20} MiB")
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            return self.wrong(number, f"is not JSON: {error}")

    def _rows(self, after: int) -> Iterator[Record]:
        """Give rows; that the file is the same is told by its length and its time."""
        try:
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise MissingExtra(
                "reading Parquet needs pyarrow: pip install 'automl-memguard[episodes]'", extra="episodes"
            ) from error
        try:
            stat = self.path.stat()
            file, number, proof = parquet.ParquetFile(self.path), 0, f"{stat.st_size} {stat.st_mtime_ns}"
            for batch in file.iter_batches(batch_size=_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    if number >= after:
                        told = json.dumps(row, default=str, sort_keys=True).encode()
                        read = stat.st_size * number // max(1, file.metadata.num_rows)
                        yield Record(number, read, row, digest_of(told), proof)
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError as error:
            raise DataError(
                f"cannot be read as Parquet: {error}", subject=str(self.path), remedy="look at it"
            ) from error

    def _columns(self, after: int) -> Iterator[Record]:
        try:
            stat = self.path.stat()
            proof = f"{stat.st_size} {stat.st_mtime_ns}"
            with columns_of(self.path) as columns:
                for number, (row, stored) in enumerate(rows_of(columns), start=1):
                    if number >= after:
                        read = stat.st_size * number // max(1, columns.count)
                        yield Record(number, read, row, digest_of(stored), proof)
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError as error:
            remedy = _INSTEAD_OF_PICKLES if "pickle" in str(error) else "save it again with numpy.savez"
            raise DataError(
                f"cannot be read as NumPy's columns: {error}", subject=str(self.path), remedy=remedy
            ) from error

    def wrong(self, number: int, what: str) -> DataError:
        """Return what is wrong with a record, with its line or row."""
        return DataError(what, subject=f"{self.path}:{number}", remedy=_REMEDY)


def episode_in(source: Source, record: Record) -> Episode:
    """Return the episode of a record.

    Raises:
        DataError: it names the line, row or object.
    """
    if isinstance(record.content, DataError):
        raise record.content
    try:
        # By place and content: a line that was mended, or added at the end, is new, and the others are not.
        made = f"{record.number:010d}-{record.digest}-{source.mark}"
        return episode_of(record.content, source.namespace, made)
    except EpisodeInvalid as error:
        raise source.wrong(record.number, str(error)) from error


def _bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """Give the lines of a file; of one that is too long its beginning, once."""
    while line := file.readline(_LONGEST_LINE + 1):
        yield line
        while len(line) > _LONGEST_LINE and not line.endswith(b"\n"):
            line = file.readline(_LONGEST_LINE + 1)


def episode_of(content: Any, namespace: str, episode_id: str) -> Episode:
    """Return the episode that a record of some other store means.

    Args:
        content: a mapping, with a text under one of the names that are in use for it, or a text by itself.
        namespace: if it names none.
        episode_id: if it has none.

    Raises:
        EpisodeInvalid: if it cannot be one.
    """
    if isinstance(content, str):
        return Episode(text=content, namespace=namespace, id=episode_id)
    if not isinstance(content, Mapping):
        raise EpisodeInvalid(f"a record is a mapping or a text, not a {type(content).__name__}")
    found = {name: _first(content, names) for name, names in NAMES.items()}
    return Episode(
        text="" if found["text"] is None else found["text"],
        vector=found["vector"],
        metadata=_mapping(found["metadata"]),
        namespace=content.get("namespace") or namespace,
        kind=content.get("kind") or "note",
        happened_at_s=_moment(found["happened_at_s"]),
        id=str(content.get("id") or episode_id),
    )


def _first(content: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((content[name] for name in names if content.get(name) is not None), None)


def _mapping(metadata: Any) -> Mapping[str, Any]:
    """Return metadata, which Parquet files hold as JSON now and then."""
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError as error:
            raise EpisodeInvalid(f"the metadata are a text that is not JSON: {error}") from error
    return {} if metadata is None else metadata


def _moment(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise EpisodeInvalid(
                f"{value!r} is no moment; write 2026-11-22T01:30:00+00:00 or seconds"
            ) from error
    if isinstance(value, datetime):
        return value.timestamp()
    return value  # type: ignore[no-any-return] # looked at with the episode
