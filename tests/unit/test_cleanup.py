"""The cleanup manager: order, errors, deadlines, once, weak owners, emergency, schedule, signals, forks."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.cleanup import CleanupHandle, CleanupManager, HandlerOutcome, Occasion
from memguard.errors import CleanupFailed
from memguard.events import Event, EventBus
from memguard.testing import FakeClock, Sequencer

PATIENCE_S = 10.0


@pytest.fixture
def manager() -> Iterator[CleanupManager]:
    made = CleanupManager()
    yield made
    made.close()


class Calls:
    """Notes who was called, in which order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str, returned: object = None) -> Callable[[], object]:
        def handler() -> object:
            self.names.append(name)
            return returned

        return handler


@pytest.fixture
def calls() -> Calls:
    return Calls()


def fail() -> None:
    raise ValueError("boom")


def outcomes(manager: CleanupManager) -> list[str]:
    assert manager.last_report is not None
    return [result.outcome for result in manager.last_report.results]


# The hierarchy


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


# Errors


@pytest.mark.requirement("T1.3")
def test_one_failure_keeps_nobody_from_running(manager: CleanupManager, calls: Calls) -> None:
    """Each error is collected with its place, and every other handler runs all the same."""
    parent = manager.register("parent", calls("parent", 5))
    manager.register("broken", fail, parent=parent)
    manager.register("last", calls("last", True))
    report = manager.run("test")
    assert calls.names == ["last", "parent"]
    last, broken, above = report.results
    assert (broken.outcome, above.outcome) == (HandlerOutcome.FAILED, HandlerOutcome.OK)
    assert broken.detail.startswith("ValueError: boom (in fail, test_cleanup.py:")
    assert (last.freed_bytes, above.freed_bytes, report.freed_bytes) == (None, 5, 5)
    assert not report.ok
    with pytest.raises(CleanupFailed, match="1 of 3") as caught:
        report.raise_if_failed()
    assert caught.value.failures == report.failures
    assert report.failures[0].startswith("broken failed: ValueError: boom")


def test_an_error_that_cannot_be_shown_is_collected_too(manager: CleanupManager) -> None:
    """An exception whose own text raises does not break the run."""

    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def handler() -> None:
        raise UnspeakableError

    manager.register("broken", handler)
    assert "Unspeakable" in manager.run("test").failures[0]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("deadline_s", [None, PATIENCE_S])
def test_interrupts_are_raised_after_the_rest_ran(
    manager: CleanupManager, calls: Calls, kind: type[BaseException], deadline_s: float | None
) -> None:
    """Ctrl-C or exit within a handler, in whichever thread, takes effect after all had their turn."""

    def interrupted() -> None:
        raise kind

    manager.register("first registered", calls("rest"))
    manager.register("interrupted", interrupted, deadline_s=deadline_s)
    with pytest.raises(kind):
        manager.run("test")
    assert calls.names == ["rest"]
    assert outcomes(manager) == ["failed", "ok"]


def test_ctrl_c_while_a_handler_is_waited_for(manager: CleanupManager, calls: Calls) -> None:
    """A real SIGINT during the wait lets no parent run before its child, and is raised in the end."""
    parent = manager.register("parent", calls("parent"))

    def child() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        calls.names.append("child")

    manager.register("child", child, parent=parent, deadline_s=PATIENCE_S)
    with pytest.raises(KeyboardInterrupt):
        manager.run("test")
    assert calls.names == ["child", "parent"]
    assert outcomes(manager) == ["ok", "ok"]


def test_what_failed_is_not_kept_alive(manager: CleanupManager) -> None:
    """The error of a handler holds nothing: neither report nor manager keep its variables."""
    held: list[ref[Cache]] = []

    def handler() -> None:
        big = Cache(1)
        held.append(ref(big))
        raise ValueError("boom")

    manager.register("broken", handler, on=Occasion, once=False)
    report = manager.run("test")
    assert held[0]() is None
    assert not report.ok


# Deadlines


