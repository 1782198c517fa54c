"""Cleanups by the clock, which the test winds."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from memguard.cleanup import CleanupManager
from memguard.events import Event, EventBus
from memguard.testing import FakeClock
from tests.support.cleanups import PATIENCE_S, Calls, join_handler_threads


def test_schedule_runs_every_five_minutes_and_stops_at_once(calls: Calls) -> None:
    """Scheduled handlers run once each 300 s on one thread, which is gone right after closing."""
    clock = FakeClock()
    manager = CleanupManager(make_event=clock.event)
    manager.register("scheduled", calls("scheduled"), on=("scheduled",))
    manager.register("end", calls("end"))
    manager.start_schedule()
    with pytest.raises(RuntimeError, match="already"):
        manager.start_schedule()
    clock.wait_for_waiters()
    clock.advance(299)
    clock.wait_for_waiters()
    assert calls.names == []
    for count in (1, 2, 3):
        clock.advance(300 if count > 1 else 1)
        wait_until(lambda count=count: len(calls.names) == count)  # type: ignore[misc]
        clock.wait_for_waiters()
    manager.close()
    assert calls.names == ["scheduled"] * 3 + ["end"]
    assert "memguard-cleanup-schedule" not in {thread.name for thread in threading.enumerate()}


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE_S * 1000)):
        if condition():
            return
        threading.Event().wait(0.001)
    raise TimeoutError


def test_schedule_outlives_an_error() -> None:
    """An error outside of the handlers is told like that of any thread, and the schedule goes on."""
    clock, bus, told = FakeClock(), EventBus(), list[object]()
    heard = threading.Semaphore(0)

    def subscriber(event: Event) -> None:
        heard.release()
        raise RuntimeError("deaf")

    bus.subscribe(subscriber)
    before, threading.excepthook = threading.excepthook, lambda args: told.append(args.exc_value)
    try:
        manager = CleanupManager(make_event=clock.event, events=bus)
        manager.register("scheduled", bool, on=("scheduled",))
        manager.start_schedule(interval_s=10)
        for _ in range(2):
            clock.wait_for_waiters()
            clock.advance(10)
            assert heard.acquire(timeout=PATIENCE_S)
        clock.wait_for_waiters()
        manager.close()
    finally:
        threading.excepthook = before
    assert [type(error) for error in told] == [ExceptionGroup, ExceptionGroup]


def test_schedule_stuck_in_a_handler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing does not hang on a scheduled handler that never ends; the report names it as left behind."""
    monkeypatch.setattr("memguard.cleanup.schedule._JOIN_S", 0.02)
    clock, inside, release = FakeClock(), threading.Event(), threading.Event()
    manager = CleanupManager(make_event=clock.event)

    def stuck() -> None:
        inside.set()
        release.wait(PATIENCE_S)

    manager.register("stuck", stuck, on=("scheduled",))
    manager.start_schedule()
    clock.wait_for_waiters()
    clock.advance(300)
    assert inside.wait(PATIENCE_S)
    failures = manager.close().failures
    assert failures == ("schedule overran: its thread is still in a handler and was left behind",)
    release.set()
    join_handler_threads()


def test_schedule_needs_an_interval(manager: CleanupManager) -> None:
    """An interval of nothing would be a busy loop."""
    with pytest.raises(ValueError, match="more than 0 s"):
        manager.start_schedule(0)


def test_a_schedule_begins_with_its_first_handler(calls: Calls) -> None:
    """With an interval of its own a manager keeps the schedule by itself; without scheduled handlers it has no thread."""
    clock = FakeClock()
    manager = CleanupManager(make_event=clock.event, interval_s=7)
    manager.register("end", calls("end"))
    names = {thread.name for thread in threading.enumerate()}
    assert "memguard-cleanup-schedule" not in names
    for name in ("one", "two"):
        manager.register(name, calls(name), on=("scheduled",))
    clock.wait_for_waiters()
    clock.advance(7)
    wait_until(lambda: len(calls.names) == 2)
    with pytest.raises(RuntimeError, match="has a schedule already"):
        manager.start_schedule(1)
    manager.close()
    assert calls.names == ["two", "one", "end"]
