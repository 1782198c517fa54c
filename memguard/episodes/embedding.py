"""Vectors from texts: what an embedder is, and one that needs no model.

Comes in: texts. Goes out: a vector for each. The hashing embedder knows nothing of meaning, only of shared spelling: it
is there so that everything works without a download, and its vectors are the same on every machine.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Embedder", "HashingEmbedder"]


class Embedder(Protocol):
    """Makes vectors of texts. The same text gives the same vector, to the bit, as long as ``name`` is the same."""

    @property
    def name(self) -> str:
        """What tells it from every other that makes other vectors: model, version, settings."""

    @property
    def dimension(self) -> int:
        """How long its vectors are."""

    def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Return a vector for each text, shape (n, dimension); each finite, and none all zero."""


# Lengths of the pieces of a word that are counted, as fastText has them less the longest; those of one character are
# what tells texts apart in scripts of thousands of characters.
_PIECES: Final = (1, 2, 3, 4)


class HashingEmbedder:
    """Counts pieces of words of any script, each in a place and with a sign that its hash tells.

    The inner product of two such vectors is, but for collisions, that of the counts (Weinberger, Dasgupta, Langford,
    Smola, Attenberg: Feature hashing for large scale multitask learning, ICML 2009, section 3). Counts are damped by
    1 + ln, and vectors have length 1.

    Args:
        dimension: how long the vectors are, 8 at the least.

    Raises:
        ValueError: for fewer.
    """

    def __init__(self, dimension: int = 384) -> None:
        if dimension < 8:
            raise ValueError(f"a hashing embedder has 8 dimensions or more, not {dimension}")
        self.dimension = dimension

    @property
    def name(self) -> str:
        """What it is, with all that its vectors depend on."""
        return f"memguard-hashing-1/{self.dimension}"

    def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Return a vector of length 1 for each text, shape (n, dimension); an empty text has one, too."""
        made = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in zip(made, texts, strict=True):
            self._fill(row, text)
        return made

    def _fill(self, row: NDArray[np.float32], text: str) -> None:
        for piece, count in Counter(_pieces(text)).items():
            place = zlib.crc32(piece.encode("utf-8", "surrogatepass"))
            row[(place >> 1) % self.dimension] += (1 - 2 * (place & 1)) * (1 + np.log(count))
        length = np.linalg.norm(row)
        if length > 0:
            row /= length
        else:  # no letter or digit, or pieces that cancel each other out
            row[0] = 1


def _pieces(text: str) -> Iterator[str]:
    normal = unicodedata.normalize("NFKC", text).casefold()
    spaced = "".join(each if unicodedata.category(each)[0] in "LNM" else " " for each in normal)
    for word in spaced.split():
        marked = f"<{word}>"
        yield marked
        for size in _PIECES:
            yield from (marked[at : at + size] for at in range(len(marked) - size + 1))
