"""What can be read of a store: episodes by id and in order, their history, searches, figures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memguard.episodes.core import StoreCore
from memguard.episodes.filters import Condition, Conditions, condition_for
from memguard.episodes.namespaces import Namespace, all_namespaces, check_embedder, find_namespace, numbered
from memguard.episodes.preparing import vector_bytes
from memguard.episodes.purging import owed
from memguard.episodes.reading import Reading
from memguard.episodes.records import Change, Episode, Hit, NamespaceStatistics, StoreStatistics
from memguard.episodes.schema import PLACES
from memguard.episodes.search import Scored, by_rank, by_vector, by_words, hits_for
from memguard.episodes.words import index_some
from memguard.errors import EpisodeInvalid, EpisodeMissing, EpisodeStoreError

__all__ = ["ReadableStore"]

_INDEXED_AT_ONCE: Final = 4_096
_PAGE: Final = 256
_MOST_HITS: Final = 10_000


class ReadableStore(StoreCore):
    """The reading half of `EpisodeStore`."""

    def get_episode(self, episode_id: str, *, version: int | None = None) -> Episode:
        """Return an episode with its vector, as it is now or was in a version.

        Raises:
            EpisodeMissing: if there is no such episode or version, or it was deleted.
        """
        with self._look() as (_, reading):
            found = (
                reading.version(episode_id, version)
                if version is not None
                else self._live(reading, episode_id)
            )
        if found is None:
            which = (
                f"episode {episode_id!r}"
                if version is None
                else f"version {version} of episode {episode_id!r}"
            )
            raise EpisodeMissing(f"there is no {which}, or not any more", episode_id=episode_id)
        return found

    def _live(self, reading: Reading, episode_id: str) -> Episode | None:
        row = reading.live_row(episode_id)
        if row is None:
            return None
        stored = self._cache.get(row)
        if stored is None:
            stored = reading.stored(row)
            self._cache.put(row, stored, stored.weight_bytes, tenant=str(row // PLACES))
        return reading.made_of(stored)

    def history(self, episode_id: str) -> tuple[Change, ...]:
        """Return every change of an episode, first to last.

        Raises:
            EpisodeMissing: if there never was such an episode.
        """
        with self._look() as (_, reading):
            changes = reading.history(episode_id)
        if not changes:
            raise EpisodeMissing(f"there is no episode {episode_id!r}", episode_id=episode_id)
        return changes

    def search_episodes_by_vector(
        self,
        vector: ArrayLike,
        top_k: int = 10,
        *,
        namespace: str = "default",
        exact: bool = False,
        **conditions: Unpack[Conditions],
    ) -> list[Hit]:
        """Return the episodes whose vectors point most nearly where this one does, best first.

        Of the true nearest ten about 99 in 100 are found, all with ``exact``, which reads every vector.

        Args:
            vector: shape (dimension,), as the namespace's.
            top_k: how many at the most, 1 to 10,000.
            namespace: where to look.
            **conditions: on what may be found: ``where`` (metadata), ``kind``, ``since_s`` and ``until_s``; see
                `memguard.episodes.filters.Conditions`.
            exact: miss none.

        Raises:
            EpisodeInvalid: for another dimension, a vector without direction, a filter that does not parse.
        """
        query, condition = _query(vector), condition_for(conditions)
        _check_top_k(top_k)
        with self._look() as (connection, reading):
            space = find_namespace(connection, namespace)
            found = by_vector(
                connection, space, self._files_of, self._living_of, query,
                top_k=top_k, condition=condition, exact=exact,
            )  # fmt: skip
            return hits_for(reading, found)

    def search_episodes_by_text(
        self,
        query: str,
        top_k: int = 10,
        *,
        namespace: str = "default",
        **conditions: Unpack[Conditions],
    ) -> list[Hit]:
        """Return the episodes whose texts answer a query best, best first: those with all of its words, then with some.

        In any script; nothing in a query has a meaning beyond itself. Of what more than 20,000 texts answer, the newest
        4,096 are ranked.

        Args:
            query: words.
            top_k: how many at the most, 1 to 10,000.
            namespace: where to look.
            **conditions: on what may be found: ``where`` (metadata), ``kind``, ``since_s`` and ``until_s``; see
                `memguard.episodes.filters.Conditions`.

        Raises:
            EpisodeInvalid: for a query that is no text, a filter that does not parse.
        """
        _check_query(query)
        condition = condition_for(conditions)
        _check_top_k(top_k)
        self._catch_up(namespace)
        with self._look() as (connection, reading):
            space = find_namespace(connection, namespace)
            return hits_for(reading, by_words(connection, space, query, top_k, condition))

    def search(
        self,
        query: str,
        vector: ArrayLike | None = None,
        top_k: int = 10,
        *,
        namespace: str = "default",
        exact: bool = False,
        **conditions: Unpack[Conditions],
    ) -> list[Hit]:
        """Return what both searches find, joined by rank (reciprocal rank fusion), best first.

        Args and errors as of the two; without a vector the store's embedder makes one of the query.
        """
        _check_query(query)
        condition = condition_for(conditions)
        _check_top_k(top_k)
        asked, embedder = self._embedded(query) if vector is None else (_query(vector), "")
        self._catch_up(namespace)
        deep = max(50, 2 * top_k)
        with self._look() as (connection, reading):
            space = find_namespace(connection, namespace)
            if space is not None:
                check_embedder(space, embedder)
            rankings: list[Scored] = [
                by_vector(
                    connection, space, self._files_of, self._living_of, asked,
                    top_k=deep, condition=condition, exact=exact,
                ),
                by_words(connection, space, query, deep, condition),
            ]  # fmt: skip
            return hits_for(reading, by_rank(rankings, top_k))

    def _embedded(self, query: str) -> tuple[NDArray[np.float32], str]:
        if self.embedder is None:
            raise EpisodeInvalid(
                "the store has no embedder, so give a vector for the query, or search by text alone"
            )
        return _query(self.embedder.embed([query])[0]), self.embedder.name

    def _catch_up(self, name: str) -> None:
        """Bring the text index up to the writes, if nobody writes now: what it lacks is searched row by row."""
        if self._database.read_only:
            return
        while True:
            with self._look() as (connection, _):
                space = find_namespace(connection, name)
            if space is None or space.indexed_place == space.last_place:
                return
            try:
                with self._database.transaction_if_free() as writer:
                    if writer is None:
                        return
                    index_some(writer, numbered(writer, space.number), _INDEXED_AT_ONCE)
            except EpisodeStoreError:
                return  # a full disk: nothing is lost, and searching goes on without

    def episodes(
        self,
        *,
        namespace: str | None = None,
        with_vectors: bool = False,
        **conditions: Unpack[Conditions],
    ) -> Iterator[Episode]:
        """Give episodes in the order in which they were added, a page at a time, one namespace after the other.

        Nothing is held between pages: what is added meanwhile is given too, what is deleted is not. What is damaged so
        that it cannot be read is left out, and so is a vector whose episode's checksum differs, with a warning.

        Raises:
            EpisodeInvalid: for a filter that does not parse.
        """
        for page in self.pages(namespace=namespace, with_vectors=with_vectors, **conditions):
            yield from page

    def pages(
        self,
        *,
        namespace: str | None = None,
        with_vectors: bool = False,
        **conditions: Unpack[Conditions],
    ) -> Iterator[list[Episode]]:
        """Give the same in pages of up to 256, of fewer where they are large: up to 8 MiB and one more."""
        return self._pages(namespace, condition_for(conditions), with_vectors=with_vectors)

    def _pages(
        self, name: str | None, condition: Condition, *, with_vectors: bool
    ) -> Iterator[list[Episode]]:
        with self._look() as (connection, _):
            spaces = [each for each in all_namespaces(connection) if name in (None, each.name)]
        for space in spaces:
            after: int | None = space.row(0)
            while after is not None:
                with self._look() as (_, reading):
                    page, after = reading.page(space, after, condition, _PAGE, with_vectors=with_vectors)
                yield page

    def statistics(self) -> StoreStatistics:
        """Return the store's figures, in all namespaces."""
        with self._look() as (connection, _):
            spaces, purge = all_namespaces(connection), owed(connection)
        cache = self._cache.statistics()
        return StoreStatistics(
            str(self.folder),
            sum(each.live for each in spaces),
            _disk_bytes(self.folder),
            cache.held_bytes,
            cache.hits,
            cache.misses,
            tuple(_statistics(each) for each in spaces),
            cache.hit_rate,
            purge_is_due=purge is not None,
        )

    def __len__(self) -> int:
        """Return how many episodes can be had, in all namespaces."""
        with self._look() as (connection, _):
            return sum(each.live for each in all_namespaces(connection))

    def __contains__(self, episode_id: object) -> bool:
        if not isinstance(episode_id, str):
            return False
        with self._look() as (_, reading):
            return reading.live(episode_id) is not None


def _query(vector: ArrayLike) -> NDArray[np.float32]:
    return np.frombuffer(vector_bytes(vector), np.float32)


def _check_query(query: object) -> None:
    if not isinstance(query, str):
        raise EpisodeInvalid(f"a query is a text, not a {type(query).__name__}")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise EpisodeInvalid("half of a surrogate pair is no character that could be found") from error


def _check_top_k(top_k: object) -> None:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= _MOST_HITS:
        raise EpisodeInvalid(f"top_k is a whole number from 1 to {_MOST_HITS}, not {top_k!r}")


def _disk_bytes(folder: Path) -> int:
    """Return what a store's files take, but for those that end while they are counted, as logs do."""
    total = 0
    for each in (*folder.glob("*"), *folder.glob("vectors/*")):
        with contextlib.suppress(FileNotFoundError):
            total += 512 * each.stat().st_blocks
    return total


def _statistics(each: Namespace) -> NamespaceStatistics:
    return NamespaceStatistics(
        each.name,
        each.live,
        each.last_place,
        each.vectors,
        each.dimension,
        each.embedder,
        each.text_bytes,
        each.budget_bytes,
        each.last_place - each.indexed_place,
        each.used_bytes,
    )
