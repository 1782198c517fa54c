"""What one add does: rows, vectors, history and figures, in one transaction, alike for one episode and for thousands.

Comes in: prepared episodes, inside a transaction that writes. Goes out: ids. First everything that can be wrong is
found, then everything is written, so a refused add leaves nothing and others in the same transaction are not touched.

Vectors go to the namespace's files, which are on the disk before the transaction is committed; what lies in them
behind the last committed place is garbage that the next writer overwrites. A few vectors at a time would cost a second
flush of the disk for each add, so they wait in the table `unfiled`, under the same commit, until there are enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

import apsw
import numpy as np

from memguard.episodes.meanwhile import meanwhile
from memguard.episodes.namespaces import (
    Namespace,
    check_dimension,
    check_embedder,
    namespace_for,
    numbered,
    save,
)
from memguard.episodes.preparing import Prepared
from memguard.episodes.schema import PLACES
from memguard.episodes.vectors import VectorFiles
from memguard.errors import CapacityExceeded, EpisodeConflict, EpisodeInvalid, EpisodeMissing
from memguard.units import format_bytes

__all__ = ["ADDED", "DELETED", "PURGED", "UPDATED", "FilesOf", "Latest", "Writing", "latest"]

ADDED, UPDATED, DELETED, PURGED = 1, 2, 3, 4
# So many vectors wait at the most: 768 KiB at 384 dimensions, looked at one by one by a search, in half a millisecond.
MOST_UNFILED: Final = 512
# Of more than so many at once none waits: to write them twice takes longer than the flushes of the files.
_MOST_TO_WAIT: Final = 256
# Vectors that are moved to the files at once.
_FILED_AT_ONCE: Final = 512
_AT_ONCE: Final = 500
_INSERT: Final = (
    "INSERT INTO episode(row, id, version, op, is_live, has_vector, happened_us, noted_us, checksum, kind, metadata, "
    "text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

FilesOf = Callable[[Namespace], VectorFiles]
# Stretches of a batch, each for one namespace.
_Parts = list[tuple[str, list[Prepared]]]
_namespace_of: Final = attrgetter("namespace")
_size_of: Final = attrgetter("size_bytes")
_text_size_of: Final = attrgetter("text_bytes")


class Writing:
    """What is written by one transaction.

    Args:
        connection: inside a transaction that writes.
        files_of: gives the files of a namespace with a dimension.
        syncs: whether vectors are to be on the disk before the commit.
    """

    def __init__(self, connection: apsw.Connection, files_of: FilesOf, *, syncs: bool) -> None:
        self._connection, self._files_of, self._syncs = connection, files_of, syncs
        self._namespaces: dict[str, Namespace] = {}
        self._rows: list[tuple[object, ...]] = []
        self._vectors: dict[str, list[tuple[int, bytes]]] = {}
        # Of ids that were given: what is in this transaction under it.
        self._given: dict[str, Prepared] = {}
        self._now_us = time.time_ns() // 1000
        # Ids of what was added and was not there before.
        self.fresh: list[str] = []

    def add(self, batch: Sequence[Prepared]) -> list[str]:
        """Take a batch to be written; all of it or, with an error, nothing.

        Raises:
            EpisodeInvalid: for a vector of another dimension.
            EpisodeConflict: for an id that is there with other content.
            CapacityExceeded: if a namespace's budget would be passed.
        """
        fresh = self._without_known(batch)
        parts = [(name, list(some)) for name, some in groupby(fresh, _namespace_of)]
        self._check_dimensions(parts)
        self._check_budgets(parts)
        for name, some in parts:
            self._take(self.namespace(name), some, 1, ADDED)
        self._given.update((each.id, each) for each in fresh if each.is_given)
        self.fresh += [each.id for each in fresh]
        return [each.id for each in batch]

    def _without_known(self, batch: Sequence[Prepared]) -> list[Prepared]:
        """Leave out what is there already, the same under the same id."""
        given = [each for each in batch if each.is_given]
        if not given:
            return list(batch)
        stored = self._stored([each.id for each in given])
        fresh, here = [], dict(self._given)
        for each in batch:
            known = here.get(each.id)
            if each.is_given and (known is not None or each.id in stored):
                if known is None and None in stored[each.id]:
                    raise EpisodeConflict(
                        f"the episode {each.id!r} was deleted, and its id is not used again; give another",
                        episode_id=each.id,
                    )
                same = _is_same(each, known) if known is not None else _contents(each) in stored[each.id]
                if not same:
                    raise EpisodeConflict(
                        f"there is an episode {each.id!r} with other content; update it, or give another id",
                        episode_id=each.id,
                    )
                continue
            here[each.id] = each
            fresh.append(each)
        return fresh

    def _stored(self, ids: list[str]) -> dict[str, set[tuple[object, ...] | None]]:
        """Return what the store has under ids, in all its versions; ``None`` for that it was deleted."""
        found: dict[str, set[tuple[object, ...] | None]] = {}
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            asked = (
                "SELECT id, op, namespace.name, kind, checksum, has_vector, metadata, text FROM episode "
                f"JOIN namespace ON number = row / {PLACES} WHERE id IN ({', '.join('?' * len(some))})"
            )
            for episode_id, op, *content, metadata, text in self._connection.execute(asked, some):
                known = None if op == DELETED else (*content, hash(metadata), hash(text))
                found.setdefault(str(episode_id), set()).add(known)
        return found

    def _check_dimensions(self, parts: _Parts) -> None:
        first: dict[str, int] = {}
        for name, some in parts:
            vectors = [each.vector for each in some if each.vector is not None]
            for embedder in sorted({each.embedder for each in some}):
                check_embedder(self.namespace(name), embedder)
            for size in dict.fromkeys(map(len, vectors)):
                check_dimension(self.namespace(name), size // 4)
                if first.setdefault(name, size) != size:
                    raise EpisodeInvalid(
                        f"vectors of dimension {first[name] // 4} and {size // 4} for one namespace, {name!r}"
                    )

    def _check_budgets(self, parts: _Parts) -> None:
        wanted: dict[str, int] = {}
        for name, some in parts:
            wanted[name] = wanted.get(name, 0) + sum(map(_size_of, some))
        for name, size in wanted.items():
            namespace = self.namespace(name)
            budget = namespace.budget_bytes
            if budget is not None and namespace.used_bytes + size > budget:
                raise CapacityExceeded(
                    f"namespace {name!r} has {format_bytes(namespace.used_bytes)} of its {format_bytes(budget)}, and "
                    f"{format_bytes(size)} more were to be added; give it more (set_namespace({name!r}, budget=...)), "
                    "or purge old episodes (memguard runbook EpisodesOverBudget)",
                    requested_bytes=size,
                    capacity_bytes=budget,
                    limited_by=f"namespace {name}",
                )

    def namespace(self, name: str) -> Namespace:
        """Return a namespace as this transaction has changed it so far."""
        known = self._namespaces.get(name)
        if known is None:
            known = self._namespaces[name] = namespace_for(self._connection, name)
        return known

    @property
    def namespaces(self) -> list[Namespace]:
        """Those that this transaction has to do with."""
        return list(self._namespaces.values())

    def of_row(self, row: int) -> Namespace:
        """Return the namespace that a row belongs to."""
        return self.namespace(numbered(self._connection, row // PLACES).name)

    def _take(self, namespace: Namespace, some: Sequence[Prepared], version: int, op: int) -> None:
        """Take versions for one namespace, in their order."""
        now_us, first = self._now_us, namespace.last_place + 1
        vectors = []
        for place, each in enumerate(some, first):
            vector = each.vector
            if vector is not None:
                vectors.append((place, vector))
            self._rows.append((
                namespace.row(place), each.id, version, op, 1, int(vector is not None),
                now_us if each.happened_us is None else each.happened_us, now_us, each.checksum, each.kind,
                each.metadata, each.text,
            ))  # fmt: skip
        namespace.last_place += len(some)
        namespace.live += len(some)
        namespace.text_bytes += sum(map(_text_size_of, some))
        namespace.used_bytes += sum(map(_size_of, some))
        if vectors:
            namespace.dimension = len(vectors[0][1]) // 4
            namespace.embedder = next((each.embedder for each in some if each.embedder), namespace.embedder)
            namespace.vectors += len(vectors)
            self._vectors.setdefault(namespace.name, []).extend(vectors)

    def replace(self, each: Prepared, last_version: int, last_row: int) -> None:
        """Take a new version of an episode.

        Raises:
            EpisodeInvalid, CapacityExceeded: as `add`.
        """
        parts = [(each.namespace, [each])]
        self._check_dimensions(parts)
        self._check_budgets(parts)
        self.retire(last_row)
        self._take(self.namespace(each.namespace), [each], last_version + 1, UPDATED)

    def bury(self, episode_id: str, last_version: int, last_row: int, kind: str) -> None:
        """Take the end of an episode: a version without content."""
        self.retire(last_row)
        namespace = self.of_row(last_row)
        namespace.last_place += 1
        row = namespace.row(namespace.last_place)
        self._rows.append((
            row, episode_id, last_version + 1, DELETED, 0, 0, self._now_us, self._now_us, 0, kind, "{}", "",
        ))  # fmt: skip

    def retire(self, row: int) -> None:
        """Take a version out of what can be had and found."""
        namespace = self.of_row(row)
        self._connection.execute("UPDATE episode SET is_live = 0 WHERE row = ?", (row,))
        namespace.live -= 1
        if row - namespace.row(0) <= namespace.indexed_place:
            self._connection.execute("DELETE FROM words WHERE rowid = ?", (row,))

    def erase(self, rows: Iterable[int]) -> None:
        """Overwrite the content of versions that nobody can have any more."""
        for row in rows:
            namespace = self.of_row(row)
            size = "length(CAST(text AS BLOB))", "length(CAST(metadata AS BLOB))"
            text, metadata, has_vector = next(
                self._connection.execute(
                    f"SELECT {', '.join(size)}, has_vector FROM episode WHERE row = ?", (row,)
                )
            )
            place = row - namespace.row(0)
            if has_vector and place <= namespace.filed_place:
                # Overwritten when this is committed: before, a death would leave an episode without its vector.
                self._connection.execute("INSERT INTO blank VALUES (?)", (row,))
            self._connection.execute("DELETE FROM unfiled WHERE row = ?", (row,))
            namespace.unfiled -= self._connection.changes()
            self._connection.execute(
                f"UPDATE episode SET op = {PURGED}, has_vector = 0, checksum = 0, metadata = '{{}}', text = '' "
                "WHERE row = ?",
                (row,),
            )
            namespace.text_bytes -= text
            namespace.vectors -= has_vector
            namespace.used_bytes -= text + metadata + has_vector * 4 * (namespace.dimension or 0)
        # A deleted text's words stay in the index until its parts are merged.
        self._connection.execute("INSERT INTO words(words) VALUES ('optimize')")

    def blank(self) -> None:
        """Overwrite the vectors of what former transactions purged."""
        due: Any = self._connection.execute("SELECT row FROM blank").fetchall()
        for (row,) in due:
            namespace = self.of_row(row)
            self._files_of(namespace).blank(row - namespace.row(0))
        self._connection.execute("DELETE FROM blank")

    def finish(self) -> None:
        """Write what was taken; the transaction can be committed then."""
        due = [name for name, fresh in self._vectors.items() if _is_due(self.namespace(name), len(fresh))]
        syncs = [self._to_files(self.namespace(name), self._vectors.pop(name)) for name in due]
        if syncs and self._syncs:
            with meanwhile(lambda: [sync() for sync in syncs]):
                self._insert()
        else:
            self._insert()
        for namespace in self._namespaces.values():
            save(self._connection, namespace)

    def _insert(self) -> None:
        self._connection.executemany(_INSERT, self._rows)
        for name, fresh in self._vectors.items():
            namespace = self.namespace(name)
            rows = [(namespace.row(place), vector) for place, vector in fresh]
            self._connection.executemany("INSERT INTO unfiled(row, vector) VALUES (?, ?)", rows)
            namespace.unfiled += len(fresh)

    def file_all(self) -> None:
        """Move all vectors that wait in the table to their files."""
        waiting: Any = self._connection.execute("SELECT name FROM namespace WHERE unfiled > 0").fetchall()
        for (name,) in waiting:
            sync = self._to_files(self.namespace(name), [])
            if self._syncs:
                sync()
        self.finish()

    def _to_files(self, namespace: Namespace, fresh: list[tuple[int, bytes]]) -> Callable[[], None]:
        """Move new vectors of a namespace, and those that wait, to the files; return what syncs these.

        They lie behind the last place that was committed: what was there is garbage.
        """
        files, first, rows = self._files_of(namespace), namespace.row(0), namespace.rows
        files.cut(namespace.filed_place)
        asked = "SELECT row, vector FROM unfiled WHERE row BETWEEN ? AND ? ORDER BY row"
        waiting = [(row - first, vector) for row, vector in self._connection.execute(asked, rows)]
        every = waiting + fresh
        for start in range(0, len(every), _FILED_AT_ONCE):
            some = every[start : start + _FILED_AT_ONCE]
            values = np.frombuffer(b"".join([vector for _, vector in some]), np.float32)
            files.write([place for place, _ in some], values.reshape(len(some), -1))
        files.cut(namespace.last_place)
        self._connection.execute("DELETE FROM unfiled WHERE row BETWEEN ? AND ?", rows)
        is_new = not namespace.filed_place  # whoever made the files may have died before
        namespace.filed_place, namespace.unfiled = namespace.last_place, 0
        return partial(files.sync, names=is_new)


def _is_due(namespace: Namespace, fresh: int) -> bool:
    """Whether new vectors go to the files, and with them those that wait."""
    return fresh > _MOST_TO_WAIT or namespace.unfiled + fresh > MOST_UNFILED


def _contents(each: Prepared) -> tuple[object, ...]:
    has_vector = int(each.vector is not None)
    return each.namespace, each.kind, each.checksum, has_vector, hash(each.metadata), hash(each.text)


def _is_same(one: Prepared, other: Prepared) -> bool:
    return one._replace(happened_us=None) == other._replace(happened_us=None)


class Latest(NamedTuple):
    """Where an episode's last version is, and what it is."""

    row: int
    version: int
    op: int


def latest(connection: apsw.Connection, episode_id: str) -> Latest:
    """Return row, version and op of an episode's last version.

    Raises:
        EpisodeMissing: if there is none.
    """
    found = connection.execute(
        "SELECT row, version, op FROM episode WHERE id = ? ORDER BY version DESC LIMIT 1", (episode_id,)
    ).fetchone()
    if found is None:
        raise EpisodeMissing(f"there is no episode {episode_id!r}", episode_id=episode_id)
    return Latest(*found)
