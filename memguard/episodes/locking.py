"""One writer at a time, in turn as far as that goes: who has waited longest looks most often.

Comes in: a file, and how long to wait. Goes out: the right to write, for a ``with`` block. The kernel gives it back
when its holder dies, however that happens. It guards nothing by itself: SQLite has locks of its own, which never meet
here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from weakref import WeakSet

from memguard.errors import EpisodeStoreBusy, EpisodeStoreError

__all__ = ["WriterLock"]

# A batch of a hundred is written in one to two milliseconds; looking costs two microseconds.
_FIRST_LOOK_S: Final = 0.001
_CLOSEST_LOOK_S: Final = 0.0002
# After this long a waiter looks as often as it ever will.
_PATIENT_S: Final = 0.05
# Who holds it is told by so many digits, filled up with spaces.
_SIGNED: Final = 10


class WriterLock:
    """The right to write to a store.

    Args:
        path: the lock's file; made if it is not there.
        wait_s: how long to wait for another process.
    """

    def __init__(self, path: Path, wait_s: float) -> None:
        self._path, self._wait_s = path, wait_s
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Threads of this process first wait for each other: the kernel's lock does not tell them apart.
        self._threads = threading.Lock()
        _locks.add(self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it.

        A generator: where an interrupt keeps its end from being called it is closed, and gives back all the same.

        Raises:
            EpisodeStoreBusy: if another process or thread wrote for longer than this one may wait.
        """
        end_s = time.monotonic() + self._wait_s
        if not self._threads.acquire(timeout=self._wait_s):
            raise self._busy("another thread of this process")
        try:
            self._take(end_s)
            try:
                yield
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    @contextmanager
    def held_if_free(self) -> Iterator[bool]:
        """Hold it if nobody else does; gives whether that is so."""
        if not self._threads.acquire(blocking=False):
            yield False
            return
        try:
            taken = self._try()
            try:
                yield taken
            finally:
                if taken:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def _take(self, end_s: float) -> None:
        began_s = time.monotonic()
        while not self._try():
            now_s = time.monotonic()
            if now_s >= end_s:
                raise self._busy(self._holder())
            age = min(1.0, (now_s - began_s) / _PATIENT_S)
            pause_s = _FIRST_LOOK_S + (_CLOSEST_LOOK_S - _FIRST_LOOK_S) * age
            time.sleep(pause_s * random.uniform(0.5, 1.0))

    def _try(self) -> bool:
        if self._fd < 0:
            raise EpisodeStoreError(
                f"the store in {self._path.parent} was closed", path=str(self._path.parent)
            )
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
                told = f"{self._path} cannot be locked ({error.strerror}); keep the store on a local disk"
                raise EpisodeStoreError(told, path=str(self._path)) from error
            raise
        self._sign()
        return True

    def _sign(self) -> None:
        """Tell who holds it, to those that wait; where it stands there already the file is not written to again."""
        mine = b"%10d" % os.getpid()
        try:
            if os.pread(self._fd, _SIGNED, 0) != mine:
                os.pwrite(self._fd, mine, 0)
        except OSError:  # it is told, and no more
            return

    def pause(self, wait_s: float) -> bool:
        """Keep all threads of this process from writing until `resume`; returns whether that could be had."""
        return self._threads.acquire(timeout=wait_s)

    def resume(self) -> None:
        """Let threads write again."""
        self._threads.release()

    def _holder(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            return f"process {int(os.pread(self._fd, _SIGNED, 0))}"
        return "another process"

    def _busy(self, holder: str) -> EpisodeStoreBusy:
        return EpisodeStoreBusy(
            f"{holder} was writing to {self._path.parent} for more than {self._wait_s:g} s (it may be stopped); "
            "nothing was stored (memguard runbook EpisodesIndexStalled)",
            path=str(self._path),
        )

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def renew(self) -> None:
        """Open the file anew in a forked copy: there the descriptor's lock would be its parent's."""
        self._threads = threading.Lock()
        if self._fd >= 0:
            former, self._fd = self._fd, -1
            os.close(former)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


_locks: Final[WeakSet[WriterLock]] = WeakSet()


def _renew_in_child() -> None:
    for lock in list(_locks):
        with contextlib.suppress(OSError):  # the folder may be gone; whoever writes next is told
            lock.renew()


os.register_at_fork(after_in_child=_renew_in_child)
