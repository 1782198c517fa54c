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
from memguard.episodes.namespaces import Namespace, check_dimension
from memguard.episodes.nearest import candidates_for, cosines, nearest, nearest_exactly
from memguard.episodes.reading import Reading, episodes_in
from memguard.episodes.records import Hit
from memguard.episodes.vectors import VectorFiles
from memguard.episodes.words import search_words

__all__ = ["Scored", "by_rank", "by_vector", "by_words", "hits_for"]

# Reciprocal rank fusion: Cormack, Clarke, Buettcher, SIGIR 2009, who found 60 to do for all their collections.
_FUSION_CONSTANT: Final = 60
# One vector in so many is read by itself; of more, all are read in order.
_SPARSE: Final = 50
# SQLite binds 32,766 values at the most.
_AT_ONCE: Final = 500
# More are found than are wanted, since some of them may be deleted.
_SPARE: Final = 4

Scored = list[tuple[int, float]]


class _Some:
    """A mask with a byte for each place: 1 MB for a million."""

    def __init__(self, allowed: NDArray[np.bool_]) -> None:
        self._allowed = allowed

    def among(self, first: int, count: int) -> NDArray[np.bool_]:
        return self._allowed[first : first + count]


class _All:
    """A mask that lets everything pass."""

    def among(self, first: int, count: int) -> None:
        return None


class VectorSearch:
    """A search for the nearest vectors.

    Args:
        connection: inside one look at the store.
        namespace: as it is in that look; it has vectors.
        files_of: gives the files of the namespace.
        query: shape (dimension,).
        condition: on what may be found.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        namespace: Namespace,
        files_of: Callable[[Namespace], VectorFiles],
        query: NDArray[np.float32],
        condition: Condition,
    ) -> None:
        self._connection, self._namespace = connection, namespace
        self._query, self._condition = query, condition
        # A reader finds no files before the first vectors were filed.
        if namespace.filed_place:
            self._files = files_of(namespace)

    def best(self, top_k: int, *, exact: bool) -> Scored:
        """Return the nearest rows with their cosines, best first."""
        if not self._namespace.filed_place:
            return sorted(self._unfiled(), key=lambda each: (-each[1], each[0]))[:top_k]
        is_bound = exact or bool(self._condition.sql)
        filed = self._among_allowed(top_k, exact=exact) if is_bound else self._among_all(top_k)
        return sorted([*filed, *self._unfiled()], key=lambda each: (-each[1], each[0]))[:top_k]

    def _among_all(self, top_k: int) -> Scored:
        """Search without asking which rows are live first; where too many are not, ask."""
        space = self._namespace
        assert space.dimension is not None
        candidates = candidates_for(space.vectors, space.dimension, top_k)
        if candidates >= space.vectors:
            found = nearest_exactly(
                self._files, self._query, space.filed_place, top_k=_SPARE * top_k, mask=_All()
            )
        else:
            found = nearest(
                self._files,
                self._query,
                space.filed_place,
                top_k=candidates,
                candidates=candidates,
                mask=_All(),
            )
        live = self._live(*found, top_k)
        if len(live) >= top_k:
            return live
        return self._among_allowed(top_k, exact=False)

    def _live(self, places: NDArray[np.int64], scores: NDArray[np.float32], top_k: int) -> Scored:
        live: Scored = []
        # A few more than are wanted: each row that is asked for is a page to be read.
        step = min(_SPARE * top_k, _AT_ONCE)
        for start in range(0, len(places), step):
            some = [self._namespace.row(place) for place in places[start : start + step].tolist()]
            marks = ", ".join("?" * len(some))
            asked = f"SELECT row FROM episode WHERE row IN ({marks}) AND is_live AND has_vector"
            known = {row for (row,) in self._connection.execute(asked, some)}
            live += [(row, float(scores[start + at])) for at, row in enumerate(some) if row in known]
            if len(live) >= top_k:
                break
        return live[:top_k]

    def _among_allowed(self, top_k: int, *, exact: bool) -> Scored:
        space = self._namespace
        allowed = np.zeros(space.filed_place + 1, np.bool_)
        asked = (
            "SELECT row FROM episode WHERE row > ? AND row <= ? AND is_live AND has_vector"
            f"{self._condition.conjunct}"
        )
        bounds = space.row(0), space.row(space.filed_place)
        rows: Any = self._connection.execute(asked, (*bounds, *self._condition.values))
        for (row,) in rows:
            allowed[row - bounds[0]] = True
        count = int(np.count_nonzero(allowed))
        assert space.dimension is not None
        candidates = candidates_for(count, space.dimension, top_k)
        if count * _SPARSE < space.filed_place:
            found = self._compared(np.flatnonzero(allowed))
        elif exact or candidates >= count:
            found = nearest_exactly(
                self._files, self._query, space.filed_place, top_k=top_k, mask=_Some(allowed)
            )
        else:
            found = nearest(
                self._files,
                self._query,
                space.filed_place,
                top_k=top_k,
                candidates=candidates,
                mask=_Some(allowed),
            )
        return [
            (space.row(place), score)
            for place, score in zip(found[0].tolist(), found[1].tolist(), strict=True)
        ][:top_k]

    def _compared(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        scores = np.empty(len(places), np.float32)
        for start in range(0, len(places), 256):
            some = places[start : start + 256]
            scores[start : start + 256] = cosines(self._files.read(some.tolist()), self._query)
        order = np.argsort(-scores, kind="stable")
        return places[order], scores[order]

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
    search = VectorSearch(connection, namespace, files_of, query, condition)
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
