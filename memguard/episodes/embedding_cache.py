"""Embeddings that were made before, on the disk: one file each, for many processes, within bounds.

Comes in: an embedder and texts. Goes out: vectors, made only where none was kept. A file is what `numpy.load` reads,
with a sum over it and its name behind; it is put in its place in one step, and one that is damaged or in the way counts
as not there. What has not been used for longest goes first. A disk that is full or cannot be written to costs the
cache, never the vectors.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from memguard.episodes.embedding import Embedder
from memguard.memory.cache import ByteCache, CacheStatistics
from memguard.memory.shedding import register_sheddable
from memguard.memory.state import StateDifference, known_state, whole_number
from memguard.units import MIB, parse_bytes

__all__ = ["CachedEmbedder", "EmbeddingCache", "EmbeddingCacheStatistics"]

_SCHEMA: Final = "memguard.embedding-cache/1"
_STATE: Final = ("most_entries", "most_bytes", "disk_hits", "misses", "not_kept", "memory")
# What others wrote is looked at after so many files of one's own: reading the folder takes longer than writing one.
_LOOK_EVERY: Final = 64
# When a bound is passed this much of it is kept, so that the next file does not pass it again.
_KEPT: Final = 0.9
# Behind the array: this, and the sum. Numpy reads an array's own length and no further.
_MARK: Final = b"\0memguard-sum-1\0"
_SUM_BYTES: Final = 16
# What a process that died left half written is taken away after so long; no write takes a tenth of it.
_ABANDONED_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class EmbeddingCacheStatistics:
    """A cache of embeddings in figures.

    Attributes:
        entries: files in the folder, of all processes.
        disk_bytes: how long they are together.
        disk_hits: arrays that this object found on the disk, and not in memory.
        misses: and found nowhere.
        not_kept: arrays that could not be written.
        last_error: why, the last time; ``""``: never.
        memory: of what is kept in memory.
    """

    entries: int
    disk_bytes: int
    disk_hits: int
    misses: int
    not_kept: int
    last_error: str
    memory: CacheStatistics


class EmbeddingCache:
    """Arrays by identifier, in a folder, and the last used of them in memory.

    Several processes may use one folder; each keeps to the bounds, so together they may pass them by the 64 files that
    each of the others writes between two looks.

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
        self._written, self._entries, self._bytes = 0, most_entries, 0  # as of the last look: none yet
        self._disk_hits = self._misses = self._not_kept = 0
        self._last_error = ""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _caches.add(self)
        register_sheddable(self)

    def state_dict(self) -> dict[str, Any]:
        """Return its bounds and those of its tier in memory, with their counts; the arrays are in the folder."""
        bounds = {"most_entries": self._most_entries, "most_bytes": self._most_bytes}
        counts = {"disk_hits": self._disk_hits, "misses": self._misses, "not_kept": self._not_kept}
        return {"schema": _SCHEMA, **bounds, **counts, "memory": self._memory.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> StateDifference:
        """Take bounds and counts of a `state_dict`; files beyond the bounds go at the next look.

        Args:
            state: what was given.
            strict: refuse a state with other names; else what is known is taken.

        Raises:
            StateMismatch: it says what does not fit.
            ValueError: for a value that is none; nothing was changed.
        """
        known, difference = known_state(state, _SCHEMA, _STATE, strict=strict)
        memory = known.pop("memory", None)
        counts = {f"_{name}": whole_number(name, value) for name, value in known.items()}
        if memory is not None:
            self._memory.load_state_dict(memory, strict=strict)
        self.__dict__.update(counts)
        return difference

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
        _check_keys(identifier)
        told = json.dumps(
            identifier, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True
        )
        return hashlib.sha256(told.encode()).hexdigest()

    def get(self, identifier: Any) -> NDArray[Any] | None:
        """Return a copy of an array, ``None`` if it is not there.

        Raises:
            TypeError, ValueError: if JSON cannot hold the identifier.
        """
        key = self.key_of(identifier)
        kept = self._memory.get(key)
        if kept is None:
            kept = self._read(key)
            if kept is None:
                self._misses += 1
                return None
            self._disk_hits += 1
            self._memory.put(key, kept, kept.nbytes)
        return kept.copy()

    def _read(self, key: str) -> NDArray[Any] | None:
        path = self._path(key)
        try:
            if path.stat().st_size > self._most_bytes:
                return None
            found = _array_in(key, path.read_bytes())
        except (OSError, ValueError, EOFError):
            return None  # not there, gone just now, or damaged: it can be made again
        with contextlib.suppress(OSError):  # of another user, or on a disk that is read only
            os.utime(path)
        return found

    def put(self, identifier: Any, array: NDArray[Any]) -> bool:
        """Keep an array; one of objects, and one larger than the bound, is not.

        Returns:
            Whether it is on the disk; where it could not be written, `statistics` says why.

        Raises:
            TypeError, ValueError: if JSON cannot hold the identifier.
        """
        key = self.key_of(identifier)
        if array.dtype.hasobject or array.nbytes > self._most_bytes or not self._most_entries:
            return False
        content = _content_of(key, array)
        if len(content) > self._most_bytes:
            return False
        self._memory.put(key, array.copy(), array.nbytes)
        try:
            self._write(key, content)
            self._keep_bounds(len(content))
        except OSError as error:
            self._not_kept += 1
            self._last_error = str(error)
            return False
        return True

    def _write(self, key: str, content: bytes) -> None:
        beside = self.folder / f".{key[:16]}.{os.urandom(4).hex()}.part"
        try:
            beside.write_bytes(content)
            beside.replace(self._path(key))
        finally:
            with contextlib.suppress(OSError):  # its own error, if there is one, is told
                beside.unlink(missing_ok=True)

    def _keep_bounds(self, size: int) -> None:
        self._written += 1
        self._entries += 1
        self._bytes += size
        passed = self._entries > self._most_entries or self._bytes > self._most_bytes
        if passed or self._written % _LOOK_EVERY == 0:
            self.trim()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def trim(self) -> int:
        """Remove what has not been used for longest until the bounds are kept; return how many files went."""
        files = sorted(self._files())
        self._entries, self._bytes = len(files), sum(size for _, size, _ in files)
        self._forget_abandoned()
        if self._entries <= self._most_entries and self._bytes <= self._most_bytes:
            return 0
        entries, gone = min(self._most_entries, max(1, int(_KEPT * self._most_entries))), 0
        for _, size, path in files:
            if self._entries <= entries and self._bytes <= _KEPT * self._most_bytes:
                break
            path.unlink(missing_ok=True)
            self._entries, self._bytes, gone = self._entries - 1, self._bytes - size, gone + 1
        return gone

    def _forget_abandoned(self) -> None:
        for path in self.folder.glob(".*.part"):
            with contextlib.suppress(FileNotFoundError):  # finished just now
                if path.stat().st_mtime < time.time() - _ABANDONED_S:
                    path.unlink()

    def statistics(self) -> EmbeddingCacheStatistics:
        """Return its figures; the folder is read for it.

        Raises:
            OSError: if the folder cannot be read.
        """
        sizes = [size for _, size, _ in self._files()]
        return EmbeddingCacheStatistics(
            len(sizes),
            sum(sizes),
            self._disk_hits,
            self._misses,
            self._not_kept,
            self._last_error,
            self._memory.statistics(),
        )

    def renew_lock(self) -> None:
        """Take a new lock in a forked copy: a thread that does not exist there may hold the old one."""
        self._memory.renew_lock()

    def _files(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in self.folder.glob("*.npy"):
            with contextlib.suppress(FileNotFoundError):  # another process trims as well
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        return found


_caches: Final[WeakSet[EmbeddingCache]] = WeakSet()


def _renew_in_child() -> None:
    for cache in list(_caches):
        cache.renew_lock()


os.register_at_fork(after_in_child=_renew_in_child)


def _check_keys(value: Any) -> None:
    """Refuse keys that are no texts: JSON makes texts of them, and two identifiers would become one."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key in an identifier is a text")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            _check_keys(inner)


def _content_of(key: str, array: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    content.write(_MARK + _sum_of(key, content.getvalue()))
    return content.getvalue()


def _sum_of(key: str, content: bytes) -> bytes:
    """Return the sum over an array as it is stored; with its name, so that no file stands in for another."""
    return hashlib.blake2b(content, digest_size=_SUM_BYTES, key=key.encode()).digest()


def _array_in(key: str, content: bytes) -> NDArray[Any]:
    """Return the array of a file.

    Raises:
        ValueError: if it is not as it was written.
    """
    stored, told = content[: -len(_MARK) - _SUM_BYTES], content[-len(_MARK) - _SUM_BYTES :]
    if told != _MARK + _sum_of(key, stored):
        raise ValueError("the sum differs")
    found: NDArray[Any] = np.load(io.BytesIO(stored), allow_pickle=False)
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
        kept = {text: self._cache.get([self.name, text]) for text in texts}
        missing = [text for text, found in kept.items() if found is None or found.shape != (self.dimension,)]
        if missing:
            for text, vector in zip(missing, self._embedder.embed(missing), strict=True):
                self._cache.put([self.name, text], vector)
                kept[text] = vector
        return np.array([kept[text] for text in texts], np.float32).reshape(len(texts), self.dimension)
