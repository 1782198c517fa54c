"""Searches of a store: nearest vectors, words, both together, and conditions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memguard.episodes import Episode, EpisodeStore
from memguard.episodes import bits as bits_module
from memguard.episodes import nearest as nearest_module
from memguard.episodes.living import Places
from memguard.episodes.vectors import VectorFiles
from memguard.errors import EpisodeInvalid
from tests.support.episodes import episode, vectors


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EpisodeStore]:
    """3,000 episodes, every tenth without a vector, some deleted, the last few added one by one."""
    with EpisodeStore(tmp_path_factory.mktemp("episodes") / "store") as opened:
        made = [
            episode(number, vector=None if number % 10 == 0 else VECTORS[number]) for number in range(3000)
        ]
        ids = opened.add_episodes(made[:2900])
        for each in made[2900:]:
            ids.append(opened.add_episode(each))
        for number in range(1, 200, 2):
            opened.delete(ids[number])
        yield opened


VECTORS = vectors(3000, seed=5)
HAS = np.asarray([number % 10 != 0 and not (number < 200 and number % 2) for number in range(3000)])


def true_nearest(query: Any, count: int, allowed: Any = HAS) -> list[int]:
    cosines = VECTORS @ query / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(query)
    return np.argsort(np.where(allowed, -cosines, 2.0), kind="stable")[:count].tolist()


@pytest.mark.requirement("E3")
def test_the_nearest_are_found(store: EpisodeStore) -> None:
    """The ten nearest in order with their cosines; in a small store none is missed."""
    for query in vectors(20, seed=8):
        exact = store.search_episodes_by_vector(query, 10, exact=True)
        assert [hit.episode.metadata["number"] for hit in exact] == true_nearest(query, 10)
        expected = VECTORS[true_nearest(query, 1)[0]]
        assert exact[0].score == pytest.approx(
            expected @ query / np.linalg.norm(expected) / np.linalg.norm(query), abs=1e-5
        )
        assert store.search_episodes_by_vector(query, 10) == exact


def test_the_first_look_finds_nearly_all_of_the_nearest(tmp_path: Path) -> None:
    """Of clustered vectors, as embeddings are, a look at one bit in each value and a second at one in ten find 99 in 100."""
    centres, draw = vectors(40, dimension=192), np.random.default_rng(7)
    made = (centres[draw.integers(40, size=4000)] + 0.7 * vectors(4000, seed=1, dimension=192)).astype(
        np.float32
    )
    files = VectorFiles(tmp_path, 1, 192, read_only=False)
    files.write(range(1, 4001), made)
    found = 0
    for query in made[:20] + 0.3 * vectors(20, seed=2, dimension=192):
        exact, _ = nearest_module.nearest_exactly(files, query, 4000, top_k=10, mask=Everything())
        looked, scores = nearest_module.nearest(
            files, query, 4000, top_k=10, candidates=400, mask=Everything()
        )
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        found += len({*exact.tolist()} & {*looked.tolist()})
    files.close()
    assert found >= 198


def test_the_query_itself_tells_more_than_its_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many candidates more are true where the query's values choose them among those whose bits differ least."""
    made = vectors(4000, seed=11, dimension=192) + 0.5 * vectors(1, seed=12, dimension=192)
    files = VectorFiles(tmp_path, 1, 192, read_only=False)
    files.write(range(1, 4001), made.astype(np.float32))

    def found(more_bits: int) -> int:
        monkeypatch.setattr(nearest_module, "_MORE_BITS", more_bits)
        count = 0
        for query in vectors(20, seed=13, dimension=192):
            exact, _ = nearest_module.nearest_exactly(files, query, 4000, top_k=10, mask=Everything())
            looked = nearest_module.first_look(files, query, 4000, 60, Everything())
            assert len(looked) == 60
            count += len({*exact.tolist()} & {*looked.tolist()})
        return count

    by_bits, by_both = found(1), found(5)
    files.close()
    assert by_both > 1.1 * by_bits


