"""Texts become vectors, the same everywhere, and are made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from memguard.episodes import EpisodeStore
from memguard.episodes.embedding import HashingEmbedder
from memguard.episodes.embedding_cache import CachedEmbedder, EmbeddingCache
from memguard.episodes.records import Episode
from memguard.errors import EpisodeInvalid

ROOT = Path(__file__).resolve().parents[2]


class Counting:
    """An embedder that counts what it was asked for."""

    name, dimension = "counting", 3

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        self.asked += texts
        return np.asarray([[len(text) + 1, 2, 3] for text in texts], np.float32)


def test_texts_that_share_spelling_lie_near() -> None:
    """In each script a text is nearer to its variant than to another text."""
    texts = [
        ("the job ran out of memory", "a job runs out of memory", "learning rates were too high"),
        ("昨日の実験でメモリが足りない", "メモリが足りない実験", "学習率を下げると安定した"),
        ("Память закончилась", "закончилась память процесса", "скорость обучения высока"),
    ]
    for one, like, other in texts:
        vectors = HashingEmbedder().embed([one, like, other])
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


def test_vectors_are_the_same_in_every_process() -> None:
    """Whatever the seed of Python's own hashes."""
    program = "from memguard.episodes.embedding import HashingEmbedder as H; print(H(16).embed(['a ß 忘却']).tolist())"
    told = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert told == {f"{HashingEmbedder(16).embed(['a ß 忘却']).tolist()}\n"}


@given(texts=st.lists(st.text(), max_size=4))
def test_every_text_has_a_direction(texts: list[str]) -> None:
    """No text gives zeros, NaN or another length than 1."""
    made = HashingEmbedder(8).embed(texts)
    assert made.shape == (len(texts), 8)
    assert np.linalg.norm(made, axis=1) == pytest.approx([1] * len(texts), abs=1e-5)


