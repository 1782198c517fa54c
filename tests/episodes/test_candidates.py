"""Whom a search by vector looks at twice: as many of those that can be found as if there were no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.episodes import Episode, EpisodeStore
from memguard.episodes import nearest as nearest_module
from memguard.episodes import search as search_module
from memguard.episodes.living import Living, Places
from memguard.episodes.namespaces import Namespace, find_namespace
from memguard.episodes.search import VectorSearch
from tests.support.episodes import vectors

DIMENSION = 32


@pytest.fixture
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search a small store as a large one is searched, by bits first: 30 candidates, or 3 in 100."""
    monkeypatch.setattr(nearest_module, "_LITTLE_BYTES", 0)
    monkeypatch.setattr(nearest_module, "_MEASURED_WITH", DIMENSION)
    monkeypatch.setattr(nearest_module, "_FEWEST", 30)
    monkeypatch.setattr(nearest_module, "_SHARE", 0.03)


def found(store: EpisodeStore, query: Any, **conditions: Any) -> list[tuple[str, float]]:
    return [
        (hit.episode.text, round(hit.score, 6))
        for hit in store.search_episodes_by_vector(query, 10, **conditions)
    ]


@pytest.mark.requirement("E3")
@pytest.mark.usefixtures("few_candidates")
@pytest.mark.parametrize("of", ["updated", "deleted", "without a vector"])
def test_who_cannot_be_found_takes_nobodys_place(tmp_path: Path, of: str) -> None:
    """A store finds the same whether or not a thousand versions that cannot be found lie around the query."""
    towards = vectors(1, seed=3, dimension=DIMENSION)[0]
    near = vectors(1000, seed=4, dimension=DIMENSION) + 0.6 * towards
    some = vectors(900, seed=5, dimension=DIMENSION) + 0.3 * towards
    queries = [towards, -np.abs(towards), *(vectors(6, seed=6, dimension=DIMENSION) + towards)]
    live = [Episode(text=str(number), vector=vector) for number, vector in enumerate(some)]
    with EpisodeStore(tmp_path / "alone") as alone:
        alone.add_episodes(live)
        wanted = [found(alone, query) for query in queries]
    with EpisodeStore(tmp_path / "store") as store:
        if of == "without a vector":
            # Their bits are those of zeros, as near as any to a query of few values above it.
            store.add_episodes([Episode(text="bare")] * 1000)
        else:
            ids = store.add_episodes(Episode(text="near", vector=vector) for vector in near)
            for each in ids:
                store.delete(each) if of == "deleted" else store.update(each, vector=None)
        store.add_episodes(live)
        assert [found(store, query) for query in queries] == wanted


@pytest.mark.usefixtures("few_candidates")
@pytest.mark.parametrize("share", [0.9, 0.4, 0.02])
def test_a_condition_costs_no_recall(tmp_path: Path, share: float) -> None:
    """Of those that meet it at least as good are found as in a store that has no others."""
    draw = np.random.default_rng(6)
    made = [
        Episode(text=str(number), vector=vector, metadata={"meets": bool(draw.random() < share)})
        for number, vector in enumerate(vectors(2000, seed=7, dimension=DIMENSION))
    ]
    with EpisodeStore(tmp_path / "alone") as alone, EpisodeStore(tmp_path / "store") as store:
        store.add_episodes(made)
        alone.add_episodes(each for each in made if each.metadata["meets"])
        for query in vectors(5, seed=8, dimension=DIMENSION):
            some = found(store, query, where={"meets": True})
            pairs = zip(some, found(alone, query), strict=True)
            assert all(mine[1] >= other[1] for mine, other in pairs)


