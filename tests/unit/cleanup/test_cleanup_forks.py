"""A forked process cleans up what is its own."""

from __future__ import annotations

import threading

import pytest

from memguard.cleanup import CleanupManager
from tests.support.cleanups import PATIENCE_S, Calls
from tests.support.forks import FORKS_BESIDE_THREADS, in_child


@pytest.mark.requirement("T1.3")
def test_forked_child_cleans_up_its_own_only(manager: CleanupManager, calls: Calls) -> None:
    """A child starts without its parent's handlers, even when it was forked in the middle of a cleanup."""
    parents = manager.register("parent's", calls("parent's"))

    def child_of_an_idle_parent() -> bool:
        inherited = manager.run("child").results
        manager.register("child's", calls("child's"))
        return inherited == () and not parents.unregister() and manager.run("child").order == ("child's",)

    assert in_child(child_of_an_idle_parent)
    verdicts: list[bool] = []

    def forks() -> None:
        verdicts.append(in_child(lambda: manager.run("child").results == ()))

    manager.register("forks", forks)
    assert manager.run("test").order == ("forks", "parent's")
    assert verdicts == [True]
    assert calls.names == ["parent's"]


@FORKS_BESIDE_THREADS
def test_child_forked_by_another_thread_is_not_locked(manager: CleanupManager) -> None:
    """A lock that another thread held at the fork does not lock the child's manager for ever."""
    inside, release = threading.Event(), threading.Event()

    def holder() -> None:
        with manager._table._lock:
            inside.set()
            release.wait(PATIENCE_S)

    thread = threading.Thread(target=holder)
    thread.start()
    assert inside.wait(PATIENCE_S)
    try:
        assert in_child(lambda: manager.register("child's", bool).name == "child's")
    finally:
        release.set()
        thread.join(PATIENCE_S)