def test_a_sample_that_misleads_costs_no_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where those that are looked at first are the nearest of all, as many candidates are found, and the same."""
    query = vectors(1, dimension=64)[0]
    made = vectors(3000, seed=14, dimension=64)
    made[:64] = query + 0.1 * made[:64]
    made[-64:] = query + 0.1 * made[-64:]
    files = VectorFiles(tmp_path, 1, 64, read_only=False)
    files.write(range(1, 3001), made)
    whole = nearest_module.first_look(files, query, 3000, 200, Everything()).tolist()
    monkeypatch.setattr(nearest_module, "_STRETCHES", 2)
    monkeypatch.setattr(nearest_module, "_STRETCH", 64)
    look = nearest_module._Look(files, query, 3000, 1000, Everything())
    assert len(look.least(look.likely_bound())[0]) < 1000
    assert nearest_module.first_look(files, query, 3000, 200, Everything()).tolist() == whole
    files.close()


@pytest.mark.parametrize("dimension", [1, 63, 64, 65, 384])
def test_how_far_signs_go_along_a_query(dimension: int) -> None:
    """It is the sum of the query's values where the bits are set, whatever the dimension is filled up to."""
    some, query = vectors(600, dimension=dimension), vectors(1, seed=1, dimension=dimension)[0]
    codes = nearest_module.codes_of(some)
    told = bits_module.Along(query, codes.shape[1]).of(codes)
    assert told == pytest.approx((some > 0) @ query.astype(np.float64), abs=1e-4)


