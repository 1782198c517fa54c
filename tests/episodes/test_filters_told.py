"""Filters that most episodes do not meet: what is seen without parsing their metadata changes nothing of what is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.episodes import Episode, EpisodeStore, filters

KEYS = st.sampled_from(["a", "a b", "ключ", "é\n", "1"])
VALUES = st.one_of(
    st.sampled_from(
        [0, -0.0, 1, 1.0, 10, 1e15, 10**15, 10**16, 1e16, -3, -3.0, True, False, None, "1", "x\ny", "é"]
    ),
    st.integers(-20, 20),
    st.floats(-5, 5).map(lambda value: round(value, 1)),
    st.text(max_size=3),
    st.lists(st.integers(0, 2), max_size=2),
)
MAPPINGS = st.dictionaries(KEYS, VALUES, max_size=3)


@settings(max_examples=60, deadline=None)
@given(stored=st.lists(MAPPINGS, min_size=1, max_size=8), asked=MAPPINGS, wraps=st.booleans())
def test_the_same_is_found(
    tmp_path_factory: pytest.TempPathFactory, stored: list[Any], asked: dict[str, Any], wraps: bool
) -> None:
    """As by the parsed JSON alone, whatever keys and values there are and are asked for."""
    where = {key: {"eq": value} for key, value in asked.items()} if wraps else asked
    with EpisodeStore(tmp_path_factory.mktemp("told") / "store", durability="orderly-end") as store:
        store.add_episodes(Episode(metadata=each) for each in stored)
        found = [each.metadata for each in store.episodes(where=where)]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(filters, "_told_by", lambda _: [])
            assert found == [each.metadata for each in store.episodes(where=where)]


def test_what_is_told_stands_in_what_is_stored(tmp_path: Path) -> None:
    """A value that is asked for is looked for as it is written; where there are several ways, it is not."""
    assert filters._told_by({"a": 5, "b": {"eq": "é"}, "c": None, "d": True}) == [
        '"a":5', '"b":"é"', '"c":null', '"d":true',
    ]  # fmt: skip
    assert filters._told_by({"a": 0, "b": 0.5, "c": {"gt": 5}, "or": [{"a": 5}], "d": [5], "e": 10**15}) == []
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episodes([Episode(metadata={"a": 5.0}), Episode(metadata={"a": 51})])
        assert [each.metadata for each in store.episodes(where={"a": 5})] == [{"a": 5.0}]
