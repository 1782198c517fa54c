"""Filters over metadata mean what a few lines of plain Python would."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.episodes import Episode, EpisodeStore

VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, -1.5])
    | st.sampled_from(["", "a", "ab"])
)


STORED = VALUES | st.lists(VALUES, max_size=3)


OPERATORS = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne"]), STORED),
    st.tuples(st.just("in"), st.lists(VALUES, max_size=3)),
    st.tuples(st.sampled_from(["gt", "gte", "lt", "lte"]), st.integers(-3, 3) | st.sampled_from(["", "a"])),
    st.tuples(st.just("contains"), VALUES),
    st.tuples(st.just("exists"), st.booleans()),
)


FILTERS = st.recursive(
    st.builds(lambda key, asked: {key: {asked[0]: asked[1]}}, st.sampled_from("xy"), OPERATORS),
    lambda inner: st.one_of(
        st.builds(lambda name, each: {name: each}, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda each: {"not": each}, inner),
    ),
    max_leaves=4,
)  # fmt: skip


MISSING = object()


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same as JSON has them: true is not 1, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return [(type(each) is bool, each) for each in one] == [(type(each) is bool, each) for each in other]
    return (type(one) is type(other) and one == other) or (
        isinstance(one, int | float) and isinstance(other, int | float) and one == other
    )


def holds(asked: Any, metadata: dict[str, Any]) -> bool:  # noqa: PLR0911 - a case each
    """Say in plain Python what a filter means."""
    ((key, what),) = asked.items()
    if key in ("and", "or"):
        return (all if key == "and" else any)(holds(each, metadata) for each in what)
    if key == "not":
        return not holds(what, metadata)
    ((name, value),) = what.items()
    stored = metadata.get(key, MISSING)
    if name == "exists":
        return (stored is not MISSING) is value
    if name in ("eq", "ne"):
        return same(stored, value) is (name == "eq")
    if name == "in":
        return any(same(stored, each) for each in value)
    if name == "contains":
        inside = isinstance(stored, list) and any(same(each, value) for each in stored)
        return inside or (isinstance(stored, str) and isinstance(value, str) and value in stored)
    kinds = str if isinstance(value, str) else (int, float)
    if isinstance(stored, bool) or not isinstance(stored, kinds):
        return False
    compared = {"gt": stored > value, "gte": stored >= value, "lt": stored < value, "lte": stored <= value}
    return compared[name]


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EpisodeStore]:
    draw = np.random.default_rng(4)
    pool = [None, True, False, -2, 0, 1, 2.0, 0.5, -1.5, "", "a", "ab", [], [1], ["a", None], [True, 0.5]]
    with EpisodeStore(tmp_path_factory.mktemp("filtered") / "store") as opened:
        opened.add_episodes(
            Episode(metadata={key: pool[draw.integers(len(pool))] for key in "xy" if draw.random() < 0.8})
            for _ in range(150)
        )
        yield opened


@given(asked=FILTERS)
def test_a_filter_means_what_plain_python_would(filtered: EpisodeStore, asked: Any) -> None:
    """Whatever it is made of, a filter lets the same episodes pass as a few lines of Python."""
    passed = {each.id for each in filtered.episodes(where=asked)}
    assert passed == {each.id for each in filtered.episodes() if holds(asked, dict(each.metadata))}