@pytest.mark.requirement("T1.3")
def test_overrun_is_told_and_the_rest_runs(manager: CleanupManager, calls: Calls) -> None:
    """A handler past its deadline is reported and counted until it ends; its parent runs then."""
    release, ended = threading.Event(), threading.Event()

    def stuck() -> None:
        release.wait(PATIENCE_S)
        ended.set()

    parent = manager.register("parent", calls("parent"))
    manager.register("stuck", stuck, parent=parent, deadline_s=0.02)
    report = manager.run("test")
    assert calls.names == ["parent"]
    assert [result.outcome for result in report.results] == ["overran", "ok"]
    assert report.results[0].duration_s >= 0.02
    assert "0.02 s allowed" in report.results[0].detail
    assert list(manager.overrunning) == ["stuck"]
    again = manager.run("again")
    assert [str(result) for result in again.results] == ["stuck skipped: an earlier call is still at it"]
    release.set()
    assert ended.wait(PATIENCE_S)
    join_handler_threads()
    assert list(manager.overrunning) == []
    assert manager.run("after").results == ()


def join_handler_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("memguard-cleanup-"):
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def test_deadline_in_time_leaves_no_thread(manager: CleanupManager) -> None:
    """A handler that keeps its deadline runs in another thread, which is gone afterwards."""
    seen: list[int] = []
    manager.register("quick", lambda: seen.append(threading.get_ident()), deadline_s=PATIENCE_S)
    manager.register("here", lambda: seen.append(threading.get_ident()))
    assert manager.run("test").ok
    join_handler_threads()
    assert seen[0] == threading.get_ident()
    assert seen[1] != seen[0]


@contextmanager
def no_new_threads() -> Iterator[None]:
    # A stack larger than the address space: the kernel refuses each new thread.
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


def test_without_threads_handlers_still_run(manager: CleanupManager, calls: Calls) -> None:
    """When the machine refuses a thread, a handler runs in place and its deadline is told afterwards."""
    quiet = threading.Event()
    manager.register("late", lambda: quiet.wait(0.03), deadline_s=0.01)
    manager.register("quick", calls("quick"), deadline_s=PATIENCE_S)
    with no_new_threads():
        with pytest.raises(RuntimeError, match="new thread"):
            threading.Thread(target=bool).start()
        report = manager.run("test")
    assert calls.names == ["quick"]
    assert [result.outcome for result in report.results] == ["ok", "overran"]
    assert "done, but late" in report.results[1].detail
    assert manager.overrunning == ()


# Once, and from many threads


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


# Weak owners


class Cache:
    """Gives back what it has."""

    def __init__(self, count_bytes: int) -> None:
        self.count_bytes = count_bytes
        self.asked: list[int] = []
        self.closed = 0

    def shed(self, target_bytes: int) -> int:
        self.asked.append(target_bytes)
        given = min(target_bytes, self.count_bytes)
        self.count_bytes -= given
        return given

    def close(self) -> int:
        self.closed += 1
        return 7


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


@contextmanager
def gc_disabled() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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


# Emergency


