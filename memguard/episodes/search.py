"""Searches of one namespace: by vector, by words, and by both, their ranks joined.

Comes in: a query and a condition, inside one look at the store. Goes out: rows with scores, best first, and the
episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import apsw
import numpy as np
from numpy.typing import NDArray

from memguard.episodes.filters import Condition
from memguard.episodes.living import Everything, Living, Places
from memguard.episodes.namespaces import Namespace, check_dimension
from memguard.episodes.nearest import (
    Found,
    Mask,
    candidates_for,
    compared,
    cosines,
    first_look,
    nearest,
    nearest_exactly,
)
from memguard.episodes.reading import Reading, episodes_in
from memguard.episodes.records import Hit
from memguard.episodes.vectors import VectorFiles
from memguard.episodes.words import search_words

__all__ = ["Scored", "by_rank", "by_vector", "by_words", "hits_for"]

# Reciprocal rank fusion: Cormack, Clarke, Buettcher, SIGIR 2009, who found 60 to do for all their collections.
_FUSION_CONSTANT: Final = 60
# One vector in so many is read by itself; of more, all are read in order.
_SPARSE: Final = 50
# Where a condition is looked at afterwards its share is guessed by a sample, and so many times the candidates are taken
# that seem to be needed. To look a row up takes about as long as to read so many in order.
_SAMPLE: Final = 256
_MOST_DRAWN: Final = 4096
_MORE: Final = 1.25
_DEARER: Final = 4
# SQLite binds 32,766 values at the most.
_AT_ONCE: Final = 500

Scored = list[tuple[int, float]]


class VectorSearch:
    """A search for the nearest vectors.

    Args:
        connection: inside one look at the store.
        namespace: as it is in that look; it has vectors.
        files_of: gives the files of the namespace.
        living: of the namespace.
        query: shape (dimension,).
        condition: on what may be found.
    """

    def __init__(  # noqa: PLR0917 - each of another kind
        self,
        connection: apsw.Connection,
        namespace: Namespace,
        files_of: Callable[[Namespace], VectorFiles],
        living: Living,
        query: NDArray[np.float32],
        condition: Condition,
    ) -> None:
        self._connection, self._namespace, self._living = connection, namespace, living
        self._query, self._condition = query, condition
        # A reader finds no files before the first vectors were filed.
        if namespace.filed_place:
            self._files = files_of(namespace)

    def best(self, top_k: int, *, exact: bool) -> Scored:
        """Return the nearest rows with their cosines, best first."""
        filed: Scored = []
        if self._namespace.filed_place:
            places, scores = self._filed(top_k, exact=exact)
            filed = [
                (self._namespace.row(place), score)
                for place, score in zip(places.tolist(), scores.tolist(), strict=True)
            ]
        return sorted([*filed, *self._unfiled()], key=lambda each: (-each[1], each[0]))[:top_k]

    def _filed(self, top_k: int, *, exact: bool) -> Found:
        space = self._namespace
        if not self._condition.sql:
            if (
                space.live == space.vectors == space.last_place
            ):  # no version without a vector, and none that ended
                return self._among(Everything(), space.last_place, top_k, exact=exact)
            return self._of(self._living.places(self._connection, space), top_k, exact=exact)
        meeting = None if exact else self._meeting_of_candidates(top_k)
        if meeting is not None:
            return compared(self._files, self._query, meeting, top_k)
        every = np.fromiter(self._meeting(None), np.int64)
        return self._of(Places.of(every, space.filed_place), top_k, exact=exact)

    def _of(self, places: Places, top_k: int, *, exact: bool) -> Found:
        last = self._namespace.filed_place
        if places.count * _SPARSE < last:
            return compared(self._files, self._query, places.upto(last), top_k)
        return self._among(places, places.count, top_k, exact=exact)

    def _among(self, mask: Mask, count: int, top_k: int, *, exact: bool) -> Found:
        """Search some places; their number tells how many are looked at twice."""
        files, query, last = self._files, self._query, self._namespace.filed_place
        candidates = candidates_for(count, files.dimension, top_k)
        if exact or candidates >= count:
            return nearest_exactly(files, query, last, top_k=top_k, mask=mask)
        return nearest(files, query, last, top_k=top_k, candidates=candidates, mask=mask)

    def _meeting_of_candidates(self, top_k: int) -> NDArray[np.int64] | None:
        """Return those of the candidates of all places that meet the condition, if they are enough.

        A sample tells how many candidates there must be for enough of them to meet it. Where that is many, or the
        sample misled, every row is read instead.
        """
        living = self._living.places(self._connection, self._namespace)
        share, dimension = self._share(living), self._files.dimension
        wanted = candidates_for(round(share * living.count), dimension, top_k)
        candidates = round(_MORE * wanted / share) if share else 0
        if not wanted or candidates * _DEARER > living.count:
            return None
        looked = first_look(self._files, self._query, self._namespace.filed_place, candidates, living)
        meeting = np.fromiter(self._meeting(looked.tolist()), np.int64)
        found = candidates_for(living.count * len(meeting) // candidates, dimension, top_k)
        return meeting if len(meeting) >= max(4 * top_k, found) else None

    def _share(self, living: Places) -> float:
        """Return about which share of the living meet the condition.

        Drawn by lot, the same each time: of every so many, all could be alike where metadata go in a circle.
        """
        last = self._namespace.filed_place
        most = min(_MOST_DRAWN, _SAMPLE * last // max(1, living.count))
        drawn = np.unique(np.random.default_rng(last).integers(1, last + 1, most))
        some = drawn[living.those_of(drawn)].tolist()
        return sum(1 for _ in self._meeting(some)) / max(1, len(some))

    def _meeting(self, places: list[int] | None) -> Iterator[int]:
        """Give those of some places, or of all, that have a living vector and meet the condition."""
        asked = "SELECT row FROM episode WHERE {} AND is_live AND has_vector" + self._condition.conjunct
        first, last = self._namespace.row(0), self._namespace.row(self._namespace.filed_place)
        if places is None:
            for (row,) in self._connection.execute(
                asked.format("row > ? AND row <= ?"), (first, last, *self._condition.values)
            ):
                yield row - first
            return
        for start in range(0, len(places), _AT_ONCE):
            some = [first + place for place in places[start : start + _AT_ONCE]]
            marked = asked.format(f"row IN ({', '.join('?' * len(some))})")
            for (row,) in self._connection.execute(marked, (*some, *self._condition.values)):
                yield row - first

    def _unfiled(self) -> Scored:
        asked = (
            # CROSS: the few that wait are read first, and not every row of the namespace.
            "SELECT unfiled.row, unfiled.vector FROM unfiled CROSS JOIN episode USING (row) "
            f"WHERE row BETWEEN ? AND ? AND is_live{self._condition.conjunct}"
        )
        values = (*self._namespace.rows, *self._condition.values)
        waiting: Any = self._connection.execute(asked, values).fetchall()
        if not waiting:
            return []
        vectors = np.frombuffer(b"".join(vector for _, vector in waiting), np.float32).reshape(
            len(waiting), -1
        )
        scores = cosines(vectors, self._query).tolist()
        return [(row, score) for (row, _), score in zip(waiting, scores, strict=True)]


def by_vector(
    connection: apsw.Connection,
    namespace: Namespace | None,
    files_of: Callable[[Namespace], VectorFiles],
    living_of: Callable[[Namespace], Living],
    query: NDArray[np.float32],
    *,
    top_k: int,
    condition: Condition,
    exact: bool,
) -> Scored:
    """Return the rows with the vectors nearest to a query, best first.

    Raises:
        EpisodeInvalid: if the query has another dimension than the namespace's vectors.
    """
    if namespace is None or namespace.dimension is None:
        return []
    check_dimension(namespace, len(query), "the query")
    search = VectorSearch(connection, namespace, files_of, living_of(namespace), query, condition)
    return search.best(top_k, exact=exact)


def by_words(
    connection: apsw.Connection, namespace: Namespace | None, query: str, top_k: int, condition: Condition
) -> Scored:
    """Return the rows whose texts answer a query best, best first."""
    if namespace is None:
        return []
    return search_words(connection, namespace, query, top_k, condition)


def by_rank(rankings: Sequence[Scored], top_k: int) -> Scored:
    """Join rankings: the sum of 1 / (60 + rank) over those that have a row, ranks from 1."""
    joined: dict[int, float] = {}
    for ranking in rankings:
        for rank, (row, _) in enumerate(ranking, start=1):
            joined[row] = joined.get(row, 0.0) + 1 / (_FUSION_CONSTANT + rank)
    return sorted(joined.items(), key=lambda each: (-each[1], each[0]))[:top_k]


def hits_for(reading: Reading, scored: Scored) -> list[Hit]:
    """Return the episodes of rows, in their order."""
    return list(_hits(reading, scored))


def _hits(reading: Reading, scored: Scored) -> Iterator[Hit]:
    rows = [row for row, _ in scored]
    for position, episode in episodes_in(rows, reading.by_rows(rows, Condition())):
        yield Hit(episode.id, scored[position][1], episode)
