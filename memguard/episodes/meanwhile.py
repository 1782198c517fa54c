"""Work that another thread does while this one goes on, and that has ended when this one has.

Comes in: a function that mostly waits for the disk. Goes out: nothing that outlives the ``with`` block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["meanwhile"]


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Have something done while the block runs; behind it the work has ended, however the block did.

    Where no thread can be had the work is done before the block.

    Raises:
        BaseException: what the work raised, if the block ended well.
    """
    failed: list[BaseException] = []
    is_wanted = False
    gate, ended = threading.Lock(), threading.Event()
    gate.acquire()

    def run() -> None:
        try:
            gate.acquire()
            if is_wanted:
                work()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            failed.append(error)
        finally:
            ended.set()

    try:
        if _starts(run):
            is_wanted = True
            gate.release()
        else:
            work()
        yield
    finally:
        # An interrupt may come at any line above: a thread that was started and is not wanted does nothing.
        if gate.locked():
            gate.release()
        if is_wanted:
            _wait_for(ended)
    if failed:
        raise failed[0]


def _starts(run: Callable[[], None]) -> bool:
    try:
        threading.Thread(target=run, name="memguard-episodes-meanwhile", daemon=True).start()
    except RuntimeError:  # no thread is to be had, or Python is ending
        return False
    return True


def _wait_for(ended: threading.Event) -> None:
    """Wait for the work's end, through interrupts: what it works on is somebody else's as soon as this returns.

    Not for the thread's: an interrupted `join` of Python 3.11 takes a thread that runs for one that has ended.
    """
    try:
        ended.wait()
    except BaseException:
        _wait_for(ended)
        raise
