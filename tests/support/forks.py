"""Forked copies of a test's process, and locks that somebody else holds while they are made."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# From Python 3.12 on, a fork beside other threads is warned of; in these tests it is the point.
FORKS_BESIDE_THREADS = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
_CHILD_S = 30


def in_child(work: Callable[[], bool]) -> bool:
    """Run ``work`` in a forked copy of this process; returns what it returned, fails if it raises or hangs."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_CHILD_S)
            status = 0 if work() else 2
        finally:
            os._exit(status)
    exit_code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert exit_code in (0, 2), exit_code
    return exit_code == 0


@contextmanager
def held_by_another(lock: Any) -> Iterator[None]:
    """Have another thread hold a lock for the length of the block."""
    inside, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            inside.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(30)
    try:
        yield
    finally:
        release.set()
        thread.join()
