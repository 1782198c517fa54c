"""Adds of many callers under one commit: whoever comes first writes for all who came meanwhile.

Comes in: a prepared batch from each caller's thread. Goes out: ids, or the caller's own error. A commit waits for the
disk, and the disk takes no longer for a hundred than for one.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from memguard.episodes.preparing import Prepared

__all__ = ["Group", "Share"]

# So much is written under one commit at the most, so that the first does not wait for ever.
_MOST_EPISODES: Final = 4096


class Share:
    """What one caller wants written.

    Attributes:
        batch: the episodes.
        ids: what they are called, once it is written.
        error: why it was not.
    """

    __slots__ = ("_done", "batch", "error", "ids")

    def __init__(self, batch: Sequence[Prepared]) -> None:
        self.batch = batch
        self.ids: list[str] | None = None
        self.error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def end(self) -> None:
        """Wake who waits for it."""
        self._done.release()

    def wait(self) -> None:
        """Wait until it is written or refused, or until it is this caller's turn to write."""
        self._done.acquire()

    @property
    def is_done(self) -> bool:
        """Whether it was written or refused."""
        return self.ids is not None or self.error is not None


Write = Callable[[Sequence[Share]], None]


class Group:
    """The callers of this process."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._start_over()

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Share] = deque()
        self._is_led = False

    def add(self, batch: Sequence[Prepared], write: Write) -> list[str]:
        """Write a batch, with those of others, and return its ids.

        Args:
            batch: the episodes.
            write: writes some shares under one commit, and sets ids or error of each; what it raises is every share's.

        Raises:
            Exception: what is wrong with the batch, or with all that were written with it.
        """
        if os.getpid() != self._pid:
            # In a forked copy nobody leads, whatever was so in the parent.
            self._pid = os.getpid()
            self._start_over()
        share = Share(batch)
        with self._lock:
            self._waiting.append(share)
            leads, self._is_led = not self._is_led, True
        if not leads:
            share.wait()
        if not share.is_done:
            self._lead(share, write)
        if share.error is not None:
            raise share.error
        assert share.ids is not None
        return share.ids

    def _lead(self, own: Share, write: Write) -> None:
        """Write until the own share is done, then let the next caller lead."""
        try:
            while not own.is_done:
                self._write_some(write)
        finally:
            with self._lock:
                if not own.is_done and own in self._waiting:
                    self._waiting.remove(own)  # an interrupt came before its turn
                following = self._waiting[0] if self._waiting else None
                self._is_led = following is not None
            if following is not None:
                following.end()

    def _write_some(self, write: Write) -> None:
        shares = self._taken()
        try:
            write(shares)
        except BaseException as error:
            for share in shares:
                if not share.is_done:
                    share.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            for share in shares:
                share.end()

    def _taken(self) -> list[Share]:
        taken: list[Share] = []
        count = 0
        with self._lock:
            while self._waiting and count < _MOST_EPISODES:
                share = self._waiting.popleft()
                taken.append(share)
                count += len(share.batch)
        return taken
