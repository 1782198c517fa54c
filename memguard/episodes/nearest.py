"""The nearest vectors by cosine: a first look at one bit of each value, then the float values of the best.

Comes in: a query and the files. Goes out: places with their cosines, best first. Nothing is held but a block and the
candidates, so memory does not grow with the store. How many candidates are looked at again grows with it: a fixed
number finds less and less of the true ten as vectors come to lie more densely.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from memguard.episodes.vectors import VectorFiles, codes_of
from memguard.host.cpus import allowed_cpus

try:
    import simsimd
except ImportError:  # not for this processor, or left out
    simsimd = None  # type: ignore[assignment]

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

# At 100,000 vectors 300 candidates found 0.989 of the true ten of real sentence embeddings, at 1,000,000 3,000 found
# 0.996 (1,000: 0.976); between and beyond it goes with the number.
_FEWEST: Final = 300
_SHARE: Final = 0.003
# These were of 384 dimensions. Fewer bits tell less, so that more are looked at again.
_MEASURED_WITH: Final = 384
# Where all values take no more than this, they are all compared: it takes no longer than 10 ms.
_LITTLE_BYTES: Final = 16 << 20
# Squares between this and its inverse are summed in float32 without loss.
_SMALL: Final = 1e-24
# To look at the bits of so many takes several times as long as to start a thread that looks at half of them.
_WORTH_SHARING: Final = 1 << 18
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
    """The places with the smallest distances so far; ties go to the earlier place."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0
        self._parts: list[tuple[NDArray[np.int64], NDArray[Any]]] = []
        # No place at this distance or beyond is among the best.
        self.bound: Any = np.inf

    def offer(self, places: NDArray[np.int64], distances: NDArray[Any]) -> None:
        self._parts.append((places, distances))
        self._held += len(places)
        if self._held > 2 * self._most:
            places, distances = self.sorted()
            self._parts, self._held, self.bound = [(places, distances)], len(places), distances[-1]

    def sorted(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        if not self._parts:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        places = np.concatenate([each for each, _ in self._parts])
        distances = np.concatenate([each for _, each in self._parts])
        order = np.argsort(distances, kind="stable")[: self._most]
        return places[order], distances[order]


def _offer(best: _Best, first: int, distances: NDArray[Any], allowed: NDArray[np.bool_] | None) -> None:
    wanted = distances < best.bound
    if allowed is not None:
        wanted &= allowed
    positions = np.flatnonzero(wanted)
    if len(positions):
        best.offer(positions + first, distances[positions])


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
    """Return the places whose bits differ least from a query's, rising; arguments as of `nearest`."""
    code = codes_of(query.reshape(1, -1))

    def best_of(after: int, last: int) -> _Best:
        best = _Best(candidates)
        for first, block in files.code_blocks(last, after):
            _offer(best, first, _differing(code, block), mask.among(first, len(block)))
        return best

    if last_place < _WORTH_SHARING or allowed_cpus() < 2:
        return np.sort(best_of(0, last_place).sorted()[0])
    best, behind = _both(lambda: best_of(0, last_place // 2), lambda: best_of(last_place // 2, last_place))
    best.offer(*behind.sorted())
    return np.sort(best.sorted()[0])


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
    best = _Best(top_k)
    for first, block in files.value_blocks(last_place):
        _offer(best, first, -cosines(block, query), mask.among(first, len(block)))
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


_Differing = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[Any]]


def _counted_in(code: NDArray[np.uint8]) -> type[Any]:
    """Return the least type that holds how many bits differ: numpy sorts 16 bits by radix, several times as fast."""
    return np.uint16 if 8 * code.shape[1] < 1 << 16 else np.uint32


def _by_simsimd(code: NDArray[np.uint8], block: NDArray[np.uint8]) -> NDArray[Any]:
    # Not with its `out=`: 6.5.16 then gives away a reference to None that it does not have.
    found: Any = simsimd.cdist(code, block, metric="hamming", dtype="bin8")
    return np.asarray(found).reshape(-1).astype(_counted_in(code))


def _by_words(code: NDArray[np.uint8], block: NDArray[np.uint8]) -> NDArray[Any]:
    """Count by words of 64 bits, a column of them at a time; four times as slow as simsimd at the least."""
    words, word = block.view(np.uint64), code.view(np.uint64)
    total = np.zeros(len(block), _counted_in(code))
    for column in range(words.shape[1]):
        total += _bit_count(words[:, column] ^ word[0, column])
    return total


def _folded_count(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Count bits in pairs, fours and bytes, then add the bytes up by a product (Warren, Hacker's Delight, 5-1)."""
    pairs = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + (
        (pairs >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    each = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counted: NDArray[np.uint8] = ((each * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)
    return counted


# Numpy 2 counts bits itself.
_bit_count: Final[Callable[[NDArray[np.uint64]], NDArray[np.uint8]]] = getattr(
    np, "bitwise_count", _folded_count
)
_differing: Final[_Differing] = _by_simsimd if simsimd is not None else _by_words