@pytest.mark.requirement("T5.2", "T2.3")
def test_emergency_goes_by_stages(calls: Calls) -> None:
    """Caches give back first, then other emergency handlers run, then garbage is collected exactly once."""
    collections: list[str] = []

    def watch(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collections.append("collected")
            calls.names.append("collection")

    readings = iter([1000, 400])
    with CleanupManager(read_private_bytes=lambda: next(readings)) as manager, gc_disabled():
        manager.register("for the end", calls("for the end"))
        manager.register("old emergency", calls("old emergency"), on=("emergency",))
        older, newer = Cache(100), Cache(50)
        manager.register_sheddable("older", older)
        manager.register_sheddable("newer", newer)
        manager.register("new emergency", calls("new emergency", 3), on=("emergency", "normal"))
        gc.callbacks.append(watch)
        try:
            report = manager.run_emergency("short of memory")
            assert collections == ["collected"]
            manager.run("normal")
            assert collections == ["collected"]
        finally:
            gc.callbacks.remove(watch)
    assert report.order == ("newer", "older", "new emergency", "old emergency", "garbage collection")
    assert calls.names[:3] == ["new emergency", "old emergency", "collection"]
    assert (report.measured_bytes, report.freed_bytes) == (600, 600)
    assert [result.freed_bytes for result in report.results] == [50, 100, 3, None, None]


def test_emergency_asks_for_what_is_missing_only() -> None:
    """Each cache is asked for what those before it left over, and is left alone once the target is met."""
    with CleanupManager(read_private_bytes=lambda: 0) as manager:
        caches = [Cache(100) for _ in range(3)]
        for number, cache in enumerate(caches):
            manager.register_sheddable(str(number), cache)
        report = manager.run_emergency(target_bytes=150)
    assert [cache.asked for cache in caches] == [[], [50], [150]]
    assert [result.outcome for result in report.results] == ["ok", "ok", "skipped", "ok"]


def test_emergency_is_repeated_and_survives_a_broken_cache() -> None:
    """A cache that fails is reported, the rest is freed, and the next emergency asks all of them again."""

    class Broken(Cache):
        def shed(self, target_bytes: int) -> int:
            raise RuntimeError("torn")

    def unreadable() -> int:
        raise PermissionError

    with CleanupManager(read_private_bytes=unreadable) as manager:
        broken, whole = Broken(1), Cache(5)
        manager.register_sheddable("whole", whole)
        manager.register_sheddable("broken", broken)
        reports = [manager.run_emergency(), manager.run_emergency()]
    assert [report.freed_bytes for report in reports] == [5, 0]
    assert all(report.measured_bytes is None and len(report.failures) == 1 for report in reports)


# Events, blocks, closing


def test_each_run_is_told_once() -> None:
    """A run that had handlers publishes its figures; one without is no event."""
    bus, heard = EventBus(), list[Event]()
    bus.subscribe(heard.append)
    with CleanupManager(events=bus, job_id="job-1") as manager:
        manager.run("nothing there")
        manager.register("good", lambda: 12)
        manager.register("bad", fail)
        manager.run("test")
    assert [(event.name, event.job_id) for event in heard] == [("memguard.cleanup_finished", "job-1")]
    fields = heard[0].fields
    assert (fields["handlers"], fields["failed"], fields["freed_bytes"]) == (2, 1, 12)
    assert (fields["reason"], fields["occasion"]) == ("test", "normal")


def test_a_failing_subscriber_is_heard() -> None:
    """An error of a subscriber reaches the caller; the report is there all the same."""
    bus = EventBus()
    bus.subscribe(lambda event: fail())
    manager = CleanupManager(events=bus)
    manager.register("good", bool)
    with pytest.raises(ExceptionGroup):
        manager.close()
    assert outcomes(manager) == ["ok"]


def test_block_that_ends_well_raises_failures(calls: Calls) -> None:
    """At the normal end of a block handlers run, and a failure is an error."""

    def block() -> None:
        with CleanupManager() as manager:
            manager.register("good", calls("good"))
            manager.register("bad", fail)

    with pytest.raises(CleanupFailed, match="end of the block"):
        block()
    assert calls.names == ["good"]


def test_block_that_fails_keeps_its_error(calls: Calls) -> None:
    """The error of a block is not hidden by a cleanup that fails too; it carries a note of it."""
    manager = CleanupManager()

    def block() -> None:
        with manager:
            manager.register("good", calls("good"))
            manager.register("bad", fail)
            raise KeyError("the block's own")

    with pytest.raises(KeyError) as caught:
        block()
    assert calls.names == ["good"]
    assert len(caught.value.__notes__) == 1
    assert "bad failed: ValueError: boom" in caught.value.__notes__[0]
    assert manager.last_report is not None
    assert manager.last_report.reason == "KeyError in the block"


def test_closed_means_closed(calls: Calls) -> None:
    """Closing twice is harmless; afterwards, and during it, nothing more can be registered."""
    manager = CleanupManager()
    manager.register("registers", lambda: manager.register("late", calls("late")))
    assert "this cleanup manager is closed" in manager.close().failures[0]
    assert manager.close().results == ()
    with pytest.raises(RuntimeError, match="closed"):
        manager.register("late", calls("late"))
    with pytest.raises(RuntimeError, match="closed"):
        manager.start_schedule()
    assert calls.names == []


# The schedule


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


# Deadlines that the manager sets


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


# Managers inside managers


class NotingCache:
    def __init__(self, asked: list[tuple[str, int]], name: str, holds: int = 0) -> None:
        self.asked, self.name, self.holds = asked, name, holds

    def shed(self, target_bytes: int) -> int:
        self.asked.append((self.name, target_bytes))
        return self.holds


def test_an_emergency_reaches_managers_inside_first() -> None:
    """Children before parents, the last made first; what one gave back the next ones are not asked for."""
    outer = CleanupManager(read_private_bytes=lambda: 0)
    first, second = CleanupManager(enclosing=outer), CleanupManager(enclosing=outer)
    innermost = CleanupManager(enclosing=first)
    asked = list[tuple[str, int]]()
    caches = [NotingCache(asked, name, 10) for name in ("outer", "first", "second", "innermost")]
    for manager, cache in zip((outer, first, second, innermost), caches, strict=True):
        manager.register_sheddable(cache.name, cache)
        manager.register(f"{cache.name} empties", bool, on=("emergency",))
    report = outer.run_emergency("short", target_bytes=35)
    assert asked == [("second", 35), ("innermost", 25), ("first", 15), ("outer", 5)]
    assert report.order == (
        *("second", "second empties", "innermost", "innermost empties", "first", "first empties"),
        *("outer", "outer empties", "garbage collection"),
    )
    assert first.run_emergency("short").order[:2] == ("innermost", "innermost empties")


def test_an_emergency_skips_what_is_closed_or_gone() -> None:
    """A closed manager's caches may be torn down: they are not asked, by itself or from around; a dead one is no more."""
    outer = CleanupManager()
    closed, open_inside = CleanupManager(enclosing=outer), CleanupManager(enclosing=outer)
    within_closed = CleanupManager(enclosing=closed)
    dropped = CleanupManager(enclosing=outer)
    asked = list[tuple[str, int]]()
    caches = [NotingCache(asked, name) for name in ("closed", "open", "within", "dropped")]
    for manager, cache in zip((closed, open_inside, within_closed, dropped), caches, strict=True):
        manager.register_sheddable(cache.name, cache)
        manager.register("at the end", bool)
    closed.close()
    dropped.close()
    del dropped, manager
    assert closed.is_closed
    assert not within_closed.is_closed
    assert outer.run_emergency("short").order == ("open", "within", "garbage collection")
    assert closed.run_emergency("short").order == ("within", "garbage collection")
    assert closed.run_scheduled().order == ()
    for each in (outer, open_inside, within_closed):
        each.close()


def test_an_emergency_from_within_a_handler_inside_is_refused() -> None:
    """A handler of an inner manager that asks for the outer one's emergency would run itself again."""
    outer = CleanupManager()
    inner = CleanupManager(enclosing=outer)
    inner.register("recursive", lambda: outer.run_emergency("again"), on=("emergency",))
    report = outer.run_emergency("short")
    assert "asked for from within a cleanup handler" in report.failures[0]


# Async


def test_async_run_does_not_block_the_loop(manager: CleanupManager) -> None:
    """While a handler works, the event loop goes on; the report comes back to the task."""
    released = threading.Event()
    manager.register("waits for the loop", lambda: released.wait(PATIENCE_S))

    async def main() -> bool:
        task = asyncio.create_task(manager.async_run("test"))
        await asyncio.sleep(0)
        released.set()
        return (await task).ok

    assert asyncio.run(main())


def test_cancelling_waits_for_the_cleanup(manager: CleanupManager, calls: Calls) -> None:
    """A cancelled task ends after the cleanup, not in the middle of it, and is cancelled all the same."""
    inside, release = threading.Event(), threading.Event()

    def handler() -> None:
        inside.set()
        release.wait(PATIENCE_S)
        calls.names.append("done")

    manager.register("slow", handler)

    async def main() -> None:
        task = asyncio.create_task(manager.async_run("test"))
        await asyncio.to_thread(inside.wait, PATIENCE_S)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert calls.names == ["done"]


def test_async_block_closes_and_gives_back_signals(calls: Calls) -> None:
    """An async block cleans up at its end, also the signals, which only the main thread may touch."""

    async def main() -> None:
        async with CleanupManager() as manager:
            manager.register("handler", calls("handler"))
            assert manager.install_signal_handlers((signal.SIGUSR1,)) == (signal.SIGUSR1,)

    asyncio.run(main())
    assert calls.names == ["handler"]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


# Signals


@contextmanager
def disposition(number: signal.Signals, handler: object) -> Iterator[None]:
    before = signal.signal(number, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(number, before)


def test_signal_cleans_up_and_calls_the_former_handler(calls: Calls) -> None:
    """Handlers run first, then the Python handler that was there before; closing gives the signal back."""

    def former(number: int, frame: object) -> None:
        calls.names.append(f"former {number}")

    with disposition(signal.SIGUSR1, former):
        manager = CleanupManager()
        manager.register("handler", calls("handler"))
        assert manager.install_signal_handlers((signal.SIGUSR1,)) == (signal.SIGUSR1,)
        assert manager.install_signal_handlers((signal.SIGUSR1,)) == ()
        signal.raise_signal(signal.SIGUSR1)
        assert calls.names == ["handler", f"former {signal.SIGUSR1.value}"]
        manager.close()
        assert signal.getsignal(signal.SIGUSR1) is former


def test_ignored_signal_stays_ignored(manager: CleanupManager, calls: Calls) -> None:
    """What the process was told to ignore (nohup) does not trigger a cleanup."""
    manager.register("handler", calls("handler"))
    with disposition(signal.SIGUSR1, signal.SIG_IGN):
        assert manager.install_signal_handlers((signal.SIGUSR1,)) == ()
        signal.raise_signal(signal.SIGUSR1)
    assert calls.names == []


def test_signal_during_cleanup_waits_for_its_end(calls: Calls) -> None:
    """A signal in the middle of a cleanup takes effect after the last handler; a second one at once."""

    def former(number: int, frame: object) -> None:
        calls.names.append("former")

    def handler(times: int) -> Callable[[], None]:
        def raises() -> None:
            for _ in range(times):
                signal.raise_signal(signal.SIGUSR1)
            calls.names.append(f"{times} raised")

        return raises

    with disposition(signal.SIGUSR1, former), CleanupManager() as manager:
        manager.install_signal_handlers((signal.SIGUSR1,))
        manager.register("rest", calls("rest"))
        manager.register("raises", handler(1))
        manager.run("test")
        assert calls.names == ["1 raised", "rest", "former"]
        calls.names.clear()
        manager.register("raises", handler(2))
        manager.run("test")
        assert calls.names == ["former", "2 raised", "former"]


def test_failures_at_a_signal_are_printed(
    manager: CleanupManager, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a signal there is nobody to raise to, so failures go to stderr, and the signal still arrives."""
    manager.register("bad", fail)
    with disposition(signal.SIGUSR1, lambda number, frame: calls.names.append("former")):
        manager.install_signal_handlers((signal.SIGUSR1,))
        signal.raise_signal(signal.SIGUSR1)
        manager.close()
    assert "bad failed: ValueError: boom" in capsys.readouterr().err
    assert calls.names == ["former"]


def test_signals_taken_over_by_somebody_else_are_left_to_them(calls: Calls) -> None:
    """Who installed on top of the manager keeps the signal, and still reaches the former handler."""
    with disposition(signal.SIGUSR1, lambda number, frame: calls.names.append("former")):
        manager = CleanupManager()
        manager.install_signal_handlers((signal.SIGUSR1,))
        ours = signal.getsignal(signal.SIGUSR1)
        assert callable(ours)

        def on_top(number: int, frame: object) -> None:
            calls.names.append("on top")
            ours(number, frame)  # type: ignore[arg-type]

        signal.signal(signal.SIGUSR1, on_top)
        manager.close()
        assert signal.getsignal(signal.SIGUSR1) is on_top
        signal.raise_signal(signal.SIGUSR1)
    assert calls.names == ["on top", "former"]


def test_signals_need_the_main_thread(manager: CleanupManager) -> None:
    """Python allows signal handlers in the main thread only, and the error says so."""
    errors: list[BaseException] = []

    def install() -> None:
        try:
            manager.install_signal_handlers()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=install)
    thread.start()
    thread.join(PATIENCE_S)
    assert "main thread" in str(errors[0])


# Forks

# From Python 3.12 on, a fork beside other threads is warned of; here it is the point.
FORKS_BESIDE_THREADS = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def in_child(work: Callable[[], bool]) -> bool:
    """Run ``work`` in a forked child; return what it returned."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    _, waited = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(waited) in (0, 2)
    return os.waitstatus_to_exitcode(waited) == 0


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
