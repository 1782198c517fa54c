"""Processes that die by ``kill -9`` at one line of a piece of work after the other."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any, NoReturn


def die_at(last: int, rooms: tuple[ModuleType, ...]) -> None:
    """Let this process die at the line of that number, of those that its thread runs in some modules or packages."""
    files = tuple(map(_files, rooms))
    seen = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.startswith(files):
            return None
        seen += event == "line"
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def _files(module: ModuleType) -> str:
    """Return with what the name of a module's file begins, or the names of a package's files."""
    assert module.__file__ is not None
    return module.__file__.removesuffix("__init__.py")


def deaths(
    work: Callable[[Callable[[], None]], None], *rooms: ModuleType, step: int = 1
) -> Iterator[tuple[int, int]]:
    """Do a piece of work in a forked copy again and again, and kill each some lines later than the one before.

    Args:
        work: given what it calls where lines begin to count.
        rooms: the modules and packages whose lines count.
        step: how many lines later.

    Yields:
        The number of the line, and the copy's pid, as soon as it is made. When the next one is asked for it is reaped.
        Ends with the one that came to its end.
    """
    number, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        number += step
        pid = os.fork()
        if pid == 0:
            _work_in_copy(work, functools.partial(die_at, number, rooms))
        yield number, pid
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status


def _work_in_copy(work: Callable[[Callable[[], None]], None], begin: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        work(begin)
        status = 0
    except BaseException:  # noqa: BLE001 - it is told, and the copy must not go on in what called it
        traceback.print_exc()
    finally:
        sys.settrace(None)
        os._exit(status)
