"""Blocking work of a coroutine, each in a thread of its own.

Not in the loop's executor: it has a few threads, and when all of them wait for memory, nobody is left to run what would
give it back. Comes in: a call. Goes out: a future, or with `complete_aside` its value. Open `start_aside` first.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["complete_aside", "outlast", "start_aside", "thread_of_this_code"]

_T = TypeVar("_T")

# The thread of the loop whose coroutine's work this is.
_home: contextvars.ContextVar[threading.Thread | None] = contextvars.ContextVar("memguard_home", default=None)


def thread_of_this_code() -> threading.Thread:
    """Return whose work this is: for work of a coroutine its loop's thread, else the one that it runs in."""
    return _home.get() or threading.current_thread()


class _Work(Generic[_T]):
    """A call and the future of who waits for it.

    When it was told, it knows neither future nor error any more: the frames of an error know this object, and an error
    that is found from itself stays, with all that its frames hold, until the collector comes.
    """

    def __init__(self, call: Callable[[], _T], untold: Callable[[_T], object] | None) -> None:
        self._call, self._untold = call, untold
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._context.run(_home.set, thread_of_this_code())
        self._values: list[_T] = []
        self._error: BaseException | None = None
        self.future: asyncio.Future[_T] | None = self._loop.create_future()
        self.thread: threading.Thread | None = None

    def run(self) -> None:
        """Do it, and have it told by the loop; if that was closed, nobody waits any more."""
        self.attempt()
        try:
            self._loop.call_soon_threadsafe(self.finish)
        except RuntimeError:
            self._take_back()

    def attempt(self) -> None:
        """Do it."""
        try:
            self._values.append(self._context.run(self._call))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for whoever awaits the future
            self._error = error

    def finish(self) -> None:
        """Pass on how it ended."""
        if self.thread is not None:
            self.thread.join()  # its last line was to have this called
        future, error = self.future, self._error
        self.future = self._error = None
        if future is None or future.done():
            return
        if error is None:
            future.set_result(self._values.pop())
            return
        if isinstance(error, StopIteration):  # which no future can carry
            wrapped = RuntimeError(f"it raised {error!r}")
            wrapped.__cause__ = error
            error = wrapped
        future.set_exception(error)

    def _take_back(self) -> None:
        # An error has nothing to undo, and nobody to hear of it.
        self.future = self._error = None
        if self._untold is not None and self._values:
            self._context.run(self._untold, self._values.pop())


def start_aside(
    work: Callable[[], _T],
    name: str,
    *,
    or_here: bool = False,
    untold: Callable[[_T], object] | None = None,
) -> asyncio.Future[_T]:
    """Start ``work`` in a thread that has this code's context, and return a future of the running loop.

    Cancelling the future does not stop the work. The thread does not keep the interpreter from ending.

    Args:
        work: what to do.
        name: the thread's.
        or_here: do it at once, in this thread, where no other can be started.
        untold: called in the thread with what the work returned when the loop was closed meanwhile: it is to take back
            what nobody knows of.

    Raises:
        RuntimeError: no thread can be started, without ``or_here``.
    """
    doing = _Work(work, untold)
    future = doing.future
    assert future is not None
    doing.thread = threading.Thread(target=doing.run, name=name, daemon=True)
    try:
        doing.thread.start()
    except RuntimeError:
        if not or_here:
            raise
        doing.thread = None
        doing.attempt()
        doing.finish()
    return future


async def complete_aside(work: Callable[[], _T], name: str) -> _T:
    """Do what must be done to its end, without blocking the loop unless no thread can be started.

    A cancellation waits until it is done, and then goes on; what the work raised is its cause.
    """
    task = start_aside(work, name, or_here=True)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        await outlast(task)
        error = task.exception()
        if error is None or error is cancelled:
            raise
        raise cancelled from error
    finally:
        del task  # else an error would keep itself: it knows this frame, which knows the future, which has it


async def outlast(task: asyncio.Future[_T], again: Callable[[], object] = lambda: None) -> None:
    """Wait until something is done; calls ``again`` at each further cancellation, which the first one stands for."""
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            again()