@pytest.mark.requirement("E10")
class TestCache:
    """The cache on disk."""

    def test_what_was_made_is_not_made_again(self, tmp_path: Path) -> None:
        """By another object, from the disk, too; under the SHA-256 of the canonical identifier."""
        counting = Counting()
        for _ in range(2):
            embedder = CachedEmbedder(counting, EmbeddingCache(tmp_path))
            assert embedder.embed(["a", "bb", "a"]).tolist() == [[2, 2, 3], [3, 2, 3], [2, 2, 3]]
        assert counting.asked == ["a", "bb"]
        key = EmbeddingCache.key_of(["counting", "bb"])
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            f"{EmbeddingCache.key_of(['counting', text])}.npy" for text in ("a", "bb")
        )
        assert np.load(tmp_path / f"{key}.npy").tolist() == [3, 2, 3]
        assert EmbeddingCache.key_of({"b": 1, "a": 2}) == EmbeddingCache.key_of({"a": 2, "b": 1})

    def test_bounds_are_kept_oldest_out_first(self, tmp_path: Path) -> None:
        """By count and by bytes; what was used last stays; what is too large is not kept."""
        cache = EmbeddingCache(tmp_path, most_entries=10, memory_bytes=0)
        for number in range(10):
            cache.put(number, np.zeros(4))
            os.utime(tmp_path / f"{cache.key_of(number)}.npy", (number, number))
        assert cache.get(0) is not None  # which makes it the youngest
        cache.put("new", np.zeros(4))
        left = {number for number in [*range(10), "new"] if cache.get(number) is not None}
        assert {0, "new"} < left
        assert {1, 2} & left == set()
        small = EmbeddingCache(tmp_path / "small", most_bytes=1000)
        small.put("large", np.zeros(1000))
        assert small.get("large") is None
        for number in range(200):
            small.put(number, np.zeros(20))
        assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) <= 1000

    def test_damage_is_made_again_and_nothing_is_unpickled(self, tmp_path: Path) -> None:
        """A file that was cut off, is none, or holds a pickle counts as not there."""
        counting = Counting()
        path = tmp_path / f"{EmbeddingCache.key_of(['counting', 'a'])}.npy"
        np.save(tmp_path / "pickle.npy", np.asarray([{"a": 1}], dtype=object), allow_pickle=True)
        for content in (b"", b"\x93NUMPY\x01\x00junk", (tmp_path / "pickle.npy").read_bytes()):
            path.write_bytes(content)
            embedder = CachedEmbedder(counting, EmbeddingCache(tmp_path))
            assert embedder.embed(["a"]).tolist() == [[2, 2, 3]]
        assert counting.asked == ["a"] * 3

    @pytest.mark.parametrize("at", [0, 70, 130, 139, 150, -1])
    def test_a_turned_bit_or_a_torn_end_is_found(self, tmp_path: Path, at: int) -> None:
        """Wherever it is: in the header, in the values or in the sum itself; also where a file took another's name."""
        counting = Counting()
        path = tmp_path / f"{EmbeddingCache.key_of(['counting', 'a'])}.npy"
        CachedEmbedder(counting, EmbeddingCache(tmp_path)).embed(["a", "other"])
        whole = path.read_bytes()
        other = (tmp_path / f"{EmbeddingCache.key_of(['counting', 'other'])}.npy").read_bytes()
        turned = bytearray(whole)
        turned[at] ^= 4
        for content in (bytes(turned), whole[:at], whole[:-16], other):
            path.write_bytes(content)
            embedder = CachedEmbedder(counting, EmbeddingCache(tmp_path))
            assert embedder.embed(["a"]).tolist() == [[2, 2, 3]]
            assert path.read_bytes() == whole
        assert counting.asked == ["a", "other", *["a"] * 4]

    def test_the_count_is_kept_at_every_moment(self, tmp_path: Path) -> None:
        """By one process, for any bound; what a dead one left half written goes after an hour."""
        cache = EmbeddingCache(tmp_path, most_entries=70)
        left, young = tmp_path / ".dead.1.part", tmp_path / ".writing.1.part"
        for path in (left, young):
            path.write_bytes(b"x")
        os.utime(left, (0, 0))
        for number in range(150):
            assert cache.put(number, np.zeros(4))
            assert len(list(tmp_path.glob("*.npy"))) <= 70
        assert (left.exists(), young.exists()) == (False, True)
        assert cache.get(149) is not None

    def test_a_disk_that_takes_nothing_costs_no_vector(self, tmp_path: Path) -> None:
        """Vectors are made, kept in memory, and it is said why no file was written."""
        counting = Counting()
        cache = EmbeddingCache(tmp_path / "cache")
        embedder = CachedEmbedder(counting, cache)
        (tmp_path / "cache").rmdir()
        (tmp_path / "cache").write_bytes(b"in the way")
        assert embedder.embed(["a"]).tolist() == embedder.embed(["a"]).tolist() == [[2, 2, 3]]
        assert counting.asked == ["a"]
        assert not cache.put("b", np.zeros(1))
        (tmp_path / "cache").unlink()
        (tmp_path / "cache").mkdir()
        figures = cache.statistics()
        assert (figures.not_kept, figures.entries, figures.memory.hits) == (2, 0, 1)
        assert "Not a directory" in figures.last_error

    def test_a_file_that_cannot_be_touched_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a disk that is read only, or of another user."""
        EmbeddingCache(tmp_path).put("a", np.ones(3))

        def refused(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "utime", refused)
        assert EmbeddingCache(tmp_path).get("a") is not None

    def test_identifiers_that_would_be_one_are_refused(self) -> None:
        """A number as a key is not the text that JSON makes of it."""
        with pytest.raises(TypeError, match="a key in an identifier is a text"):
            EmbeddingCache.key_of(["model", {"layers": {1: 2}}])
        with pytest.raises(ValueError, match="JSON"):
            EmbeddingCache.key_of(float("nan"))

    def test_many_processes_share_a_folder(self, tmp_path: Path) -> None:
        """Four that write and read the same hundred keys within a bound of 40 read nothing that was not written."""
        program = (
            "import sys; import numpy as np; from memguard.episodes.embedding_cache import EmbeddingCache\n"
            "cache = EmbeddingCache(sys.argv[1], most_entries=40, memory_bytes=0)\n"
            "for number in range(250):\n"
            "    key = number * 7 % 100\n"
            "    found = cache.get(key)\n"
            "    assert found is None or found.tolist() == [key] * 50\n"
            "    cache.put(key, np.full(50, key))\n"
            "print(cache.statistics().not_kept)\n"
        )
        running = [
            subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
            for _ in range(4)
        ]
        assert [each.communicate()[0] for each in running] == [b"0\n"] * 4
        EmbeddingCache(tmp_path, most_entries=40).trim()
        names = [path.name for path in tmp_path.iterdir()]
        assert len(names) <= 40
        assert all(name.endswith(".npy") for name in names)

    def test_memory_is_given_back_on_request(self, tmp_path: Path) -> None:
        """And what is had again comes from the disk."""
        cache = EmbeddingCache(tmp_path)
        cache.put("a", np.ones(1000))
        assert cache.shed(1) == cache.shed(1) + 8000
        found = cache.get("a")
        assert found is not None
        found[:] = 7
        assert json.dumps(cache.get("a").tolist()[:2]) == "[1.0, 1.0]"  # type: ignore[union-attr]


@pytest.mark.requirement("E3")
def test_a_store_embeds_what_comes_without_a_vector(tmp_path: Path) -> None:
    """With an embedder texts are found by their likeness; its name is fixed for the namespace."""
    with EpisodeStore(tmp_path / "store", embedder=HashingEmbedder(64)) as store:
        ids = store.add_episodes(
            [Episode(text="memory ran out"), Episode(text="学習率を下げる"), Episode(kind="empty")]
        )
        assert store.get_episode(ids[2]).vector is None
        assert store.search("out of memory")[0].id == ids[0]
        assert store.search_episodes_by_vector(HashingEmbedder(64).embed(["学習率"])[0])[0].id == ids[1]
        assert store.statistics().namespaces[0].embedder == "memguard-hashing-1/64"
        store.update(ids[0], text="learning rate")
        assert (
            store.search_episodes_by_vector(HashingEmbedder(64).embed(["learning rate"])[0])[0].id == ids[0]
        )
    with EpisodeStore(tmp_path / "store", embedder=HashingEmbedder(32)) as other:
        with pytest.raises(EpisodeInvalid, match="memguard-hashing-1/64"):
            other.add_episode(Episode(text="x"))
        with pytest.raises(EpisodeInvalid, match="memguard-hashing-1/64"):
            other.search("x")
    with EpisodeStore(tmp_path / "store") as plain, pytest.raises(EpisodeInvalid, match="no embedder"):
        plain.search("x")
