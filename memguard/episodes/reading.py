"""Episodes out of rows: by id, by row, in order, and with or without their vectors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import apsw
import numpy as np
from numpy.typing import NDArray

from memguard.episodes.filters import Condition
from memguard.episodes.namespaces import Namespace, numbered
from memguard.episodes.preparing import checksum
from memguard.episodes.records import Change, Episode
from memguard.episodes.schema import PLACES
from memguard.episodes.writing import ADDED, DELETED, PURGED, UPDATED, FilesOf
from memguard.errors import EpisodeStoreError

__all__ = ["Reading", "Stored", "episodes_in"]

# The last two as bytes: one bit that turned makes a text that is none, and only its own episode is to suffer from it.
_COLUMNS: Final = (
    "row, id, version, op, is_live, has_vector, happened_us, noted_us, checksum, kind, "
    "CAST(metadata AS BLOB), CAST(text AS BLOB)"
)
_WORDS_FOR: Final = {ADDED: "added", UPDATED: "updated", DELETED: "deleted", PURGED: "purged"}
# Rows are asked for this many at a time; SQLite binds 32,766 values at the most.
_AT_ONCE: Final = 500
# What a page of episodes may take, but for its last one: rows are few where texts are long.
_PAGE_BYTES: Final = 8 << 20


class Stored(NamedTuple):
    """A row as it is stored.

    Attributes:
        columns: of the table.
        vector: shape (dimension,); ``None``: it has none.
    """

    columns: tuple[Any, ...]
    vector: NDArray[np.float32] | None

    @property
    def weight_bytes(self) -> int:
        """About what it takes in memory; text and metadata are bytes here."""
        vector = 0 if self.vector is None else self.vector.nbytes
        return 1024 + vector + len(self.columns[-1]) + len(self.columns[-2])


class Reading:
    """Reads of one look at the store.

    Args:
        connection: whose reads see one state of the store.
        files_of: gives the files of a namespace with a dimension.
    """

    def __init__(self, connection: apsw.Connection, files_of: FilesOf) -> None:
        self._connection, self._files_of = connection, files_of
        self._names: dict[int, Namespace] = {}

    def live_row(self, episode_id: str) -> int | None:
        """Return the row of an episode's last version; ``None`` if there is none, or not any more."""
        asked = "SELECT row, is_live FROM episode WHERE id = ? ORDER BY version DESC LIMIT 1"
        found = self._connection.execute(asked, (episode_id,)).fetchone()
        return found[0] if found is not None and found[1] else None

    def stored(self, row: int) -> Stored:
        """Return a row that is there as it is stored, with its vector; it never changes while it is live."""
        columns = next(self._connection.execute(f"SELECT {_COLUMNS} FROM episode WHERE row = ?", (row,)))
        return Stored(columns, self.vector(self._namespace(row), row) if columns[5] else None)

    def made_of(self, stored: Stored) -> Episode:
        """Return a stored row's episode, which shares nothing with it."""
        episode = self._episode(stored.columns, with_vector=False)
        return episode if stored.vector is None else replace(episode, vector=stored.vector.copy())

    def live(self, episode_id: str) -> Episode | None:
        """Return an episode with its vector; ``None`` if there is none, or not any more."""
        row = self.live_row(episode_id)
        return None if row is None else self.made_of(self.stored(row))

    def version(self, episode_id: str, version: int) -> Episode | None:
        """Return a version of an episode with its vector; ``None`` if there is none, or it has no content."""
        asked = f"SELECT {_COLUMNS} FROM episode WHERE id = ? AND version = ?"
        row = self._connection.execute(asked, (episode_id, version)).fetchone()
        return None if row is None or row[3] in (DELETED, PURGED) else self._episode(row, with_vector=True)

    def history(self, episode_id: str) -> tuple[Change, ...]:
        """Return the changes of an episode, first to last."""
        asked = f"SELECT {_COLUMNS} FROM episode WHERE id = ? ORDER BY version"
        return tuple(self._change(row) for row in self._connection.execute(asked, (episode_id,)))

    def by_rows(self, rows: Sequence[int], condition: Condition) -> dict[int, Episode]:
        """Return the live episodes of some rows that meet a condition, without vectors."""
        found: dict[int, Episode] = {}
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            asked = (
                f"SELECT {_COLUMNS} FROM episode WHERE row IN ({', '.join('?' * len(some))}) AND is_live"
                f"{condition.conjunct}"
            )
            stored: Any = self._connection.execute(asked, (*some, *condition.values)).fetchall()
            found.update(self._whole(stored, with_vectors=False))
        return found

    def vector(self, namespace: Namespace, row: int) -> NDArray[np.float32]:
        """Return the vector of a row that has one."""
        waiting = self._connection.execute("SELECT vector FROM unfiled WHERE row = ?", (row,)).fetchone()
        if waiting is not None:
            return np.frombuffer(waiting[0], np.float32).copy()
        found: NDArray[np.float32] = self._files_of(namespace).read([row % PLACES])[0]
        return found

    def _namespace(self, row: int) -> Namespace:
        number = row // PLACES
        if number not in self._names:
            self._names[number] = numbered(self._connection, number)
        return self._names[number]

    def _change(self, row: tuple[Any, ...]) -> Change:
        _, episode_id, version, op, _, _, _, noted_us, *_ = row
        gone = op in (DELETED, PURGED)
        episode = None if gone else self._episode(row, with_vector=False)
        return Change(episode_id, version, _WORDS_FOR[op], noted_us / 1e6, episode)

    def _episode(self, row: tuple[Any, ...], *, with_vector: bool) -> Episode:
        number, episode_id, version, _, _, has_vector, happened_us, noted_us, _, kind, metadata, text = row
        namespace = self._namespace(number)
        try:
            told, known = text.decode(), {} if metadata == b"{}" else json.loads(metadata)
        except ValueError as error:
            raise EpisodeStoreError(
                f"episode {episode_id} is damaged ({error}); `memguard episodes check` looks for more",
                path=self._connection.filename,
            ) from error
        vector = self.vector(namespace, number) if with_vector and has_vector else None
        return Episode(
            told, vector, known, namespace.name, kind, happened_us / 1e6, episode_id, version, noted_us / 1e6
        )

    def _whole(self, rows: Iterable[Any], *, with_vectors: bool) -> Iterator[tuple[int, Episode]]:
        """Give the episodes of rows, but for those that are damaged, which `check` names; vectors only if whole."""
        for row in rows:
            with contextlib.suppress(EpisodeStoreError):
                episode = self._episode(row, with_vector=with_vectors)
                yield row[0], self._without_damage(episode, row) if with_vectors else episode

    def _without_damage(self, episode: Episode, row: tuple[Any, ...]) -> Episode:
        """Leave a vector out whose episode is not what was stored: a text can be read by somebody, and it cannot."""
        vector = episode.vector
        if vector is None or checksum(row[-1], row[-2], np.asarray(vector).tobytes()) == row[8]:
            return episode
        from memguard.log import get_logger  # noqa: PLC0415 - who reads what is whole has no use for it

        get_logger(__name__).warning(
            "an episode is damaged, so its vector is left out; `memguard episodes check` looks for more",
            episode_id=episode.id,
        )
        return replace(episode, vector=None)

    def page(
        self, namespace: Namespace, after_row: int, condition: Condition, limit: int, *, with_vectors: bool
    ) -> tuple[list[Episode], int | None]:
        """Return the next live episodes behind a row that meet a condition, and behind which row to go on, if so."""
        asked = (
            f"SELECT {_COLUMNS} FROM episode WHERE row > ? AND row <= ? AND is_live{condition.conjunct} "
            "ORDER BY row LIMIT ?"
        )
        values = (after_row, namespace.rows[1], *condition.values, limit)
        vector = 4 * (namespace.dimension or 0) if with_vectors else 0
        rows, is_end = _up_to(self._connection.execute(asked, values), vector)
        last = None if is_end and len(rows) < limit else rows[-1][0]
        return [episode for _, episode in self._whole(rows, with_vectors=with_vectors)], last


def _up_to(found: apsw.Cursor, more_bytes: int) -> tuple[list[Any], bool]:
    """Return the next rows, not many more than `_PAGE_BYTES` of them, and whether these are all."""
    rows: list[Any] = []
    size = 0
    for row in found:
        rows.append(row)
        size += len(rows[-1][-1]) + len(rows[-1][-2]) + more_bytes
        if size >= _PAGE_BYTES:
            found.close(True)
            return rows, False
    return rows, True


def episodes_in(rows: Sequence[int], found: dict[int, Episode]) -> Iterator[tuple[int, Episode]]:
    """Give what was found in the order of the rows, with the position of each."""
    for position, row in enumerate(rows):
        if row in found:
            yield position, found[row]
