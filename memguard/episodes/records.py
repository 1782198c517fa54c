"""What the store takes and gives: an episode, a hit, a change of its history, the store's figures."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Change", "Episode", "Hit", "NamespaceStatistics", "StoreStatistics"]

_NOTHING: Final[Mapping[str, Any]] = types.MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """Something that happened.

    Two episodes are equal where text, metadata, namespace, kind and the bytes of the vector are.

    Attributes:
        text: what happened, in words; up to the store's ``max_text_bytes`` as UTF-8. NUL is a character like others.
        vector: its embedding, shape (dimension,), finite and not all zero; kept as float32. ``None``: it has none.
        metadata: what else is known, as JSON has it: texts, finite numbers, booleans, ``None``, lists, mappings from
            texts.
        namespace: whose it is.
        kind: what sort of thing it is, for filters.
        happened_at_s: when it happened, seconds since 1970; ``None``: when it was added.
        id: its id; ``""``: one is made that sorts by time.
        version: 1 for an episode as it was added, one more with each update; 0 before it is stored.
        noted_at_s: when this version was stored, seconds since 1970; 0.0 before.
    """

    text: str = ""
    vector: ArrayLike | None = None
    metadata: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    namespace: str = "default"
    kind: str = "note"
    happened_at_s: float | None = None
    id: str = ""
    version: int = 0
    noted_at_s: float = 0.0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Episode):
            return NotImplemented
        mine = (self.text, self.metadata, self.namespace, self.kind, _bytes(self.vector))
        return mine == (other.text, other.metadata, other.namespace, other.kind, _bytes(other.vector))

    __hash__ = None  # type: ignore[assignment]


def _bytes(vector: ArrayLike | None) -> bytes | None:
    return None if vector is None else np.asarray(vector, dtype=np.float32).tobytes()


@dataclass(frozen=True, slots=True)
class Hit:
    """An episode that a search found.

    Attributes:
        id: of the episode.
        score: the higher the better. By vector: the cosine, -1 to 1. By text: BM25, above 0, for one query comparable.
            By both: reciprocal ranks, summed.
        episode: the episode, without its vector.
    """

    id: str
    score: float
    episode: Episode


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an episode.

    Attributes:
        id: of the episode.
        version: the version that the change made.
        what: ``"added"``, ``"updated"``, ``"deleted"`` or ``"purged"``.
        noted_at_s: when, seconds since 1970.
        episode: the episode after it, without its vector; ``None`` after a deletion, and where it was purged.
    """

    id: str
    version: int
    what: str
    noted_at_s: float
    episode: Episode | None


@dataclass(frozen=True, slots=True)
class NamespaceStatistics:
    """A namespace in figures.

    Attributes:
        name: what it is called.
        episodes: that can be had.
        versions: all that were ever stored.
        vectors: versions that have one.
        dimension: of its vectors; ``None`` before the first.
        embedder: what made its vectors, as was said with the first; ``""`` if nothing was.
        text_bytes: of the texts of all versions, as UTF-8.
        budget_bytes: the most that its texts, metadata and vectors may take; ``None``: no bound.
        unindexed: versions that the text index does not have yet; searches read them one by one.
        used_bytes: what its texts, metadata and vectors take of the budget.
    """

    name: str
    episodes: int
    versions: int
    vectors: int
    dimension: int | None
    embedder: str
    text_bytes: int
    budget_bytes: int | None
    unindexed: int
    used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """A store in figures.

    Attributes:
        folder: where it is.
        episodes: that can be had, in all namespaces.
        disk_bytes: what its files take.
        cache_bytes: what its cache holds in this process.
        cache_hits: how often an episode was asked for that the cache had.
        cache_misses: and had not.
        namespaces: each by itself, by name.
        cache_hit_rate: hits among all that was asked for, 0 to 1; ``None`` before anything was.
        purge_is_due: whether copies of what was purged are still in the log, since a reader needed it; later writes
            empty it.
    """

    folder: str
    episodes: int
    disk_bytes: int
    cache_bytes: int
    cache_hits: int
    cache_misses: int
    namespaces: tuple[NamespaceStatistics, ...]
    cache_hit_rate: float | None = None
    purge_is_due: bool = False
