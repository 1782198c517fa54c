"""State goes out and in by JSON: of a store without its content, of a cache of embeddings; what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memguard.episodes import EmbeddingCache, EpisodeStore, HashingEmbedder
from memguard.errors import EpisodeInvalid, StateMismatch
from tests.support.episodes import episode


@pytest.mark.requirement("E12")
def test_a_stores_state_has_no_content_and_goes_back(tmp_path: Path) -> None:
    """Bounds, budgets and positions come out; another object on the same folder takes them; no text is among them."""
    with EpisodeStore(tmp_path / "store", cache_entries=7, max_text_bytes="1MiB") as store:
        store.add_episodes(episode(number, namespace="a") for number in range(5))
        store.set_namespace("a", budget="1MiB")
        store.set_namespace("b")
        text = json.dumps(store.state_dict())
        store.set_namespace("a", budget=None)
    assert "of many" not in text
    state = json.loads(text)
    assert state["namespaces"]["a"]["last_place"] == 5
    with EpisodeStore(tmp_path / "store") as other:
        assert other.load_state_dict(state).missing == ()
        assert other.state_dict() == state
        assert other.statistics().namespaces[0].budget_bytes == 1 << 20


@pytest.mark.requirement("E12")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"extra": 1}, "has unknown extra"),
        ({"schema": "memguard.episode-store/9"}, "episode-store/9"),
        ({"durability": "orderly-end"}, "durability is orderly-end, here power-loss"),
        ({"embedder": "another"}, "embedder is another, here None"),
        ({"namespaces": {"gone": {}}}, "no namespace 'gone'"),
        ({"namespaces": {"a": {}}}, "'a' lacks dimension, embedder"),
    ],
)
def test_another_stores_state_is_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    """Strictly a state that does not fit is refused, named, and changes nothing; else what fits is taken."""
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episodes(episode(number, namespace="a") for number in range(5))
        before = store.state_dict()
        with pytest.raises(StateMismatch, match=told):
            store.load_state_dict({**before, **change, "max_text_bytes": 5})
        assert store.state_dict() == before
        if "schema" not in change:
            store.load_state_dict({**before, **change, "max_text_bytes": 5}, strict=False)
            assert store.state_dict() == {**before, "max_text_bytes": 5}


@pytest.mark.requirement("E12")
def test_a_store_that_lost_something_is_told_from_one_that_has_not(tmp_path: Path) -> None:
    """A namespace that is not as far as it was, or has another dimension, is a store other than the state's."""
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episodes(episode(number, namespace="a") for number in range(5))
        state = store.state_dict()
        space = state["namespaces"]["a"]
        store.add_episode(episode(6, namespace="a"))
        store.load_state_dict(state)
        for change, told in (
            ({"last_place": 7}, "is at 6, and was at 7"),
            ({"dimension": 5}, "has dimension 24, not 5"),
        ):
            with pytest.raises(StateMismatch, match=told):
                store.load_state_dict({**state, "namespaces": {"a": {**space, **change}}})
        for wrong in ({"max_text_bytes": -1}, {"namespaces": [1]}):
            with pytest.raises(EpisodeInvalid):
                store.load_state_dict({**state, **wrong}, strict=False)


@pytest.mark.requirement("E10", "E12")
def test_the_state_of_a_cache_of_embeddings(tmp_path: Path) -> None:
    """Bounds and counts of both tiers come back; wrong names are refused by name."""
    cache = EmbeddingCache(tmp_path / "cache", most_entries=50, memory_bytes="1KiB")
    cache.put("a", np.ones(4))
    cache.get("a")
    cache.get("b")
    state = json.loads(json.dumps(cache.state_dict()))
    assert (state["misses"], state["memory"]["hits"], state["most_entries"]) == (1, 1, 50)
    other = EmbeddingCache(tmp_path / "cache")
    other.load_state_dict(state)
    assert other.state_dict() == state
    with pytest.raises(StateMismatch, match="lacks memory and has unknown odd"):
        other.load_state_dict({**{name: state[name] for name in state if name != "memory"}, "odd": 1})
    with pytest.raises(ValueError, match="most_bytes"):
        other.load_state_dict({**state, "most_bytes": None})
    assert other.state_dict() == state


@pytest.mark.requirement("E12")
def test_the_embedder_is_part_of_the_state(tmp_path: Path) -> None:
    """A state of a store with an embedder goes back into one with the same, and into no other."""
    with EpisodeStore(tmp_path / "store", embedder=HashingEmbedder(8)) as store:
        state = store.state_dict()
        store.load_state_dict(state)
    with (
        EpisodeStore(tmp_path / "store") as bare,
        pytest.raises(StateMismatch, match="embedder is .*, here None"),
    ):
        bare.load_state_dict(state)
