"""Looking a store over: what is damaged is named, the rest goes on being served; what is derived can be built again.

Comes in: a store's database and files. Goes out: findings. A flipped bit in a text, in metadata or in a vector shows
in the episode's checksum, a file that was cut short in its length, and a page of the database that cannot be read in
SQLite's own check.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import apsw
import numpy as np

from memguard.episodes.namespaces import Namespace, all_namespaces
from memguard.episodes.preparing import checksum
from memguard.episodes.vectors import VectorFiles, codes_of
from memguard.episodes.writing import ADDED, UPDATED, FilesOf

__all__ = ["Finding", "check_rows", "check_tables", "rebuild_codes"]

_AT_ONCE: Final = 512
_MOST_TABLE_FAULTS: Final = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is damaged.

    Attributes:
        where: the file.
        what: what is wrong with it, in words.
        episode_id: of the episode that is meant; ``""`` where it is none, or all.
        is_derived: whether it can be built again from the rest, by ``rebuild``.
    """

    where: str
    what: str
    episode_id: str = ""
    is_derived: bool = False


def check_tables(connection: apsw.Connection, path: str) -> Iterator[Finding]:
    """Give what SQLite finds wrong with its file."""
    rows: Any = connection.execute(f"PRAGMA integrity_check({_MOST_TABLE_FAULTS})")
    try:
        for (told,) in rows:
            if told != "ok":
                yield Finding(path, str(told), is_derived="fts5" in str(told) or "words" in str(told))
    except apsw.CorruptError as error:
        yield Finding(path, str(error))


def check_rows(connection: apsw.Connection, path: str, files_of: FilesOf) -> Iterator[Finding]:
    """Give what is wrong with episodes and with the files of their vectors."""
    for namespace in all_namespaces(connection):
        files = files_of(namespace) if namespace.dimension is not None and namespace.filed_place else None
        if files is not None and files.places < namespace.filed_place:
            yield Finding(
                str(files.values_path),
                f"is cut short: vectors of namespace {namespace.name!r} from place {files.places + 1} on are lost, or "
                "their bits are",
            )
        yield from _Rows(connection, namespace, files, path).findings()


class _Rows:
    """The rows of a namespace, looked at in order."""

    def __init__(
        self, connection: apsw.Connection, namespace: Namespace, files: VectorFiles | None, path: str
    ) -> None:
        self._connection, self._namespace, self._files, self._path = connection, namespace, files, path

    def findings(self) -> Iterator[Finding]:
        asked = (
            "SELECT row, id, version, has_vector, checksum, CAST(metadata AS BLOB), CAST(text AS BLOB) FROM episode "
            f"WHERE row > ? AND row <= ? AND op IN ({ADDED}, {UPDATED}) ORDER BY row"
        )
        after, last = self._namespace.row(0), self._namespace.row(self._namespace.last_place)
        while after < last:
            upto = min(last, after + _AT_ONCE)
            try:
                rows: Any = self._connection.execute(asked, (after, upto)).fetchall()
            except apsw.CorruptError as error:
                first = after - self._namespace.row(0) + 1
                told = f"some of the versions {first} to {first + _AT_ONCE - 1} of namespace {self._namespace.name!r} "
                yield Finding(self._path, f"{told}cannot be read: {error}")
            else:
                yield from self._of(rows)
            after = upto

    def _of(self, rows: list[Any]) -> Iterator[Finding]:
        first = self._namespace.row(0)
        filed = [
            row - first for row, _, _, has, *_ in rows if has and row - first <= self._namespace.filed_place
        ]
        vectors = dict(zip(filed, self._files.read(filed), strict=True)) if self._files and filed else {}
        for row, episode_id, version, has_vector, stored, metadata, text in rows:
            vector = self._vector(row, vectors) if has_vector else None
            if checksum(text, metadata, vector) != stored:
                yield self._damaged(episode_id, version)
        if self._files is not None and filed:
            yield from self._of_codes(filed, np.stack([vectors[place] for place in filed]))

    def _vector(self, row: int, vectors: dict[int, Any]) -> bytes:
        known = vectors.get(row - self._namespace.row(0))
        if known is not None:
            return bytes(known.tobytes())
        waiting = self._connection.execute("SELECT vector FROM unfiled WHERE row = ?", (row,)).fetchone()
        return b"" if waiting is None else bytes(waiting[0])

    def _damaged(self, episode_id: str, version: int) -> Finding:
        where = self._path if self._files is None else f"{self._path} or {self._files.values_path}"
        told = f"version {version} of episode {episode_id} is not what was stored: its checksum differs"
        return Finding(where, told, episode_id)

    def _of_codes(self, places: list[int], vectors: Any) -> Iterator[Finding]:
        assert self._files is not None
        differing = (codes_of(vectors) != self._files.read_codes(places)).any(axis=1)
        if differing.any():
            first = places[int(np.flatnonzero(differing)[0])]
            yield Finding(
                str(self._files.codes_path),
                f"{int(differing.sum())} of {len(places)} vectors from place {first} on have other bits than their "
                "values: searches may miss them",
                is_derived=True,
            )


def rebuild_codes(files: VectorFiles, last_place: int) -> None:
    """Make the bits of all vectors up to a place again."""
    for first, block in files.value_blocks(last_place):
        files.write_codes(first, codes_of(block))
    files.sync()
