"""Runs of a cleanup: once each, in any thread, and nothing kept alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from weakref import ref

import pytest

from memguard.cleanup import CleanupManager, Occasion
from memguard.testing import FakeClock, Sequencer
from tests.support.cleanups import PATIENCE_S, Cache, Calls, gc_disabled, join_handler_threads


@pytest.mark.requirement("T1.3")
def test_runs_are_idempotent(manager: CleanupManager, calls: Calls) -> None:
    """A handler for the end runs once; one that is to be repeated runs each time."""
    manager.register("once", calls("once"))
    manager.register("repeated", calls("repeated"), once=False)
    first, second = manager.run("first"), manager.run("second")
    assert first.order == ("repeated", "once")
    assert second.order == ("repeated",)
    assert calls.names == ["repeated", "once", "repeated"]


@pytest.mark.requirement("T1.3")
def test_many_threads_run_each_handler_once_and_in_order(manager: CleanupManager, calls: Calls) -> None:
    """However many threads clean up at once, each handler runs once and no parent before its child."""
    parent = manager.register("parent", calls("parent"))
    start = threading.Barrier(8)
    inside, release = threading.Event(), threading.Event()

    def child() -> None:
        inside.set()
        release.wait(PATIENCE_S)
        calls.names.append("child")

    manager.register("child", child, parent=parent)

    def clean() -> None:
        start.wait(PATIENCE_S)
        manager.run("thread")

    threads = [threading.Thread(target=clean) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert inside.wait(PATIENCE_S)
    assert calls.names == []
    release.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert calls.names == ["child", "parent"]


def test_repeated_handler_runs_for_each_of_two_runs(manager: CleanupManager) -> None:
    """A second run waits for a repeated handler that is at work, and then calls it again."""
    sequence, entered = Sequencer(), threading.Event()
    runs: list[int] = []

    def handler() -> None:
        entered.set()
        with sequence(len(runs) * 2 + 1):
            runs.append(threading.get_ident())

    handle = manager.register("repeated", handler, once=False)
    first = threading.Thread(target=manager.run, args=("first",))
    second = threading.Thread(target=manager.run, args=("second",))
    first.start()
    assert entered.wait(PATIENCE_S)
    second.start()
    with sequence(0):
        assert runs == []
    with sequence(2):
        assert len(runs) == 1
    first.join(PATIENCE_S)
    second.join(PATIENCE_S)
    handle.unregister()
    assert runs == [first.ident, second.ident]


@pytest.mark.parametrize("deadline_s", [None, PATIENCE_S])
def test_cleanup_from_within_a_handler_is_refused(manager: CleanupManager, deadline_s: float | None) -> None:
    """A handler that asks for cleanup fails with a clear message, in place of a deadlock."""
    manager.register("recursive", lambda: manager.run("again"), deadline_s=deadline_s)
    manager.register("closing", manager.close, deadline_s=deadline_s)
    failures = manager.run("test").failures
    assert len(failures) == 2
    assert all("from within a cleanup handler" in line for line in failures)
    manager.register("still open", bool)


def test_weak_registration_keeps_nothing_alive(manager: CleanupManager) -> None:
    """An owner dies by reference count although its method is a handler, and the handler goes with it."""
    kept, dropped = Cache(0), Cache(0)
    manager.register_weak(kept, "close")
    manager.register_weak(dropped, "close", name="dropped")
    manager.register_sheddable("cache", dropped)
    gone = ref(dropped)
    with gc_disabled():
        del dropped
        assert gone() is None
    assert manager.planned() == ("Cache.close",)
    assert manager.planned(Occasion.EMERGENCY) == ()
    assert manager.run("test").freed_bytes == 7
    assert kept.closed == 1


def test_a_handler_is_let_go_after_its_only_call(manager: CleanupManager) -> None:
    """What a handler holds is free once it has run or was unregistered, even while its handle is kept."""
    caches = [Cache(0), Cache(0)]
    watched = [ref(cache) for cache in caches]
    handles = [manager.register("cache", cache.close) for cache in caches]
    caches.clear()
    with gc_disabled():
        handles[0].unregister()
        manager.run("test")
        assert [each() for each in watched] == [None, None]


def test_a_manager_dies_by_reference_count() -> None:
    """A closed manager is no part of a cycle, whatever it was used for."""
    with gc_disabled():
        manager = CleanupManager(make_event=FakeClock().event)
        manager.register("once", bool)
        manager.start_schedule()
        manager.install_signal_handlers()
        gone = ref(manager)
        manager.close()
        del manager
        assert gone() is None


def test_a_managers_deadline_holds_for_handlers_without_one(calls: Calls) -> None:
    """What is registered without a deadline has the manager's; one given with the handler counts, ``None`` too."""
    manager = CleanupManager(deadline_s=0.02)
    release = threading.Event()
    here = threading.get_ident()
    threads = dict[str, int]()

    def note(name: str) -> Callable[[], object]:
        return lambda: threads.setdefault(name, threading.get_ident())

    manager.register("stuck", lambda: release.wait(PATIENCE_S))
    manager.register("unlimited", note("unlimited"), deadline_s=None)
    manager.register("own", note("own"), deadline_s=PATIENCE_S)
    report = manager.close()
    release.set()
    join_handler_threads()
    assert [each.outcome for each in report.results] == ["ok", "ok", "overran"]
    assert threads["unlimited"] == here
    assert threads["own"] != here
