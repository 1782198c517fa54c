"""Adds of many callers under one commit: whoever comes first writes for all who came meanwhile.

Comes in: a prepared batch from each caller's thread. Goes out: ids, or the caller's own error. A commit waits for the
disk, and the disk takes no longer for a hundred than for one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Final

from memguard.episodes.preparing import Prepared
from memguard.episodes.turns import Line
from memguard.episodes.writing import Writing
from memguard.errors import CapacityExceeded, EpisodeConflict, EpisodeInvalid, EpisodeStoreError

__all__ = ["Group", "Share", "taken"]

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

    @property
    def tenant(self) -> str:
        """Whose it is: of several namespaces, that of the first episode."""
        return self.batch[0].namespace

    @property
    def count(self) -> int:
        """How many episodes it has."""
        return len(self.batch)

    def end(self) -> None:
        """Wake who waits for it, if anybody still does."""
        with contextlib.suppress(RuntimeError):  # woken before
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
        self._start_over()

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Line[Share] = Line()
        self._leader: Share | None = None

    def add(self, batch: Sequence[Prepared], write: Write) -> list[str]:
        """Write a batch, with those of others, and return its ids.

        Args:
            batch: the episodes.
            write: writes some shares under one commit, and sets ids or error of each; what it raises is every share's.

        Raises:
            Exception: what is wrong with the batch, or with all that were written with it.
        """
        share = Share(batch)
        try:
            self._join(share)
            if self._leader is not share:
                share.wait()
            while not share.is_done:
                self._write_some(write)
        finally:
            # Also where an interrupt came while it waited: whoever is next must not wait for ever.
            self._leave(share)
        if share.error is not None:
            raise share.error
        assert share.ids is not None
        return share.ids

    def _join(self, share: Share) -> None:
        with self._lock:
            self._waiting.append(share)
            if self._leader is None:
                self._leader = share

    def _leave(self, share: Share) -> None:
        """Take a share out of the line, and let the next caller lead if its own did."""
        with self._lock:
            if not share.is_done and share in self._waiting:  # who is done was taken out before
                self._waiting.remove(share)
            if self._leader is not share:
                return
            self._leader = following = self._waiting.first() if self._waiting else None
        if following is not None:
            following.end()

    def _write_some(self, write: Write) -> None:
        shares: list[Share] = []
        try:
            self._take(shares)
            write(shares)
        except BaseException as error:
            mine = error if isinstance(error, Exception) else _cut_off(error)
            for share in shares:
                if not share.is_done:
                    share.error = mine
            if not isinstance(error, Exception):
                raise
        finally:
            for share in shares:
                share.end()

    def _take(self, taken: list[Share]) -> None:
        count = 0
        with self._lock:
            while self._waiting and count < _MOST_EPISODES:
                taken.append(self._waiting.first())  # before, so that an interrupt loses nobody
                self._waiting.take(taken[-1])
                count += len(taken[-1].batch)

    def renew(self) -> None:
        """Start over in a forked copy: nobody leads there, whatever was so in the parent."""
        self._start_over()


def _cut_off(error: BaseException) -> EpisodeStoreError:
    told = f"the thread that was writing for others was cut off ({type(error).__name__}); nothing was stored"
    return EpisodeStoreError(told, path="")


def taken(writing: Writing, shares: Sequence[Share]) -> Sequence[Share]:
    """Take what callers want into one transaction; return whose could be taken, the others get their errors.

    All at once, which costs less than one after the other, unless one of them is refused.
    """
    try:
        writing.add([each for share in shares for each in share.batch])
    except (EpisodeInvalid, EpisodeConflict, CapacityExceeded):
        return _each_taken(writing, shares)
    return shares


def _each_taken(writing: Writing, shares: Sequence[Share]) -> Sequence[Share]:
    whole = []
    for share in shares:
        try:
            writing.add(share.batch)
            whole.append(share)
        except (EpisodeInvalid, EpisodeConflict, CapacityExceeded) as error:
            share.error = error
    return whole
