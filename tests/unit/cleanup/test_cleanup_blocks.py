"""Blocks, plain and asynchronous, and who is told of a run."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from memguard.cleanup import CleanupManager
from memguard.errors import CleanupFailed
from memguard.events import Event, EventBus
from tests.support.cleanups import PATIENCE_S, Calls, fail, outcomes


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
