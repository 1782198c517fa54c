"""Work that another thread does while this one goes on, and that has ended when this one has.

Comes in: a function that mostly waits for the disk. Goes out: nothing that outlives the ``with`` block.
"""

from __future__ import annotations

import sys
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
    gate, ended = threading.Lock(), _End()
    gate.acquire()

    def run() -> None:
        try:
            gate.acquire()
            if is_wanted:
                work()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            failed.append(error)
        finally:
            ended.tell()

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
            ended.wait()
    if failed:
        raise failed[0]


def _starts(run: Callable[[], None]) -> bool:
    if sys.is_finalizing():  # Python 3.11 would wait for the thread for ever
        return False
    try:
        threading.Thread(target=run, name="memguard-episodes-meanwhile", daemon=True).start()
    except RuntimeError:  # no thread is to be had
        return False
    return True


class _End:
    """That something has ended, told once by one thread, and waited for by another through any interrupts.

    Not the end of the thread: an interrupted `join` of Python 3.11 takes a thread that runs for one that has ended. And
    no `threading.Event`: an interrupt can leave the lock in it held for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._is_told = False

    def tell(self) -> None:
        self._is_told = True
        self._lock.release()

    def wait(self) -> None:
        """Return when it was told: what was worked on is somebody else's as soon as this returns."""
        try:
            if not self._is_told:  # asked anew after each interrupt, which may have come with the lock
                self._lock.acquire()
        except BaseException:
            self.wait()
            raise
