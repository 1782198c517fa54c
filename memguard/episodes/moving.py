"""Episodes in and out by the file: JSON lines and Parquet, a batch at a time, gone on with where it was cut off.

Comes in: a file. Goes out: episodes with ids that follow from the file's content and their place in it, so that the
same file again adds nothing; and lines of JSON. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from memguard.episodes.records import Episode
from memguard.episodes.store import EpisodeStore
from memguard.errors import DataError, EpisodeConflict, EpisodeInvalid, EpisodeMissing, MissingExtra

__all__ = ["Import", "Imported", "Source", "as_line", "episode_of"]

_AT_ONCE: Final = 1000
_LONGEST_LINE: Final = 128 << 20
# What other stores call the same thing, each tried in turn.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text", "content", "memory", "document"),
    "vector": ("vector", "embedding"),
    "metadata": ("metadata", "payload"),
    "happened_at_s": ("happened_at_s", "happened_at", "timestamp", "created_at"),
}
_REMEDY: Final = "mend it, or leave such lines out with --skip-bad"


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


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Source:
    """A file of episodes.

    Attributes:
        path: where it is; ``.jsonl`` or ``.ndjson``, and ``.parquet``.
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
    def size_bytes(self) -> int:
        """How long it is."""
        return self.path.stat().st_size

    def _unreadable(self, error: OSError) -> DataError:
        missing = isinstance(error, FileNotFoundError)
        what = "there is no such file" if missing else f"cannot be read: {error.strerror}"
        return DataError(what, subject=str(self.path), remedy="name a file of JSON lines or a Parquet file")

    def records(self, after: int = 0, proof: str = "") -> Iterator[Record]:
        """Give the records behind some, if what lies before them is still what it was; else all.

        Args:
            after: how many to pass over.
            proof: of the last of them, as it was when it was read.

        Raises:
            DataError: if the file cannot be read.
            MissingExtra: if what reads it is not installed.
        """
        kind = self.path.suffix.lower()
        if kind == ".parquet":
            return self._behind(self._rows, after, proof)
        if kind in (".jsonl", ".ndjson", ".json"):
            return self._behind(self._lines, after, proof)
        raise DataError(
            f"{kind or 'a file without an ending'} is no kind of file that can be imported",
            subject=str(self.path),
            remedy="give .jsonl or .parquet",
        )

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
        told = hashlib.blake2b(digest_size=10)
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(_bounded_lines(file), start=1):
                    told.update(line)
                    if number >= after and (line.strip() or number == after):
                        content = None if number == after else self._line(number, line)
                        yield Record(number, file.tell(), content, _digest(line), told.hexdigest())
        except OSError as error:
            raise self._unreadable(error) from error

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
                        yield Record(number, read, row, _digest(told), proof)
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError as error:
            raise DataError(
                f"cannot be read as Parquet: {error}", subject=str(self.path), remedy="look at it"
            ) from error

    def episode(self, record: Record) -> Episode:
        """Return the episode of a record.

        Raises:
            DataError: it names the line or row.
        """
        if isinstance(record.content, DataError):
            raise record.content
        try:
            # By place and content: a line that was mended, or added at the end, is new, and the others are not.
            made = f"{record.number:010d}-{record.digest}-{self.mark}"
            return episode_of(record.content, self.namespace, made)
        except EpisodeInvalid as error:
            raise self.wrong(record.number, str(error)) from error

    def wrong(self, number: int, what: str) -> DataError:
        """Return what is wrong with a record, with its line or row."""
        return DataError(what, subject=f"{self.path}:{number}", remedy=_REMEDY)


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
    found = {name: _first(content, names) for name, names in _NAMES.items()}
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


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes:
        records: of the file, up to its end; those of former imports among them.
        added: episodes that were not there before.
        left_out: records that are no episodes.
    """

    records: int
    added: int
    left_out: int


class Import:
    """An import of a file into a store; call `run`, and after any death again.

    Args:
        store: where the episodes go.
        source: where they are.
        skip_bad: whether what is no episode is left out; otherwise the import stops there.
        on_bad: given what is wrong with each that is left out.
        on_progress: given how many bytes of the file were read.
    """

    def __init__(
        self,
        store: EpisodeStore,
        source: Source,
        *,
        skip_bad: bool = False,
        on_bad: Callable[[DataError], object] = lambda _: None,
        on_progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._store, self._source, self._skips, self._tell = store, source, skip_bad, on_bad
        self._advance, self._left_out = on_progress, 0
        self._name = f"import {source.mark}"

    @property
    def begun(self) -> int:
        """How many records of this file a former import ended behind, if it is still the same up to there."""
        return self._begun[0]

    @property
    def _begun(self) -> tuple[int, str]:
        done, _, proof = (self._store.mark(self._name) or "0").partition(" ")
        return int(done), proof

    def run(self) -> Imported:
        """Add what is not there yet.

        Raises:
            DataError: for a record that is no episode, unless such are skipped; all before it are in the store.
            EpisodeStoreError: if the store cannot be written.
        """
        done, proof = self._begun
        before = len(self._store)
        records = self._source.records(done, proof)
        while some := list(islice(records, _AT_ONCE)):
            self._add(some)
            done = some[-1].number
            self._advance(some[-1].read_bytes)
        return Imported(done, len(self._store) - before, self._left_out)

    def _add(self, some: list[Record]) -> None:
        mark = f"{some[-1].number} {some[-1].proof}"
        try:
            self._store.add_marked(map(self._source.episode, some), self._name, mark)
        except (DataError, EpisodeInvalid, EpisodeConflict):
            for record in some:
                self._add_one(record)
            self._store.add_marked([], self._name, mark)

    def _add_one(self, record: Record) -> None:
        try:
            episode = self._source.episode(record)
            try:
                self._store.add_episode(episode)
            except (EpisodeInvalid, EpisodeConflict) as error:
                if not self._was_deleted(episode.id):  # what was deleted is not to come back
                    raise self._source.wrong(record.number, str(error)) from error
        except DataError as error:
            if not self._skips:
                raise
            self._left_out += 1
            self._tell(error)

    def _was_deleted(self, episode_id: str) -> bool:
        try:
            return self._store.history(episode_id)[-1].what == "deleted"
        except EpisodeMissing:
            return False


def as_line(episode: Episode) -> str:
    """Return an episode as a line of JSON, which an import reads again."""
    vector = None if episode.vector is None else np.asarray(episode.vector).tolist()
    known = {
        "id": episode.id,
        "namespace": episode.namespace,
        "kind": episode.kind,
        "happened_at_s": episode.happened_at_s,
        "version": episode.version,
        "noted_at_s": episode.noted_at_s,
        "text": episode.text,
        "metadata": dict(episode.metadata),
    }
    return json.dumps(known if vector is None else known | {"vector": vector}, ensure_ascii=False)
