"""Adds of many callers under one commit: whoever comes first writes for all who came meanwhile.

Comes in: a prepared batch from each caller's thread. Goes out: ids, or the caller's own error. A commit waits for the
disk, and the disk takes no longer for a hundred than for one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from memguard.episodes.preparing import Prepared
from memguard.episodes.turns import Line
from memguard.episodes.writing import Writing
from memguard.errors import CapacityExceeded, EpisodeConflict, EpisodeInvalid, EpisodeStoreError

__all__ = ["Group", "Share", "taken"]

# So much is written under one commit at the most, so that the first does not wait for ever.
_MOST_EPISODES: Final = 4096
# Callers that were just written for mostly come again at once. They are waited for while they come, in gaps of so much
# of the last commit's time: one commit does for all of them then, in place of one for the first and one for the rest.
_PATIENCE: Final = 0.5
_SHORTEST_GAP_S: Final = 0.0002
_LONGEST_GAP_S: Final = 0.001
_MOST_GAPS: Final = 8


class Share:
    """What one caller wants written.

    Attributes:
        batch: the episodes.
        ids: what they are called, once it is written.
        error: why it was not.
        following: whom its caller wakes when it is his turn to go on.
        is_left: whether its caller went on, and wakes nobody any more.
    """

    __slots__ = ("_done", "batch", "error", "following", "ids", "is_left")

    def __init__(self, batch: Sequence[Prepared]) -> None:
        self.batch = batch
        self.ids: list[str] | None = None
        self.error: BaseException | None = None
        self.following: Share | None = None
        self.is_left = False
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
        try:  # noqa: SIM105 - in a third of the time, for each add
            self._done.release()
        except RuntimeError:  # woken before
            pass

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
        # How many the last commit was for or left waiting, when it was over, and how long a gap they may leave.
        self._expected, self._ended_s, self._gap_s = 1, 0.0, 0.0
        # Held by whoever waits for them, until the last has come.
        self._gathering: threading.Lock | None = None

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
            if self._join(share):
                self._write_some(write, [share])
            elif self._leader is not share:
                share.wait()
            while not share.is_done:
                self._write_some(write, [])
        finally:
            # Also where an interrupt came while it waited, or comes now: whoever is next must not wait for ever.
            try:
                self._leave(share)
            except BaseException:
                self._leave(share)
                raise
        if share.error is not None:
            raise share.error
        assert share.ids is not None
        return share.ids

    def _join(self, share: Share) -> bool:
        """Take a share in; returns whether its caller is alone, and was so last time: then it stands in no line."""
        with self._lock:
            if self._leader is None and self._expected <= 1 and not self._waiting:
                self._leader = share
                return True
            self._waiting.append(share)
            if self._leader is None:
                self._leader = share
            elif self._gathering is not None and len(self._waiting) >= self._expected:
                self._gathering.release()
                self._gathering = None
        return False

    def _gather(self) -> None:
        """Wait a moment for those who were written for last time; for nobody, where this caller is alone."""
        with self._lock:
            here = len(self._waiting)
            if here >= self._expected or time.monotonic() - self._ended_s > self._gap_s:
                return
            self._gathering = gate = threading.Lock()
            gate.acquire()
        for _ in range(_MOST_GAPS):
            before, is_full = here, gate.acquire(timeout=self._gap_s)
            here = len(self._waiting)
            if is_full or here == before:
                break
        with self._lock:
            self._gathering = None

    def _leave(self, share: Share) -> None:
        """Take a share out of the line, wake the next, and let the next caller lead if its own did."""
        leading = None
        with self._lock:
            share.is_left = True
            if not share.is_done and share in self._waiting:  # who is done was taken out before
                self._waiting.remove(share)
            if self._leader is share:
                self._leader = leading = self._waiting.first() if self._waiting else None
        for each in (share.following, leading):
            if each is not None:
                each.end()

    def _write_some(self, write: Write, shares: list[Share]) -> None:
        """Write shares; where none are given, those whose turn it is."""
        took_s = 0.0
        try:
            if not shares:
                self._gather()
                self._take(shares)
            began_s = time.monotonic()
            write(shares)
            took_s = time.monotonic() - began_s
        except BaseException as error:
            mine = error if isinstance(error, Exception) else _cut_off(error)
            for share in shares:
                if not share.is_done:
                    share.error = mine
            if not isinstance(error, Exception):
                raise
        finally:
            self._wake(shares)
        self._expect(len(shares), took_s)

    def _wake(self, shares: Sequence[Share]) -> None:
        """Wake the first, who wakes the second as he goes on, and so forth.

        Of many that are woken at once each but one finds the interpreter taken, again and again.
        """
        with self._lock:
            here = [share for share in shares if not share.is_left]
            for one, following in pairwise(here):
                one.following = following
        if here:
            here[0].end()

    def _expect(self, written: int, took_s: float) -> None:
        with self._lock:
            self._expected = written + len(self._waiting)
            self._gap_s = min(_LONGEST_GAP_S, max(_SHORTEST_GAP_S, _PATIENCE * took_s))
            self._ended_s = time.monotonic()

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
