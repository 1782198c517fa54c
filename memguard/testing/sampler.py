"""A sampler that plays a written series instead of reading a process tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from memguard.host.readings import Exactness, ProcessReading, SharedFile, TreeReading

__all__ = ["ScriptedSampler", "tree_reading"]


def tree_reading(
    private_bytes: int, *, shared_bytes: int = 0, at_s: float = 0.0, pid: int = 4_000_001, exact: bool = False
) -> TreeReading:
    """Return the reading of a tree that is one process.

    Args:
        private_bytes: its private memory.
        shared_bytes: shared memory it created; 0 for none.
        at_s: monotonic seconds.
        pid: the default is above what a usual kernel hands out (4,194,304 at the very most).
        exact: whether it looks like an exact reading.
    """
    process = ProcessReading(
        pid=pid,
        parent_pid=1,
        start_ticks=1,
        name="scripted",
        private_bytes=private_bytes,
        pss_bytes=private_bytes if exact else None,
        rss_bytes=private_bytes + shared_bytes,
        swap_bytes=0,
    )
    files = (SharedFile("/dev/shm/scripted", 1, 1, shared_bytes),) if shared_bytes else ()
    return TreeReading((process,), files, Exactness.EXACT if exact else Exactness.CHEAP, at_s)


class ScriptedSampler:
    """Plays a list of readings, one for each `sample`; the last one is repeated for ever.

    Has the methods of `memguard.host.TreeSampler`. It measures nothing, so it proves nothing about memory:
    use it for what decides on readings.

    Attributes:
        calls: what `sample` was asked so far, as (exact, shared).
    """

    def __init__(self, script: Iterable[TreeReading | int | Exception], *, interval_s: float = 0.01) -> None:
        """Take the script.

        Args:
            script: readings, plain used bytes, or errors to raise in a reading's place.
            interval_s: monotonic seconds between the readings that are made from plain bytes.

        Raises:
            ValueError: for an empty script.
        """
        self._script = tuple(script)
        if not self._script:
            raise ValueError("a scripted sampler needs one reading at least")
        self._interval_s = interval_s
        self._last: TreeReading | None = None
        self.calls: list[tuple[bool, bool]] = []

    def sample(self, exact: bool = False, shared: bool = False) -> TreeReading:
        """Return the next reading of the script.

        Raises:
            Exception: what the script has at this place.
        """
        place = min(len(self.calls), len(self._script) - 1)
        at_s = len(self.calls) * self._interval_s
        self.calls.append((exact, shared))
        step = self._script[place]
        if isinstance(step, Exception):
            raise step
        self._last = tree_reading(step, at_s=at_s, exact=exact) if isinstance(step, int) else step
        if exact and self._last.exactness is not Exactness.EXACT:
            self._last = replace(self._last, exactness=Exactness.EXACT)
        return self._last

    def processes(self) -> tuple[tuple[int, int], ...]:
        """Return (pid, start ticks) of the processes in the last reading."""
        return tuple((each.pid, each.start_ticks) for each in self._last.processes) if self._last else ()
