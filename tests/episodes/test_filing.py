"""Vectors on their way to the files: how often an add waits for the disk, what fails with it, what reading takes."""

from __future__ import annotations

import errno
import mmap
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memguard.episodes import Episode, EpisodeStore
from memguard.episodes.vectors import VectorFiles
from memguard.errors import EpisodeStoreError
from tests.support.forks import FORKS_BESIDE_THREADS, in_child


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


def vectors_of(count: int, dimension: int) -> NDArray[np.float32]:
    return np.random.default_rng(dimension).standard_normal((count, dimension), dtype=np.float32)


def test_after_a_failed_first_add_vectors_may_have_another_dimension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails at the flush fails the add; the namespace that it would have made leaves no trace."""

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    first, second = vectors_of(300, 64), vectors_of(300, 24)
    with EpisodeStore(tmp_path / "store") as store:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", failing)
            with pytest.raises(EpisodeStoreError, match="Input/output error"):
                store.add_episodes([Episode(vector=vector, namespace="one") for vector in first])
        assert len(store) == 0
        ids = store.add_episodes([Episode(vector=vector, namespace="other") for vector in second])
        assert not list(store.check())
        for number in (0, 150, 299):
            found = store.search_episodes_by_vector(second[number], namespace="other", top_k=1)
            assert [hit.id for hit in found] == [ids[number]]


@FORKS_BESIDE_THREADS
def test_blocks_belong_to_who_reads_them(tmp_path: Path) -> None:
    """A forked copy that goes on reading changes nothing of what its parent has in hand."""
    vectors = vectors_of(3000, 384)
    files = VectorFiles(tmp_path, 1, 384, read_only=False)
    files.write(range(1, 3001), vectors)
    blocks = files.value_blocks(3000)
    _, block = next(blocks)
    seen = block.copy()
    assert in_child(lambda: all(len(each) for _, each in blocks))
    assert np.array_equal(block, seen)
    assert len(seen) < 3000
    files.close()


@FORKS_BESIDE_THREADS
def test_no_memory_for_a_block_is_told_as_such(tmp_path: Path) -> None:
    """And not as a disk that failed: who is short of memory takes less at a time."""
    files = VectorFiles(tmp_path, 1, 384, read_only=False)
    files.cut(3000)
    next(files.value_blocks(3000))

    def starved() -> bool:
        here = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
        resource.setrlimit(resource.RLIMIT_AS, (here, here))
        with pytest.raises(MemoryError):
            list(files.value_blocks(3000))
        return True

    assert in_child(starved)
    files.close()
