"""The cache of the project: bounds by bytes and entries, the longest unused out first, tenants with shares, counts."""

from __future__ import annotations

import json
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import StateMismatch
from memguard.memory import ByteCache
from tests.support.forks import FORKS_BESIDE_THREADS, held_by_another, in_child

KEYS = st.integers(0, 9)
STEPS = st.lists(st.tuples(st.sampled_from(["get", "put", "drop"]), KEYS, st.integers(0, 60)), max_size=60)


@pytest.mark.requirement("E2", "R7.4")
@given(steps=STEPS, most_entries=st.integers(0, 5), most_bytes=st.integers(0, 100))
def test_it_does_what_a_plain_model_does(
    steps: list[tuple[str, int, int]], most_entries: int, most_bytes: int
) -> None:
    """Of one tenant the longest unused goes first, a hit counts as a use, and neither bound is ever passed."""
    cache: ByteCache[int, int] = ByteCache(most_entries, most_bytes)
    model: OrderedDict[int, int] = OrderedDict()
    hits = asked = 0
    for what, key, weight in steps:
        if what == "get":
            asked += 1
            hits += key in model
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        else:
            model.pop(key, None)
            if what == "drop":
                cache.drop(key)
                continue
            cache.put(key, weight, weight)
            if weight <= most_bytes and most_entries:
                model[key] = weight
            while len(model) > most_entries or sum(model.values()) > most_bytes:
                model.popitem(last=False)
    told = cache.statistics()
    assert (told.entries, told.held_bytes) == (len(model), sum(model.values()))
    assert (told.hits, told.hits + told.misses) == (hits, asked)
    assert told.hit_rate == (hits / asked if asked else None)


@pytest.mark.requirement("E13")
@given(
    puts=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 500), st.integers(1, 10)), max_size=300)
)
def test_nobody_loses_within_his_share(puts: list[tuple[str, int, int]]) -> None:
    """Who has at most a third of entries and of bytes, less one value, loses nothing to two others, however they rage."""
    cache: ByteCache[tuple[str, int], int] = ByteCache(30, 300)
    for number in range(5):
        cache.put(("quiet", number), number, 15, "quiet")
    # Four tenants: a quarter is 7 entries and 75 bytes.
    for tenant, key, weight in puts:
        cache.put((tenant, key), key, weight, tenant)
        told = cache.statistics()
        assert told.entries <= 30
        assert told.held_bytes <= 300
    assert [cache.get(("quiet", number)) for number in range(5)] == list(range(5))


def test_a_lone_tenant_has_all_of_it() -> None:
    """What others do not want is used: a tenant alone fills the cache, and gives way when another comes."""
    cache: ByteCache[int, int] = ByteCache(10, 1000)
    for number in range(20):
        cache.put(number, number, 10, "first")
    assert cache.statistics().tenants == {"first": 100}
    for number in range(100, 120):
        cache.put(number, number, 10, "second")
    assert cache.statistics().tenants == {"first": 50, "second": 50}


def test_what_is_shed_is_counted_and_a_pause_keeps_it_empty() -> None:
    """A cache that gave back says how much, takes nothing while it is paused, and goes on afterwards."""
    cache: ByteCache[int, int] = ByteCache(10, 1000)
    cache.put(1, 1, 400)
    assert (cache.shed(), cache.statistics().shed_bytes, len(cache)) == (400, 400, 0)
    cache.pause()
    cache.put(1, 1, 400)
    assert len(cache) == 0
    cache.pause(paused=False)
    cache.put(1, 1, 400)
    assert cache.get(1) == 1


def test_smaller_bounds_let_go_of_what_is_beyond() -> None:
    """After `resize` both new bounds hold, and what was used last is what stayed."""
    cache: ByteCache[int, int] = ByteCache(10, 1000)
    for number in range(10):
        cache.put(number, number, 10)
    cache.resize(3, "1KiB")
    assert [cache.get(number) for number in (6, 7, 8, 9)] == [None, 7, 8, 9]
    with pytest.raises(ValueError, match="negative"):
        cache.resize(-1, 10)


@pytest.mark.requirement("E12")
def test_its_state_goes_through_json() -> None:
    """Bounds and counts come back from JSON; wrong names are refused by name, or with strict=False left out."""
    cache: ByteCache[int, int] = ByteCache(3, 100)
    cache.put(1, 1, 10)
    cache.get(1)
    cache.get(2)
    state = json.loads(json.dumps(cache.state_dict()))
    other: ByteCache[int, int] = ByteCache(9, 9)
    assert other.load_state_dict(state).missing == ()
    assert other.state_dict() == state
    odd = {**state, "colour": "red"}
    del odd["hits"]
    with pytest.raises(StateMismatch, match=r"lacks hits and has unknown colour") as caught:
        other.load_state_dict(odd)
    assert (caught.value.missing, caught.value.unexpected) == (("hits",), ("colour",))
    assert other.state_dict() == state
    assert other.load_state_dict(odd, strict=False).unexpected == ("colour",)
    with pytest.raises(StateMismatch, match=r"memguard\.other/1"):
        other.load_state_dict({"schema": "memguard.other/1"}, strict=False)
    with pytest.raises(ValueError, match="most_bytes"):
        other.load_state_dict({**state, "most_bytes": "all"})


@FORKS_BESIDE_THREADS
def test_a_copy_is_not_kept_by_a_lock_of_its_parent() -> None:
    """A forked copy goes on although a thread of its parent held the cache's lock at the fork."""
    cache: ByteCache[int, int] = ByteCache(3, 100)
    cache.put(1, 7, 10)

    def look() -> bool:
        cache.renew_lock()
        return cache.get(1) == 7

    with held_by_another(cache._lock):
        assert in_child(look)
