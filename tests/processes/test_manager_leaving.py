"""Leaving blocks and managers where it is hard: no threads, no loop, a cancellation, another context, an end out of order."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from memguard import CapacityExceeded, MemoryManager
from memguard.errors import CleanupFailed
from memguard.managed import held_around
from tests.support.guarded import MIB, eventually


@pytest.fixture
def manager() -> Iterator[MemoryManager]:
    manager = MemoryManager("200MiB")
    yield manager
    manager.close()


def reserved(manager: MemoryManager) -> int:
    return manager.allocator.statistics().reserved_bytes


def fits(manager: MemoryManager) -> bool:
    """Whether a job with the whole budget could start here at once, as `MemoryManager.run` would ask for it."""
    manager.allocator.reserve(200 * MIB, "job", held=held_around(), timeout_s=0).release()
    return True


@pytest.mark.requirement("R2.4")
def test_a_task_that_outlives_the_block_it_was_started_in_is_free(manager: MemoryManager) -> None:
    """A server's worker that was started during start-up gets the room that start-up gave back."""

    async def main() -> bool:
        ended = asyncio.Event()

        async def worker() -> bool:
            await ended.wait()
            return fits(manager)

        async with manager.managed_processing("startup"):
            task = asyncio.create_task(worker())
            with pytest.raises(CapacityExceeded):
                fits(manager)
        ended.set()
        return await task

    assert asyncio.run(main())


def test_a_block_left_elsewhere_is_left(manager: MemoryManager) -> None:
    """Entered in one context and left in another, it is around neither."""
    block = manager.managed_processing("fixture")
    block.__enter__()
    contextvars.copy_context().run(block.__exit__, None, None, None)
    assert held_around() == ()
    assert fits(manager)


def test_blocks_left_in_the_order_they_were_entered(manager: MemoryManager) -> None:
    """Each is around until it is left itself, so that a job in the second one does not wait for its room."""

    async def main() -> None:
        first = manager.managed_processing("first", memory="50MiB")
        second = manager.managed_processing("second", memory="50MiB")
        await first.__aenter__()
        job = await second.__aenter__()
        await first.__aexit__(None, None, None)
        assert held_around() == (job.reservation,)
        with pytest.raises(CapacityExceeded, match="second around it holds"):
            fits(manager)
        await second.__aexit__(None, None, None)
        assert fits(manager)

    asyncio.run(main())


@pytest.mark.requirement("R2.4")
def test_a_thread_that_the_block_waits_for_does_not_wait_for_the_block(manager: MemoryManager) -> None:
    """A pool inside a block is refused what the block holds, and may have what is left."""
    with manager.managed_processing("block", memory="150MiB"), ThreadPoolExecutor(1) as pool:
        asks = pool.submit(manager.run, int, memory="100MiB")
        with pytest.raises(CapacityExceeded, match="block around it holds 150 MiB"):
            asks.result(timeout=30)
        assert pool.submit(manager.run, int, memory="50MiB").result(timeout=60).value == 0


def test_workers_with_blocks_of_their_own_take_turns(manager: MemoryManager) -> None:
    """A block of one thread is waited for by that of a thread that was started meanwhile."""
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with manager.managed_processing("work"):
            entered.set()
            leave.wait(30)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(work)
        assert entered.wait(30)
        second = pool.submit(work)
        assert eventually(lambda: manager.allocator.statistics().waiting)
        leave.set()
        first.result(timeout=30)
        second.result(timeout=30)


def test_a_handler_of_a_block_is_inside(manager: MemoryManager) -> None:
    """What a block's cleanup asks for beyond what is left is refused; it does not wait for the block's own room."""
    with manager.managed_processing("block") as job:
        job.cleanup.register("greedy", lambda: manager.run(int), deadline_s=None)
    assert job.report is not None
    (told,) = job.report.cleanup.leftovers
    assert "block around it holds" in told
    assert reserved(manager) == 0


@pytest.mark.requirement("T1.1")
def test_a_block_is_left_where_no_thread_can_be_started(
    manager: MemoryManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its room is given back, its report is kept and the manager is closed, in place."""
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name in ("memguard-leave", "memguard-close"):
            raise RuntimeError("can't start new thread")
        start(self)

    async def main() -> None:
        async with manager, manager.managed_processing("block"):
            monkeypatch.setattr(threading.Thread, "start", refuse)

    asyncio.run(main())
    assert reserved(manager) == 0
    assert [report.name for report in manager.reports] == ["block"]
    assert manager.is_closed


def test_a_loop_that_ends_before_the_block_begins_leaves_nothing(manager: MemoryManager) -> None:
    """A block whose room is granted when its loop is closed is left again by the thread that waited."""
    others = manager.allocator.reserve(200 * MIB, "others")

    async def block() -> None:
        async with manager.managed_processing("block"):
            raise AssertionError("nobody is there to run this")

    async def begin() -> asyncio.Task[None]:
        task = loop.create_task(block())
        while not manager.allocator.statistics().waiting:
            await asyncio.sleep(0.001)
        return task

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it would tell that the task was destroyed
    task = loop.run_until_complete(begin())
    loop.close()
    others.release()
    assert eventually(lambda: manager.reports)
    assert eventually(lambda: threading.active_count() == 1)
    assert reserved(manager) == 0
    del task
    gc.collect()


def cancelled_while_closing(
    complaints: list[Any], begins: threading.Event, go: threading.Event
) -> Callable[[], Any]:
    """Make a program that is cancelled while it leaves a manager whose cleanup fails."""

    def fail() -> None:
        begins.set()
        assert go.wait(30)
        raise KeyError("mine")

    async def work() -> None:
        async with MemoryManager("100MiB") as manager:
            manager.cleanup.register("bad", fail, deadline_s=None)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        task = asyncio.create_task(work())
        while not begins.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go.set()
        await task

    return main


def test_a_cancelled_end_is_an_end() -> None:
    """Cancelled while a manager closes, the task ends when it is closed; what failed is the cancellation's cause."""
    complaints: list[Any] = []
    program = cancelled_while_closing(complaints, threading.Event(), threading.Event())
    with pytest.raises(asyncio.CancelledError) as caught:
        asyncio.run(program())
    assert isinstance(caught.value.__cause__, CleanupFailed)
    del caught
    gc.collect()
    assert complaints == []


def test_a_forked_child_is_in_no_block(manager: MemoryManager) -> None:
    """What the parent holds is not held in the child: nothing around it there stands in the way of a job."""
    with manager.managed_processing("block"):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if held_around() == () else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert len(held_around()) == 1
