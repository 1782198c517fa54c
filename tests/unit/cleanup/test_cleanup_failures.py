"""A handler that fails, hangs or is interrupted keeps nobody else from running."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import ref

import pytest

from memguard.cleanup import CleanupManager, HandlerOutcome, Occasion
from memguard.errors import CleanupFailed
from tests.support.cleanups import PATIENCE_S, Cache, Calls, fail, join_handler_threads, outcomes


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
    assert broken.detail.startswith("ValueError: boom (in fail, cleanups.py:")
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
