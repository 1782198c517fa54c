"""Blocking work of a coroutine, each in a thread of its own.

Not in the loop's executor: it has a few threads, and when all of them wait for memory, nobody is left to run what would
give it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["start_aside"]

_T = TypeVar("_T")


def start_aside(work: Callable[[], _T], name: str) -> asyncio.Future[_T]:
    """Start ``work`` in a thread that has this code's context, and return a future of the running loop.

    Cancelling the future does not stop the work. The thread does not keep the interpreter from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            tell = functools.partial(_succeed, future, context.run(work))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for whoever awaits the future
            tell = functools.partial(_fail, future, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(finish, tell)

    def finish(tell: Callable[[], None]) -> None:
        thread.join()  # its last line was to call this
        tell()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return future


def _succeed(future: asyncio.Future[_T], value: _T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[_T], error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # which no future can carry
        wrapped = RuntimeError(f"it raised {error!r}")
        wrapped.__cause__ = error
        error = wrapped
    future.set_exception(error)