def test_halves_looked_at_by_two_threads_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates are the same, ties and all, whether one thread looks, two do, or no second one is to be had."""
    files = VectorFiles(tmp_path, 1, 64, read_only=False)
    made = vectors(3001, dimension=64)
    files.write(range(1, 3002), made)
    living = Places.of(np.flatnonzero(np.arange(3001) % 3) + 1, 3001)

    def looked() -> list[list[int]]:
        return [
            nearest_module.first_look(files, query, 3001, most, mask).tolist()
            for query in made[:5]
            for most in (1, 50, 3001)
            for mask in (living, Everything())
        ]

    monkeypatch.setattr(nearest_module, "allowed_cpus", lambda: 1)
    alone = looked()
    monkeypatch.setattr(nearest_module, "allowed_cpus", lambda: 2)
    monkeypatch.setattr(nearest_module, "_WORTH_SHARING", 0)
    assert looked() == alone
    monkeypatch.setattr(nearest_module.ThreadPoolExecutor, "submit", no_thread)
    assert looked() == alone
    files.close()


def no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


class Everything:
    """A mask that lets everything pass."""

    def among(self, first: int, count: int) -> None:
        return None


def test_conditions_are_met_by_all_that_is_found(store: EpisodeStore) -> None:
    """Of those that meet them, the nearest are found, be they many or few."""
    query = vectors(1, seed=3)[0]
    even = np.asarray([number % 2 == 0 for number in range(3000)]) & HAS
    hits = store.search_episodes_by_vector(query, 10, where={"even": True})
    assert [hit.episode.metadata["number"] for hit in hits] == true_nearest(query, 10, even)
    few = store.search_episodes_by_vector(query, 10, where={"number": {"range": [2950, 2953]}})
    assert sorted(hit.episode.metadata["number"] for hit in few) == [2951, 2952, 2953]
    timed = store.search_episodes_by_text(
        "episode", 50, since_s=1_700_000_000.0 + 2990, until_s=1_700_000_000.0 + 2995
    )
    assert sorted(hit.episode.metadata["number"] for hit in timed) == list(range(2990, 2995))
    assert store.search_episodes_by_text("episode", kind="no such") == []


def test_many_dead_hide_no_living(tmp_path: Path) -> None:
    """Where hundreds of deleted episodes lie nearer than those that are left, these are found all the same."""
    with EpisodeStore(tmp_path / "store") as store:
        near = vectors(1)[0]
        ids = store.add_episodes(Episode(vector=near + 0.001 * each) for each in vectors(500, seed=1))
        store.add_episodes(Episode(text="far", vector=-near + each) for each in vectors(400, seed=2))
        for each in ids:
            store.delete(each)
        hits = store.search_episodes_by_vector(near, 10)
        assert [hit.episode.text for hit in hits] == ["far"] * 10


@pytest.mark.parametrize("dimension", [1, 8, 63, 64, 65, 384])
def test_both_ways_to_count_bits_agree(dimension: int) -> None:
    """The library's count, numpy's and the folded one are the number of signs that differ."""
    some = vectors(50, dimension=dimension)
    codes = nearest_module.codes_of(some)
    truth = ((some > 0) != (some[:1] > 0)).sum(axis=1)
    assert (bits_module._by_words(codes[:1], codes) == truth).all()
    assert (
        bits_module._folded_count(codes.view(np.uint64)).sum(axis=1).tolist()
        == (some > 0).sum(axis=1).tolist()
    )
    if bits_module.simsimd is not None:
        assert (bits_module._by_simsimd(codes[:1], codes) == truth).all()


def test_who_has_all_words_comes_before_who_has_some(tmp_path: Path) -> None:
    """And a rare word counts more than one that all have."""
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episodes(
            Episode(text=f"the common words {'and more ' * number}", id=str(number)) for number in range(9)
        )
        store.add_episode(Episode(text="the rare word", id="rare"))
        store.add_episode(Episode(text="words that are rare", id="both"))
        assert [hit.id for hit in store.search_episodes_by_text("rare words", 3)][:2] == ["both", "rare"]


def test_both_searches_are_joined_by_rank(store: EpisodeStore) -> None:
    """What both find comes first: 1/61 for each first place."""
    number = 2501
    hits = store.search(f"episode {number}", VECTORS[number], 5)
    assert hits[0].episode.metadata["number"] == number
    assert hits[0].score == pytest.approx(2 / 61)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda s: s.search_episodes_by_vector([0.0] * 24), "all zero"),
        (lambda s: s.search_episodes_by_vector([1.0]), "the query has dimension 1"),
        (lambda s: s.search_episodes_by_vector([1.0] * 24, 0), "top_k is a whole number from 1 to 10000"),
        (lambda s: s.search_episodes_by_text(b"bytes"), "a query is a text, not a bytes"),
        (lambda s: s.search_episodes_by_text("a", where=[1]), "a filter is a mapping"),
        (
            lambda s: s.search_episodes_by_text("a", where={"k": {"like": 1}}),
            "'like' is no operator; one of eq,",
        ),
        (lambda s: s.search_episodes_by_text("a", where={"k": {}}), "nothing is asked of 'k'"),
        (lambda s: s.search_episodes_by_text("a", where={"or": []}), "'or' takes a list of filters"),
        (lambda s: s.search_episodes_by_text("a", where={"k": {"in": 5}}), "'in' takes a list"),
        (lambda s: s.search_episodes_by_text("a", where={"k": {"range": [1]}}), "'range' takes"),
        (lambda s: s.search_episodes_by_text("a", where={"k": {"gt": None}}), "only numbers and texts"),
        (lambda s: s.search_episodes_by_text("a", where={'k"': 1}), "without quotes"),
        (lambda s: s.search_episodes_by_text("a", where={"k\\": 1}), "without quotes"),
        (lambda s: s.search_episodes_by_text("a", where={"k": 10**400}), "a number of 401 digits"),
        (lambda s: s.search_episodes_by_text("a\ud800"), "half of a surrogate pair"),
        (lambda s: s.search_episodes_by_text("a", since_s=1e14), "no moment"),
        (lambda s: s.search_episodes_by_text("a", where={"k": object()}), "nothing that metadata can hold"),
        (lambda s: s.search_episodes_by_text("a", where={"k": float("nan")}), "no number"),
        (lambda s: s.search_episodes_by_text("a", since_s="yesterday"), "no moment"),
        (lambda s: list(s.episodes(where={"not": {"not": 5}})), "a filter is a mapping"),
    ],
)
def test_what_does_not_parse_is_refused(store: EpisodeStore, act: Any, told: str) -> None:
    """It is said what is wrong and what there is instead."""
    with pytest.raises(EpisodeInvalid) as caught:
        act(store)
    assert told in str(caught.value)
