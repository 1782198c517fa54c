"""A process tree watched from outside: samples by the clock, for what cannot be run again and again from within.

Comes in: the pid of the tree's first process. Goes out: a `Series` whose iterations are samples. Seen are private
memory, descriptors, threads and shared memory; who holds what grows only the process itself could tell.
"""

from __future__ import annotations

from typing import Final

from memguard.host import TreeSampler
from memguard.host.counts import descriptors_and_threads
from memguard.leaks.records import Channel
from memguard.leaks.series import CHANNELS, Series

__all__ = ["OutsideWatch"]

_PLACE: Final = {channel: place for place, channel in enumerate(CHANNELS)}


class OutsideWatch:
    """Samples a process and its descendants.

    Args:
        pid: the first process.
        left_out: pids of it that are not to count, those of a guard around it.
    """

    def __init__(self, pid: int, *, left_out: frozenset[int] = frozenset()) -> None:
        self.series = Series()
        self._left_out = left_out
        self._tree = TreeSampler(pid)

    def sample(self) -> bool:
        """Take a sample; tell whether anybody was there."""
        reading = self._tree.sample(exact=True, shared=True)
        members = [each for each in reading.processes if each.pid not in self._left_out]
        if not members:
            return False
        descriptors, threads = descriptors_and_threads(each.pid for each in members)
        self._put(Channel.USS, sum(each.private_bytes for each in members))
        self._put(Channel.FDS, descriptors)
        self._put(Channel.THREADS, threads)
        self._put(Channel.SHARED, sum(each.allocated_bytes for each in reading.shared_files))
        self.series.advance()
        return True

    def _put(self, channel: Channel, value: float) -> None:
        self.series.put(_PLACE[channel], value)
