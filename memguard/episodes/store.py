"""The store: everything that can be done with episodes, for threads and processes that share a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import apsw
from numpy.typing import ArrayLike

from memguard.episodes.affording import needed_bytes
from memguard.episodes.checking import Finding, check_rows, check_tables, rebuild_codes
from memguard.episodes.grouping import Share, taken
from memguard.episodes.namespaces import Namespace, all_namespaces, check_embedder, find_namespace
from memguard.episodes.preparing import Prepared, check_name, prepare, vector_bytes
from memguard.episodes.purging import owe, owed, settle
from memguard.episodes.recorder import take_in
from memguard.episodes.records import Episode
from memguard.episodes.retaining import forget_old
from memguard.episodes.schema import rebuild_words
from memguard.episodes.stateful import StatefulStore
from memguard.episodes.words import index_some
from memguard.episodes.writing import DELETED, Latest, latest
from memguard.errors import (
    EpisodeMissing,
    EpisodeStoreError,
)
from memguard.units import parse_bytes

__all__ = ["EpisodeStore"]

_KEEP: Final = object()
# A store of many texts is searched at once after its adds if at most so many are still to be indexed.
_MOST_UNINDEXED: Final = 20_000
_INDEXED_AT_ONCE: Final = 4_096


class EpisodeStore(StatefulStore):
    """Episodes in a folder.

    Threads and processes may use one folder at once: one writes at a time, in turn; nobody waits to read, and a reader
    sees everything that was acknowledged before it began. An object may be used by all threads of a process, and, after
    a fork, by parent and child.

    It does not guard against other programs writing to its files, and not against a disk that says that it has written
    what it has not.

    Args:
        folder: where it is; made, for this user alone, if it is not there.
        durability: what an acknowledged add survives; see `Durability`.
        cache_entries: episodes that are kept in memory at the most, those longest unused out first; 0 for none.
        cache_bytes: what these may take together, as ``"16MiB"`` or a number.
        max_text_bytes: the longest text that is taken, as UTF-8; the same bound holds for the metadata.
        write_wait_s: how long an add waits for other processes' before it gives up.
        read_only: change nothing; for a folder that cannot be written to as well.
        embedder: makes vectors of texts that come without one, and of queries; see `memguard.episodes.embedding`.
        settings: where the ledger is that it holds a lease of; read from file and environment where not given.

    Raises:
        EpisodeStoreError: if there is no store to be had: damaged, of a newer version, on a network file system, in a
            folder that cannot be written to.
        EpisodeStoreBusy: if another process is writing and does not stop.
    """

    def _begin(self) -> None:
        if not self._database.read_only:
            with contextlib.suppress(
                EpisodeStoreError
            ):  # it goes on waiting, and a store that is full can be read
                take_in(self)

    def add_episode(self, episode: Episode) -> str:
        """Add one episode and return its id, once it is as safe as the store's durability says.

        Raises:
            EpisodeInvalid: if something is wrong with it.
            EpisodeConflict: if its id is there with other content; the same content again changes nothing.
            CapacityExceeded: if its namespace's budget would be passed.
            EpisodeStoreError: if it could not be written.
        """
        return self.add_episodes([episode])[0]

    def add_episodes(self, episodes: Iterable[Episode]) -> list[str]:
        """Add episodes, all of them or, with an error, none; return their ids in order.

        They are held in memory until they are written: add a million in batches of some thousand.

        Raises:
            EpisodeInvalid, EpisodeConflict, CapacityExceeded, EpisodeStoreError: as `add_episode`.
        """
        given = list(episodes)
        parts = self.parts(given)
        if len(parts) > 1:
            ids = self._add_parts(parts)
        else:
            batch = self._ready(given)
            ids = self._group.add(batch, self.write_shares) if batch else []
        self.pay_debts()
        return ids

    def pay_debts(self) -> None:
        """Finish a purge that readers kept from it, if there is one; who writes does so behind it."""
        if self.debt.is_due:
            self._finish_purge()

    def parts(self, episodes: Sequence[Episode]) -> list[Sequence[Episode]]:
        """Return episodes in the parts in which memory allows to prepare them: one, unless it is short.

        Raises:
            CapacityExceeded: if it does not even allow for one of them.
        """
        self.holding.ensure()
        return self._affording.parts(episodes)

    def _add_parts(self, parts: Iterable[Sequence[Episode]]) -> list[str]:
        """Add in parts, under one commit: with one copy of a part in memory, and of no more."""
        ids: list[str] = []
        with self._database.transaction() as connection:
            for part in parts:
                writing = self._writing(connection)
                ids += writing.add(self._ready(part))
                writing.finish()
                self._index_behind(connection, writing.namespaces)
        return ids

    def prepared(self, episodes: Iterable[Episode]) -> list[Prepared]:
        """Return episodes checked and ready to be written, as `write_shares` wants them.

        Raises:
            EpisodeInvalid: if something is wrong with one of them by itself.
            CapacityExceeded: if memory does not allow for all of them at once.
        """
        given = list(episodes)
        if len(self.parts(given)) > 1:
            need = sum(map(needed_bytes, given))
            raise self._affording.refused(need, len(given))
        return self._ready(given)

    def _ready(self, episodes: Iterable[Episode]) -> list[Prepared]:
        return prepare(episodes, max_text_bytes=self._most_text_bytes, embedder=self.embedder)

    def write_shares(self, shares: Sequence[Share]) -> None:
        """Write what several callers want, under one commit, and set the ids or the error of each.

        Raises:
            EpisodeStoreError: if nothing could be written.
        """
        with self._database.transaction() as connection:
            writing = self._writing(connection)
            written = taken(writing, shares)
            writing.finish()
            self._index_behind(connection, writing.namespaces)
        for share in written:
            share.ids = [each.id for each in share.batch]

    def _index_behind(self, connection: apsw.Connection, namespaces: Iterable[Namespace]) -> None:
        """Keep the text index so near behind the writes that a search can catch up with it."""
        for namespace in namespaces:
            while namespace.last_place - namespace.indexed_place > _MOST_UNINDEXED:
                index_some(connection, namespace, _INDEXED_AT_ONCE)

    def update(
        self,
        episode_id: str,
        *,
        text: str | object = _KEEP,
        vector: ArrayLike | object | None = _KEEP,
        metadata: Mapping[str, Any] | object = _KEEP,
        kind: str | object = _KEEP,
    ) -> int:
        """Make a new version of an episode, with what is given in place of what it had; return its number.

        Former versions stay in the history. An update that changes nothing makes no version.

        Raises:
            EpisodeMissing: if there is no such episode, or not any more.
            EpisodeInvalid, CapacityExceeded, EpisodeStoreError: as `add_episode`.
        """
        changes = {"text": text, "vector": vector, "metadata": metadata, "kind": kind}
        while True:
            with self._look() as (connection, reading):
                found, before = latest(connection, episode_id), reading.live(episode_id)
            if before is None:
                raise EpisodeMissing(f"episode {episode_id!r} was deleted", episode_id=episode_id)
            # Embedding may take seconds, so nobody is kept from writing by it; who was quicker is seen below.
            old, new = self._prepared(before, {}), self._prepared(before, changes)
            if old == new or self._replaced(found, new):
                return found.version + (old != new)

    def _replaced(self, found: Latest, new: Prepared) -> bool:
        """Write a new version if the one that it is made of is still the last."""
        with self._database.transaction() as connection:
            if latest(connection, new.id) != found:
                return False
            writing = self._writing(connection)
            writing.replace(new, found.version, found.row)
            writing.finish()
            self._index_behind(connection, writing.namespaces)
        self._cache.drop(found.row)
        self.pay_debts()
        return True

    def _prepared(self, before: Episode, changes: Mapping[str, object]) -> Prepared:
        values: dict[str, Any] = {
            name: getattr(before, name) if changes.get(name, _KEEP) is _KEEP else changes[name]
            for name in ("text", "vector", "metadata", "kind")
        }
        episode = Episode(
            **values, namespace=before.namespace, happened_at_s=before.happened_at_s, id=before.id
        )
        if changes.get("vector", _KEEP) is _KEEP and episode.text != before.text and self._embeds(before):
            episode = replace(episode, vector=None)
        return self.prepared([episode])[0]

    def _embeds(self, before: Episode) -> bool:
        """Whether an episode's vector was made of its text by this store's embedder."""
        if self.embedder is None or before.vector is None:
            return False
        made = prepare(
            [replace(before, vector=None)], max_text_bytes=self._most_text_bytes, embedder=self.embedder
        )
        return made[0].vector == vector_bytes(before.vector)

    def delete(self, episode_id: str, *, purge: bool = False) -> None:
        """Take an episode out of what can be had and found; its history stays.

        Args:
            episode_id: of the episode.
            purge: overwrite the content of all its versions as well; their times stay in the history. The text index
                is merged for it, which takes some seconds for a million texts. While a search or an iteration that
                began before still reads, copies stay in the log; later writes empty it, and until then
                `statistics` and `check` say so.

        Raises:
            EpisodeMissing: if there is no such episode, or it was deleted before and is not to be purged now.
        """
        with self._database.transaction() as connection:
            row, version, op = latest(connection, episode_id)
            if op == DELETED and not purge:
                raise EpisodeMissing(f"episode {episode_id!r} was deleted before", episode_id=episode_id)
            writing = self._writing(connection)
            if op != DELETED:
                kind = next(connection.execute("SELECT kind FROM episode WHERE row = ?", (row,)))[0]
                writing.bury(episode_id, version, row, kind)
            if purge:
                asked = "SELECT row FROM episode WHERE id = ? AND op IN (1, 2)"
                rows: list[Any] = [each for (each,) in connection.execute(asked, (episode_id,)).fetchall()]
                writing.erase(rows)
                owe(connection)
            writing.finish()
        self._cache.drop(row)
        if purge:
            self._finish_purge()

    def _finish_purge(self) -> None:
        """Overwrite vectors and empty the log; where a reader needs it still, a later write tries again."""
        with self._database.transaction() as connection:
            self._writing(connection).blank()
            purge = owed(connection)
        self._settle(purge)

    def _settle(self, purge: str | None) -> None:
        is_done = purge is None or self._database.checkpoint()
        self.debt.set(is_open=not is_done)
        if is_done and purge is not None:
            with self._database.transaction() as connection:
                settle(connection, purge)

    def set_namespace(
        self, name: str, *, budget: str | int | object | None = _KEEP, embedder: str | object = _KEEP
    ) -> None:
        """Say what a namespace may take, or what makes its vectors; it is made if it is not there.

        Args:
            name: of the namespace.
            budget: the most that its texts, metadata and vectors may take, as ``"1GiB"`` or bytes; ``None``: no bound.
            embedder: identity of the model; cannot be changed once there are vectors.

        Raises:
            EpisodeInvalid: for another embedder than the one whose vectors are there.
        """
        check_name(name, "namespace")
        most = budget if budget is _KEEP or budget is None else parse_bytes(budget)  # type: ignore[arg-type]
        with self._database.transaction() as connection:
            writing = self._writing(connection)
            space = writing.namespace(name)
            if most is not _KEEP:
                space.budget_bytes = most  # type: ignore[assignment]
            if isinstance(embedder, str):
                check_embedder(space, embedder)
                space.embedder = embedder
            writing.finish()

    def forget_old(self, namespace: str, keep: int, most: int) -> int:
        """Take the oldest rows of a namespace out, but for the newest ``keep``; return how many, at most ``most``.

        Nothing of them stays, neither in their history. Those with a vector are left.

        Raises:
            EpisodeStoreError: if it cannot be written.
        """
        with self._database.transaction() as connection:
            return forget_old(connection, namespace, keep, most)

    def mark(self, name: str) -> str | None:
        """Return what was written down under a name with `add_marked`, ``None`` if nothing was."""
        with self._look() as (connection, _):
            found = connection.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def add_marked(self, episodes: Iterable[Episode], name: str, value: str) -> list[str]:
        """Add episodes as `add_episodes` does, and write something down under a name by the same commit.

        Who adds from a source writes down how far he came, and goes on from there after any death.

        Returns:
            The ids of those that were not there before.
        """
        batch = self.prepared(episodes)
        with self._database.transaction() as connection:
            writing = self._writing(connection)
            writing.add(batch)
            writing.finish()
            connection.execute("INSERT OR REPLACE INTO mark(name, value) VALUES (?, ?)", (name, value))
            self._index_behind(connection, writing.namespaces)
        self.pay_debts()
        return writing.fresh

    def check(self) -> Iterator[Finding]:
        """Give what is damaged, as it is found; nothing is changed, and others read and write meanwhile.

        Every text, vector and piece of metadata is compared with its checksum: a million take about a minute.
        """
        with self._look() as (connection, _):
            if owed(connection) is not None:
                yield Finding(
                    f"{self._database.path}-wal", "has copies of what was purged, until a later write"
                )
            yield from check_tables(connection, str(self._database.path))
            yield from check_rows(connection, str(self._database.path), self._files_of)

    def rebuild(self) -> None:
        """Make everything derived again: the bits of vectors, the text index. Nothing else is touched.

        Raises:
            EpisodeStoreError: if it cannot be written.
        """
        with self._database.transaction() as connection:
            rebuild_words(connection)
            for space in all_namespaces(connection):
                if space.filed_place and space.dimension is not None:
                    rebuild_codes(self._files_of(space), space.filed_place)
        self.index()

    def index(self) -> None:
        """Bring the text index up to the writes, so that the next search need not."""
        with self._look() as (connection, _):
            names = [each.name for each in all_namespaces(connection)]
        for name in names:
            left = 1
            while left:
                with self._database.transaction() as writer:
                    space = find_namespace(writer, name)
                    left = 0 if space is None else index_some(writer, space, _INDEXED_AT_ONCE)

    def compact(self) -> None:
        """Give the disk back what deleted rows and merged parts of the text index took; writers wait meanwhile.

        Former versions stay, for they are the history; vectors stay in their places.
        """
        with self._database.transaction() as connection:
            self._writing(connection).file_all()
            connection.execute("INSERT INTO words(words) VALUES ('optimize')")
        self._database.vacuum()

    def close(self) -> None:
        """File the vectors that wait, and let go of everything; a store that is not closed loses nothing."""
        if self._database.is_closed:
            return
        try:
            if not self._database.read_only:
                self._put_in_order()
        finally:
            super().close()

    def _put_in_order(self) -> None:
        """File the vectors that wait, unless somebody writes: he does it then, and a stopped writer keeps nobody."""
        purge = None
        with self._database.transaction_if_free() as connection:
            if connection is not None:
                writing = self._writing(connection)
                writing.blank()
                writing.file_all()
                purge = owed(connection)
        if purge is not None:
            self._settle(purge)
