"""Who is cleaned up when: children before parents, and what cannot be registered."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.cleanup import CleanupHandle, CleanupManager
from tests.support.cleanups import Cache, Calls


@pytest.mark.requirement("T1.3")
def test_children_run_before_parents_and_late_siblings_first(manager: CleanupManager, calls: Calls) -> None:
    """A family is cleaned up from its youngest leaf to its root, the latest family first."""
    store = manager.register("store", calls("store"))
    cache = manager.register("cache", calls("cache"))
    manager.register("store file", calls("store file"), parent=store)
    pool = manager.register("cache pool", calls("cache pool"), parent=cache)
    manager.register("cache index", calls("cache index"), parent=cache)
    manager.register("pool block", calls("pool block"), parent=pool)
    assert manager.planned() == ("cache index", "pool block", "cache pool", "cache", "store file", "store")
    report = manager.run("test")
    assert tuple(calls.names) == report.order
    assert report.order == ("cache index", "pool block", "cache pool", "cache", "store file", "store")
    assert report.ok


@given(st.lists(st.integers(min_value=0, max_value=30), max_size=25))
def test_any_hierarchy_is_ordered(choices: list[int]) -> None:
    """In every forest, each child comes before its parent and each later sibling before the earlier ones."""
    with CleanupManager() as manager:
        handles: list[CleanupHandle] = []
        parents: list[int | None] = []
        for number, choice in enumerate(choices):
            parent = choice if choice < number else None
            above = None if parent is None else handles[parent]
            handles.append(manager.register(str(number), bool, parent=above))
            parents.append(parent)
        place = {int(name): at for at, name in enumerate(manager.planned())}
    assert sorted(place) == list(range(len(choices)))
    for child, parent in enumerate(parents):
        assert parent is None or place[child] < place[parent]
        assert all(place[child] < place[older] for older in range(child) if parents[older] == parent)


def test_orphans_belong_to_their_grandparent(manager: CleanupManager, calls: Calls) -> None:
    """When a handler is taken out, its children still run before the handler above it."""
    top = manager.register("top", calls("top"))
    middle = manager.register("middle", calls("middle"), parent=top)
    manager.register("leaf", calls("leaf"), parent=middle)
    manager.register("top's latest", calls("top's latest"), parent=top)
    assert middle.unregister()
    assert not middle.unregister()
    assert manager.run("test").order == ("top's latest", "leaf", "top")


def test_impossible_registrations_are_refused(manager: CleanupManager) -> None:
    """Whatever can never work is told at registration, not at the end of the process."""
    gone = manager.register("gone", bool)
    gone.unregister()
    shed = manager.register_sheddable("cache", Cache(0))
    with CleanupManager() as other:
        stranger = other.register("stranger", bool)
        for parent in (gone, stranger, shed):
            with pytest.raises(ValueError, match="child"):
                manager.register("child", bool, parent=parent)
    with pytest.raises(ValueError, match="more than 0"):
        manager.register("late", bool, deadline_s=0)
    with pytest.raises(ValueError, match="at least one occasion"):
        manager.register("never", bool, on=())
    with pytest.raises(ValueError, match="holiday"):
        manager.register("never", bool, on=("holiday",))
    with pytest.raises(TypeError, match="coroutine"):
        manager.register("async", asyncio.sleep)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be"):
        manager.register("text", "text")  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        manager.register_weak(Cache(0), "no_such_method")
    with pytest.raises(TypeError):
        manager.register_weak({}, "clear")


def test_handle_guards_a_block(manager: CleanupManager, calls: Calls) -> None:
    """Within its block a handler is registered; at the end of it, it is taken out without being called."""
    with manager.register("guard", calls("guard")) as handle:
        assert manager.planned() == ("guard",)
        assert handle.name == "guard"
    assert manager.planned() == ()
    manager.run("test")
    assert calls.names == []
