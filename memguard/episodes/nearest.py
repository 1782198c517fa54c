"""The nearest vectors by cosine: a first look at one bit of each value, then the float values of the best.

Comes in: a query and the files. Goes out: places with their cosines, best first. The first look has two steps: those
whose bits differ least from the query's bits, which is quick to count, and of these those that go furthest along the
query's own values, which tells more. Nothing is held but a block and the candidates. How many these are grows with the
store: a fixed number finds less and less of the true ten as vectors come to lie more densely.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from memguard.episodes.bits import Along, counted_in, differing
from memguard.episodes.vectors import VectorFiles, codes_of
from memguard.host.cpus import allowed_cpus

__all__ = [
    "Found",
    "Mask",
    "candidates_for",
    "compared",
    "cosines",
    "first_look",
    "nearest",
    "nearest_exactly",
]

# Of 1,000,000 real sentence embeddings 1,000 candidates, the best of 5,000 whose bits differ least, held 0.995 of the
# true ten (3,000 by bits alone 0.991, 1,000 0.970); of 100,000 300 of 1,500 held 0.997 (300 by bits alone 0.965).
_FEWEST: Final = 300
_SHARE: Final = 0.001
_MORE_BITS: Final = 5
_MOST_BITS: Final = 50_000
# Of so many stretches of so many codes it is guessed how few bits may differ, with this much more than would do.
_STRETCHES: Final = 16
_STRETCH: Final = 1024
_SURPLUS: Final = 1.25
# These were of 384 dimensions. Fewer bits tell less, so that more are looked at again.
_MEASURED_WITH: Final = 384
# Where all values take no more than this, they are all compared: it takes no longer than 10 ms.
_LITTLE_BYTES: Final = 16 << 20
# Squares between this and its inverse are summed in float32 without loss.
_SMALL: Final = 1e-24
# To look at the bits of so many takes several times as long as to start a thread that looks at half of them.
_WORTH_SHARING: Final = 1 << 18
# Of so many codes and more it is reckoned at once how far they go along a query.
_WAYS_AT_ONCE: Final = 1024
# Vectors that are looked at again are read this many at a time.
_AT_ONCE: Final = 256

Found = tuple[NDArray[np.int64], NDArray[np.float32]]


class Mask(Protocol):
    """Which places may be found."""

    def among(self, first: int, count: int) -> NDArray[np.bool_] | None:
        """Return which of ``count`` places from one on may be; ``None``: all."""


def candidates_for(vectors: int, dimension: int, wanted: int) -> int:
    """Return how many candidates are looked at again for ``wanted`` of ``vectors``; never more than there are."""
    if 4 * vectors * dimension <= _LITTLE_BYTES:
        return vectors
    more = max(1.0, _MEASURED_WITH / dimension)
    return min(vectors, max(round(more * max(_FEWEST, _SHARE * vectors)), 4 * wanted))


class _Best:
    """The places with the smallest distances so far, and what is kept of each; ties go to the earlier place.

    Args:
        most: how many are kept.
        nothing: empty columns, as they are offered: places, distances, and what is kept beside them.
        bound: no place at this distance or beyond is wanted.
    """

    def __init__(self, most: int, nothing: tuple[NDArray[Any], ...], bound: float = np.inf) -> None:
        self._most, self._held = most, 0
        self._parts = [nothing]
        self.bound: Any = bound

    def offer(self, *columns: NDArray[Any]) -> None:
        self._parts.append(columns)
        self._held += len(columns[0])
        if self._held > 2 * self._most:
            best = self.sorted()
            self._parts, self._held, self.bound = [best], len(best[0]), best[1][-1]

    def sorted(self) -> tuple[NDArray[Any], ...]:
        columns = [np.concatenate(each) for each in zip(*self._parts, strict=True)]
        order = np.argsort(columns[1], kind="stable")[: self._most]
        return tuple(each[order] for each in columns)


def _wanted(best: _Best, distances: NDArray[Any], allowed: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Return the positions of those in a block that may be among the best."""
    wanted = distances < best.bound
    if allowed is not None:
        wanted &= allowed
    return np.flatnonzero(wanted)


def nearest(
    files: VectorFiles,
    query: NDArray[np.float32],
    last_place: int,
    *,
    top_k: int,
    candidates: int,
    mask: Mask,
) -> Found:
    """Return the places of about the nearest vectors and their cosines, best first.

    Args:
        files: where the vectors are.
        query: shape (dimension,).
        last_place: of those that are looked at.
        top_k: how many are wanted.
        candidates: how many are looked at again with their float values.
        mask: which places may be found.
    """
    return compared(files, query, first_look(files, query, last_place, candidates, mask), top_k)


def first_look(
    files: VectorFiles, query: NDArray[np.float32], last_place: int, candidates: int, mask: Mask
) -> NDArray[np.int64]:
    """Return the places that by their bits seem to be nearest to a query, rising; arguments as of `nearest`."""
    most = max(candidates, min(_MORE_BITS * candidates, _MOST_BITS))
    look = _Look(files, query, last_place, most, mask)
    bound = look.likely_bound()
    found = look.least(bound)
    if len(found[0]) < most and bound < np.inf:  # the sample misled
        found = look.least(np.inf)
    places, _, lengths = found
    return np.sort(places[np.argsort(-lengths, kind="stable")[:candidates]])


