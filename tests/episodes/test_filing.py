"""How often an add waits for the disk: vectors of small batches wait for each other, those of large ones do not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from memguard.episodes import Episode, EpisodeStore


@pytest.mark.parametrize(("size", "batches", "most"), [(100, 12, 4), (64, 18, 4), (300, 2, 4)])
def test_flushes_of_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, batches: int, most: int
) -> None:
    """Twelve batches of a hundred flush the two files of vectors twice; one of 300 does at once, and waits no more."""
    flushed, flush = list[int](), os.fdatasync

    def counted(fd: int) -> None:
        flushed.append(fd)
        flush(fd)

    monkeypatch.setattr(os, "fdatasync", counted)
    vectors = np.random.default_rng(1).standard_normal((size, 8), dtype=np.float32)
    with EpisodeStore(tmp_path / "store") as store:
        for _ in range(batches):
            store.add_episodes([Episode(text="t", vector=vector) for vector in vectors])
        assert len(flushed) == most
        assert len(store.search_episodes_by_vector(vectors[0], top_k=batches)) == batches
