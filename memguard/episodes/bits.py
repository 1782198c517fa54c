"""One bit of each value of a vector, as `vectors.codes_of` makes it: in how many two differ, and how far they go a way.

Comes in: a query and blocks of codes. Goes out: numbers to rank by. Reads no file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

try:
    import simsimd
except ImportError:  # not for this processor, or left out
    simsimd = None  # type: ignore[assignment]

__all__ = ["Along", "counted_in", "differing"]

# Codes whose way is added up at once.
_AT_ONCE: Final = 256
# The bits of each byte, the highest first; shape (256, 8).
_BITS: Final = np.unpackbits(np.arange(256, dtype=np.uint8).reshape(-1, 1), axis=1).astype(np.float32)


class Along:
    """How far codes go along a query: the sum of its values where their bits are set.

    It ranks by the angle between the query itself and the signs of a vector, where `differing` has the signs of both.
    The sums of all bytes that there can be are made first, so each code costs one look into them for each byte.

    Args:
        query: shape (dimension,).
        code_bytes: of each code.
    """

    def __init__(self, query: NDArray[np.float32], code_bytes: int) -> None:
        wide = np.zeros(8 * code_bytes, np.float32)
        wide[: len(query)] = query
        self._sums = np.einsum("vb,cb->cv", _BITS, wide.reshape(code_bytes, 8)).ravel()
        self._begins = 256 * np.arange(code_bytes)

    def of(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return it of codes, shape (n, code_bytes); shape (n,)."""
        found = np.empty(len(codes), np.float32)
        for start in range(0, len(codes), _AT_ONCE):
            some = codes[start : start + _AT_ONCE]
            found[start : start + len(some)] = self._sums[some + self._begins].sum(axis=1)
        return found


def counted_in(code: NDArray[np.uint8]) -> type[Any]:
    """Return the least type that holds how many bits differ: numpy sorts 16 bits by radix, several times as fast."""
    return np.uint16 if 8 * code.shape[1] < 1 << 16 else np.uint32


def _by_simsimd(code: NDArray[np.uint8], block: NDArray[np.uint8]) -> NDArray[Any]:
    # Not with its `out=`: 6.5.16 then gives away a reference to None that it does not have.
    # As float32, which holds them exactly in half of the room: what threads allocate in larger pieces stays with them.
    found: Any = simsimd.cdist(code, block, metric="hamming", dtype="bin8", out_dtype="float32")
    return np.asarray(found).reshape(-1)


def _by_words(code: NDArray[np.uint8], block: NDArray[np.uint8]) -> NDArray[Any]:
    """Count by words of 64 bits, a column of them at a time; four times as slow as simsimd at the least."""
    words, word = block.view(np.uint64), code.view(np.uint64)
    total = np.zeros(len(block), counted_in(code))
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
# In how many bits each code of a block, shape (n, code_bytes), differs from one, shape (1, code_bytes); shape (n,).
differing: Final[Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[Any]]] = (
    _by_simsimd if simsimd is not None else _by_words
)
