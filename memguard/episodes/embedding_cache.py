"""Embeddings that were made before, on the disk: one file each, for many processes, within bounds.

Comes in: an embedder and texts. Goes out: vectors, made only where none was kept. A file is put in its place in one
step, and one that is damaged or in the way counts as not there. What has not been used for longest goes first.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memguard.episodes.embedding import Embedder
from memguard.memory.cache import ByteCache
from memguard.memory.shedding import register_sheddable
from memguard.units import MIB, parse_bytes

__all__ = ["CachedEmbedder", "EmbeddingCache"]

# Bounds are looked at after so many files were written: reading the folder takes longer than writing one.
_LOOK_EVERY: Final = 64
# When a bound is passed this much of it is kept, so that the next file does not pass it again.
_KEPT: Final = 0.9


class EmbeddingCache:
    """Arrays by identifier, in a folder, and the last used of them in memory.

    Several processes may use one folder; each keeps to the bounds, so together they may pass them by what one writes
    between two looks.

    Args:
        folder: where the files are; made if it is not there.
        most_entries: files at the most.
        most_bytes: what they may take together, as ``"1GiB"`` or bytes; an array that is larger is not kept.
        memory_bytes: what is kept in memory as well; 0 for nothing.

    Raises:
        OSError: if the folder cannot be had.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        most_entries: int = 100_000,
        most_bytes: str | int = 1024 * MIB,
        memory_bytes: str | int = 4 * MIB,
    ) -> None:
        self.folder = Path(folder)
        self._most_entries, self._most_bytes = most_entries, parse_bytes(most_bytes)
        self._memory: ByteCache[str, NDArray[Any]] = ByteCache(most_entries, parse_bytes(memory_bytes))
        self._written = 0
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        register_sheddable(self)

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"embedding cache {self.folder.name}"

    @property
    def held_bytes(self) -> int:
        """What it holds in memory."""
        return self._memory.held_bytes

    def shed(self, wanted_bytes: int) -> int:
        """Let go of what is in memory; return the bytes that were."""
        return self._memory.shed()

    @staticmethod
    def key_of(identifier: Any) -> str:
        """Return the key of an identifier: the SHA-256 of its canonical JSON.

        Raises:
            TypeError, ValueError: if JSON cannot hold it.
        """
        told = json.dumps(
            identifier, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True
        )
        return hashlib.sha256(told.encode()).hexdigest()

    def get(self, identifier: Any) -> NDArray[Any] | None:
        """Return a copy of an array, ``None`` if it is not there."""
        key = self.key_of(identifier)
        kept = self._memory.get(key)
        if kept is None:
            kept = self._read(key)
            if kept is not None:
                self._memory.put(key, kept, kept.nbytes)
        return None if kept is None else kept.copy()

    def _read(self, key: str) -> NDArray[Any] | None:
        path = self._path(key)
        try:
            with path.open("rb") as file:
                found: NDArray[Any] = np.load(file, allow_pickle=False)
            os.utime(path)
        except (OSError, ValueError, EOFError):
            return None  # not there, gone just now, or damaged: it can be made again
        return found

    def put(self, identifier: Any, array: NDArray[Any]) -> None:
        """Keep an array; one of objects, and one larger than the bound, is not.

        Raises:
            OSError: if it cannot be written.
        """
        if array.dtype.hasobject or array.nbytes > self._most_bytes or not self._most_entries:
            return
        key, content = self.key_of(identifier), io.BytesIO()
        np.save(content, array, allow_pickle=False)
        beside = self.folder / f".{key[:16]}.{os.urandom(4).hex()}.part"
        try:
            beside.write_bytes(content.getbuffer())
            beside.replace(self._path(key))
        finally:
            beside.unlink(missing_ok=True)
        self._memory.put(key, array.copy(), array.nbytes)
        self._written += 1
        if self._written % _LOOK_EVERY == 1 or self._most_entries < _LOOK_EVERY:
            self.trim()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def trim(self) -> int:
        """Remove what has not been used for longest until the bounds are kept; return how many files went."""
        files = sorted(self._files())
        total, gone = sum(size for _, size, _ in files), 0
        if len(files) <= self._most_entries and total <= self._most_bytes:
            return 0
        entries = min(self._most_entries, max(1, int(_KEPT * self._most_entries)))
        for _, size, path in files:
            if len(files) - gone <= entries and total <= _KEPT * self._most_bytes:
                break
            path.unlink(missing_ok=True)
            total, gone = total - size, gone + 1
        return gone

    def _files(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in self.folder.glob("*.npy"):
            with contextlib.suppress(FileNotFoundError):  # another process trims as well
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        return found


class CachedEmbedder:
    """An embedder that makes each vector once.

    Args:
        embedder: makes them.
        cache: keeps them, under the embedder's name and the text.
    """

    def __init__(self, embedder: Embedder, cache: EmbeddingCache) -> None:
        self._embedder, self._cache = embedder, cache

    @property
    def name(self) -> str:
        """The embedder's."""
        return self._embedder.name

    @property
    def dimension(self) -> int:
        """The embedder's."""
        return self._embedder.dimension

    def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Return a vector for each text, shape (n, dimension); those that are not kept are made in one call."""
        kept = [self._cache.get([self.name, text]) for text in texts]
        missing = [at for at, found in enumerate(kept) if found is None or found.shape != (self.dimension,)]
        for at, vector in zip(missing, self._made([texts[at] for at in missing]), strict=True):
            self._cache.put([self.name, texts[at]], vector)
            kept[at] = vector
        return np.array(kept, dtype=np.float32).reshape(len(texts), self.dimension)

    def _made(self, texts: list[str]) -> NDArray[np.float32]:
        return self._embedder.embed(texts) if texts else np.empty((0, self.dimension), np.float32)
