"""What happened, kept: episodes with text, vector and metadata, in a folder that many processes share.

Comes in: an `Episode`, alone or by the thousand. Goes out: an acknowledged id, and later the episode itself, its
history, and hits by meaning (vectors), by words (any script) or by both. It holds no episode in memory beyond a bounded
cache, computes no embedding unless it is given an embedder, and decides nothing about jobs. Read `store.py` first, then
`writing.py` for what one add does to the disk.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memguard.episodes.aio import AsyncEpisodeStore
    from memguard.episodes.checking import Finding
    from memguard.episodes.durability import Durability
    from memguard.episodes.embedding import Embedder, HashingEmbedder
    from memguard.episodes.embedding_cache import CachedEmbedder, EmbeddingCache
    from memguard.episodes.model import ModelEmbedder
    from memguard.episodes.moving import Imported, import_file, import_objects
    from memguard.episodes.records import Change, Episode, Hit, StoreStatistics
    from memguard.episodes.store import EpisodeStore
    from memguard.episodes.working_memory import WorkingEntry, WorkingMemory

__all__ = [
    "AsyncEpisodeStore",
    "CachedEmbedder",
    "Change",
    "Durability",
    "Embedder",
    "EmbeddingCache",
    "Episode",
    "EpisodeStore",
    "Finding",
    "HashingEmbedder",
    "Hit",
    "Imported",
    "ModelEmbedder",
    "StoreStatistics",
    "WorkingEntry",
    "WorkingMemory",
    "import_file",
    "import_objects",
]

# Imported when asked for: numpy comes with the store.
_HOMES = {
    "AsyncEpisodeStore": "aio",
    "CachedEmbedder": "embedding_cache",
    "Change": "records",
    "Durability": "durability",
    "Embedder": "embedding",
    "EmbeddingCache": "embedding_cache",
    "Episode": "records",
    "EpisodeStore": "store",
    "Finding": "checking",
    "HashingEmbedder": "embedding",
    "Hit": "records",
    "Imported": "moving",
    "ModelEmbedder": "model",
    "StoreStatistics": "records",
    "import_file": "moving",
    "import_objects": "moving",
    "WorkingEntry": "working_memory",
    "WorkingMemory": "working_memory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