@pytest.mark.usefixtures("few_candidates")
def test_metadata_that_go_in_a_circle_are_guessed_rightly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of seven, in turn, is searched by candidates whatever the turn, and every row of none is read."""
    asked: list[object] = []
    known = VectorSearch._meeting

    def watched(self: VectorSearch, places: list[int] | None) -> Iterator[int]:
        asked.append(places)
        return known(self, places)

    monkeypatch.setattr(VectorSearch, "_meeting", watched)
    monkeypatch.setattr(search_module, "_SAMPLE", 64)
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episodes(
            Episode(text=str(number), vector=vector, metadata={"group": number % 7})
            for number, vector in enumerate(vectors(64 * 7 * 4, seed=9, dimension=DIMENSION))
        )
        query = vectors(1, seed=10, dimension=DIMENSION)[0]
        for group in range(7):
            hits = store.search_episodes_by_vector(query, 5, where={"group": group})
            assert {hit.episode.metadata["group"] for hit in hits} == {group}
    assert len(asked) >= 14
    assert sum(each is None for each in asked) <= 2  # where a sample misled


def truth(connection: apsw.Connection) -> set[int]:
    rows = connection.execute("SELECT row FROM episode WHERE is_live AND has_vector")
    return {row - space(connection).row(0) for (row,) in rows}


def space(connection: apsw.Connection) -> Namespace:
    found = find_namespace(connection, "default")
    assert found is not None
    return found


ACTS = st.lists(
    st.sampled_from(["add", "add bare", "update", "bare", "delete", "purge", "look"]), max_size=25
)


@settings(max_examples=25, deadline=None)
@given(acts=ACTS)
def test_the_places_follow_the_rows(tmp_path_factory: pytest.TempPathFactory, acts: list[str]) -> None:
    """Whatever is added, updated, deleted and purged, and from whatever moment one looks."""
    living, kept = Living(), []
    with EpisodeStore(tmp_path_factory.mktemp("places") / "store", durability="orderly-end") as store:
        there = store.add_episodes([Episode(vector=[1.0, 2.0]), Episode(vector=[2.0, 1.0]), Episode()])
        for number, act in enumerate(acts):
            if act.startswith("add"):
                vector = None if act == "add bare" else [number + 1.0, 1.0]
                there.append(store.add_episode(Episode(text=str(number), vector=vector)))
            elif act == "look":
                kept.append(apsw.Connection(str(store.folder / "episodes.sqlite")))
                kept[-1].execute("BEGIN")
                assert set(shown(living, kept[-1])) == truth(kept[-1])
            elif there:
                one = there[number % len(there)]
                if act in ("delete", "purge"):
                    store.delete(one, purge=act == "purge")
                    there.remove(one)
                else:
                    store.update(one, vector=None if act == "bare" else [1.0, number + 2.0])
        with store._database.reading() as now:
            assert set(shown(living, now)) == truth(now)
        for before in kept:  # as they saw the store then
            assert set(shown(living, before)) == truth(before)
            assert set(shown(Living(), before)) == truth(before)
            before.close()


def shown(living: Living, connection: apsw.Connection) -> list[int]:
    places = living.places(connection, space(connection)).upto(space(connection).last_place)
    return [int(place) for place in places]


def test_a_look_from_before_all_that_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read off the rows."""
    monkeypatch.setattr("memguard.episodes.living._MOST_ENDS", 3)
    living = Living()
    with EpisodeStore(tmp_path / "store") as store:
        ids = store.add_episodes(Episode(vector=[1.0, number + 1.0]) for number in range(9))
        before = apsw.Connection(str(tmp_path / "store" / "episodes.sqlite"))
        before.execute("BEGIN")
        assert shown(living, before) == list(range(1, 10))
        for each in ids[:6]:
            store.delete(each)
        with store._database.reading() as now:
            assert shown(living, now) == [7, 8, 9]
        assert shown(living, before) == list(range(1, 10))
        before.close()


@given(places=st.sets(st.integers(1, 70)), first=st.integers(1, 70), count=st.integers(1, 40))
def test_a_mask_tells_any_stretch(places: set[int], first: int, count: int) -> None:
    """Wherever it begins and ends, also behind the last place."""
    mask = Places.of(np.asarray(sorted(places), np.int64), 70)
    assert mask.count == len(places)
    told = mask.among(first, count)
    assert told.tolist() == [place in places for place in range(first, first + count)]
