"""Ids and canonical metadata, made in bulk, are what they are when they are made one by one."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.episodes import ids as ids_module
from memguard.episodes.ids import new_ids
from memguard.episodes.preparing import _metadata

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
    st.characters(exclude_categories=["Cs"])
)  # fmt: skip
_NESTED = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.just("k"), inner), max_leaves=4
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), _SCALARS | _NESTED, max_size=4))
def test_metadata_are_canonical_json(metadata: dict[str, Any]) -> None:
    """Flat or nested, the text is JSON with sorted keys and no spaces, and means the same."""
    told, stored = _metadata(metadata, 1 << 20)
    assert told == json.dumps(
        metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
    )
    assert stored == told.encode()
    assert json.loads(told) == metadata


@pytest.mark.parametrize("count", [0, 1, 2, 9000])
def test_ids_are_of_version_seven(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a UUID of version 7 and variant RFC 9562, later than the one before, also beyond a millisecond's counts."""
    monkeypatch.setattr(ids_module._clock, "tick", (1_800_000_000_000 << 12) + 4000)
    made = new_ids(count)
    assert len(set(made)) == count
    assert made == sorted(made)
    for each in map(uuid.UUID, made):
        assert (each.version, each.variant) == (7, uuid.RFC_4122)
    if made:
        assert new_ids(1)[0] > made[-1]
