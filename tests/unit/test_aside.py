"""Blocking work of a coroutine: where it runs, what a cancellation waits for, what is left of an error."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ref

import pytest

from memguard.aside import complete_aside, start_aside, thread_of_this_code


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread be started, as where the machine has too many."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


@contextmanager
def nothing_unretrieved() -> Iterator[list[Any]]:
    """Collect what loops complain of; holds that it was nothing."""
    complaints: list[Any] = []
    yield complaints
    gc.collect()
    assert complaints == []


def run(main: Coroutine[Any, Any, Any], complaints: list[Any]) -> Any:
    """Run a loop that complains to a list."""

    async def listen() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        return await main

    return asyncio.run(listen())


@pytest.mark.usefixtures("no_threads")
def test_what_must_be_done_is_done_here_where_no_thread_can_be_started() -> None:
    """The end of something is done in place then, with its value or its error; a beginning is refused."""

    def fail() -> None:
        raise KeyError("mine")

    async def main() -> None:
        assert await complete_aside(threading.current_thread, "x") is threading.main_thread()
        with pytest.raises(KeyError, match="mine"):
            await complete_aside(fail, "x")
        with pytest.raises(RuntimeError, match="can't start new thread"):
            start_aside(fail, "x")

    asyncio.run(main())


def cancelled_in(work: Callable[[], object], go: threading.Event, *, times: int) -> Coroutine[Any, Any, None]:
    """Cancel somebody who completes something, and let that go on afterwards only."""

    async def main() -> None:
        task = asyncio.create_task(complete_aside(work, "x"))
        await asyncio.sleep(0)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
        go.set()
        await task

    return main()


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancellation_waits_for_the_end(times: int) -> None:
    """However often it is cancelled, it is done when the cancellation comes, and an error of it is the cause."""
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        assert go.wait(30)
        done.set()

    def fail() -> None:
        work()
        raise KeyError("mine")

    with nothing_unretrieved() as complaints:
        with pytest.raises(asyncio.CancelledError):
            run(cancelled_in(work, go, times=times), complaints)
        assert done.is_set()
        go.clear()
        with pytest.raises(asyncio.CancelledError) as caught:
            run(cancelled_in(fail, go, times=times), complaints)
        assert isinstance(caught.value.__cause__, KeyError)


def test_what_a_closed_loop_cannot_be_told_is_taken_back() -> None:
    """Where the loop is gone when the work is done, its result is given to who undoes it."""
    go, undone, results = threading.Event(), threading.Event(), []

    def work() -> int:
        assert go.wait(30)
        return 7

    def undo(result: int) -> None:
        results.append(result)
        undone.set()

    async def main() -> None:
        start_aside(work, "x", untold=undo)

    asyncio.run(main())
    go.set()
    assert undone.wait(30)
    assert results == [7]


class Large:
    """Something in a frame that an error keeps."""


@pytest.mark.parametrize("how", [start_aside, complete_aside])
def test_an_error_goes_with_its_last_holder(how: Callable[..., Any]) -> None:
    """What failed is not kept by its own error until the collector comes: nothing knows itself."""
    seen: list[ref[Large]] = []

    def fail() -> None:
        large = Large()
        seen.append(ref(large))
        raise KeyError("mine")

    async def main() -> None:
        with contextlib.suppress(KeyError):
            await how(fail, "x")

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        assert seen[0]() is None
    finally:
        gc.enable()


def test_work_belongs_to_the_thread_of_its_loop() -> None:
    """Also a loop inside of such work says so; a thread of one's own belongs to itself."""

    async def inner() -> threading.Thread:
        return await complete_aside(thread_of_this_code, "inner")

    async def main() -> None:
        assert await complete_aside(thread_of_this_code, "x") is threading.main_thread()
        assert await complete_aside(lambda: asyncio.run(inner()), "x") is threading.main_thread()

    asyncio.run(main())
    found: list[threading.Thread] = []
    thread = threading.Thread(target=lambda: found.append(thread_of_this_code()))
    thread.start()
    thread.join()
    assert found == [thread]