class _Look:
    """A look at the bits of all: those that differ least from a query's, and how far they go along the query itself."""

    def __init__(
        self, files: VectorFiles, query: NDArray[np.float32], last_place: int, most: int, mask: Mask
    ) -> None:
        self._files, self._last, self._most, self._mask = files, last_place, most, mask
        self._code = codes_of(query.reshape(1, -1))
        self._kind = counted_in(self._code)
        self._along = Along(query, files.code_bytes)

    def likely_bound(self) -> float:
        """Return a number of differing bits below which by a sample enough of all are; infinity where it cannot tell.

        What is beyond it need not be kept and sorted, which would cost more than to count.
        """
        size = min(self._last, _STRETCHES * _STRETCH)
        starts = (
            range(0, size, _STRETCH) if size == self._last else _spread(self._last - _STRETCH, _STRETCHES)
        )
        seen = np.concatenate([self._distances(start, min(self._last, start + _STRETCH)) for start in starts])
        share = self._most * size / self._last
        rank = round(_SURPLUS * share + 4 * math.sqrt(share)) + 4
        return float(np.partition(seen, rank)[rank]) + 1 if rank < len(seen) else np.inf

    def _distances(self, after: int, last: int) -> NDArray[Any]:
        found = [np.empty(0)]
        for first, block in self._files.code_blocks(last, after):
            distances, allowed = differing(self._code, block), self._mask.among(first, len(block))
            found.append(distances if allowed is None else distances[allowed])
        return np.concatenate(found)

    def least(self, bound: float) -> tuple[NDArray[Any], ...]:
        """Return places, differing bits below a bound, and lengths along the query of those that differ least."""
        half = self._last // 2
        if self._last < _WORTH_SHARING or allowed_cpus() < 2:
            return self._best_of(0, self._last, bound).sorted()
        best, behind = _both(
            lambda: self._best_of(0, half, bound), lambda: self._best_of(half, self._last, bound)
        )
        best.offer(*behind.sorted())
        return best.sorted()

    def _best_of(self, after: int, last: int, bound: float) -> _Best:
        nothing = np.empty(0, np.int64), np.empty(0, self._kind), np.empty(0, np.float32)
        best = _Best(self._most, nothing, bound)
        waiting: list[tuple[NDArray[Any], ...]] = []
        count = 0
        for first, block in self._files.code_blocks(last, after):
            distances = differing(self._code, block)
            at = _wanted(best, distances, self._mask.among(first, len(block)))
            if len(at):
                waiting.append((at + first, distances[at].astype(self._kind), block[at]))
                count += len(at)
            if count >= _WAYS_AT_ONCE:
                self._offer(best, waiting)
                count = 0
        self._offer(best, waiting)
        return best

    def _offer(self, best: _Best, waiting: list[tuple[NDArray[Any], ...]]) -> None:
        """Offer what waits, and how far each goes: of a few at a time that takes twice as long."""
        if waiting:
            places, distances, codes = [np.concatenate(each) for each in zip(*waiting, strict=True)]
            best.offer(places, distances, self._along.of(codes))
            waiting.clear()


def _spread(last: int, count: int) -> list[int]:
    return [last * at // (count - 1) for at in range(count)]


def _both(one: Callable[[], _Best], other: Callable[[], _Best]) -> tuple[_Best, _Best]:
    """Return what both return, the other's by a thread of its own: neither holds Python's lock for long."""
    with ThreadPoolExecutor(1, "memguard-search") as helper:
        try:
            begun = helper.submit(other)
        except RuntimeError:  # no thread is to be had, or Python is ending
            return one(), other()
        return one(), begun.result()


def nearest_exactly(
    files: VectorFiles, query: NDArray[np.float32], last_place: int, *, top_k: int, mask: Mask
) -> Found:
    """Return the places of the nearest vectors and their cosines, best first; every vector is read."""
    best = _Best(top_k, (np.empty(0, np.int64), np.empty(0, np.float32)))
    for first, block in files.value_blocks(last_place):
        distances = -cosines(block, query)
        at = _wanted(best, distances, mask.among(first, len(block)))
        if len(at):
            best.offer(at + first, distances[at])
    places, distances = best.sorted()
    return places, -distances


def compared(files: VectorFiles, query: NDArray[np.float32], places: NDArray[np.int64], top_k: int) -> Found:
    """Return the nearest of some places and their cosines, best first; the vector of each is read by itself."""
    scores = np.empty(len(places), np.float32)
    buffer = np.empty((_AT_ONCE, files.dimension), np.float32)
    for start in range(0, len(places), _AT_ONCE):
        some = places[start : start + _AT_ONCE].tolist()
        scores[start : start + len(some)] = cosines(files.read(some, buffer[: len(some)]), query)
    order = np.argsort(-scores, kind="stable")[:top_k]
    return places[order], scores[order]


def cosines(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of each vector with a query, shape (n,); -1 for one that is zero.

    In float64 where float32 would not do: where the squares of the values, added up, are very large or very small.
    """
    wide = query.astype(np.float64)
    towards = wide / np.linalg.norm(wide)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors)
        # Not by `@`: BLAS shares so little out among threads, which on a busy machine wait 2 ms for one another.
        along = np.einsum("ij,j->i", vectors, towards.astype(np.float32))
        found: NDArray[np.float32] = along / np.sqrt(squares)
    odd = ~((squares > _SMALL) & (squares < 1 / _SMALL))
    if odd.any():
        found[odd] = _careful_cosines(vectors[odd].astype(np.float64), towards)
    return np.clip(found, -1.0, 1.0, out=found)


def _careful_cosines(vectors: NDArray[np.float64], towards: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = np.where(lengths > 0, (vectors @ towards) / lengths, -1.0)
    return found
