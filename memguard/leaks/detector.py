"""`LeakDetector`: tell it when an iteration ends, and ask it at the end.

Comes in: the ends of iterations of some work in this process. Goes out: a `LeakReport`. It adds some ten microseconds
to an iteration; at the ends of blocks, each an eighth of what is over, it collects garbage, and twice in all it takes a
census of all objects (see census.py). What other threads do meanwhile counts as the work's.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from memguard.leaks.census import Census
from memguard.leaks.channels import examine, may_grow, window_of
from memguard.leaks.judge import judge
from memguard.leaks.records import Channel, ChannelFinding, Explained, LeakReport, Shape
from memguard.leaks.sampler import Sampler, is_collecting
from memguard.leaks.series import CHANNELS, Series
from memguard.leaks.snapshot import Snapshot
from memguard.leaks.sources import NativeSources, SourceReading, likely_sources

__all__ = ["LeakDetector"]

_SHORTEST_BLOCK: Final = 5
_YOUNGEST_SNAPSHOT: Final = 5
# A cheap watch asks itself after so many iterations, and at each doubling, whether it should look closer.
_FIRST_SUSPICION: Final = 40
_CLOSER_LOOK: Final = 30
_SUSPICIOUS: Final = frozenset({Shape.GROWING, Shape.UNCLEAR})
# Seconds for each object that the collector tracks, measured: six collections and two censuses. There are about four
# blocks to such an object; to count the objects themselves would take ten milliseconds each time.
_CLOSER_LOOK_S: Final = (6 * 0.4e-6 + 2 * 6e-6) / 4
# What grew by as much is worth a closer look whatever that takes.
_WORTH_BYTES: Final = 64 * 1024**2
_IN_BYTES: Final = frozenset({Channel.USS, Channel.LIVE, Channel.SHARED})
_COUNTED: Final = frozenset({Channel.FDS, Channel.THREADS})


class LeakDetector:
    """Watches a loop in this process and says whether it leaks, how much, what, and who holds it.

    ``with LeakDetector(200) as detector: for ...: work(); detector.iteration()``, then `report`. For one thread.
    A leak of a few hundred bytes an iteration takes some 40 iterations, one below noise a few hundred.

    Args:
        iterations: how many are planned, so that blocks come out even; ``None`` if nobody knows.
        warm_up: iterations that are left out; by default a quarter of all, ten at least.
        thorough: collect garbage, give free memory back and take censuses. Without, only what is cheap is read, until
            that gives reason to look closer; a verdict then takes as many iterations again.
        contents: whether culprits may be told with keys, not only with types and sizes.
        share: of the time that closer looks may take, for one that is not thorough: a suspicion waits until enough time
            has gone by, or until 64 MiB have grown. To read what is cheap takes as much again.

    Raises:
        OSError: on a system without /proc; on such there is no detector.
    """

    def __init__(
        self,
        iterations: int | None = None,
        *,
        warm_up: int | None = None,
        thorough: bool = True,
        contents: bool = False,
        share: float = 0.005,
    ) -> None:
        self._planned = iterations
        self._share, self._began_s, self._spent_s = share, time.perf_counter(), 0.0
        self._may_census = thorough
        self._warm_up = warm_up
        self._thorough = thorough
        self._ends = frozenset(_planned_ends(iterations, warm_up)) if iterations else frozenset()
        self.series = Series(min(4096, (iterations or 4094) + 2))
        self._sampler = Sampler(self.series, forcing=thorough)
        self._census = Census(contents=contents)
        self._sources = NativeSources()
        self._next_end = _SHORTEST_BLOCK
        # One that is thorough from the beginning stays so.
        self._next_suspicion = math.inf if thorough else _FIRST_SUSPICION
        # The newest may be too young to tell a trend from; then the one before it is used.
        self._snapshots: list[tuple[int, Snapshot, SourceReading]] = []
        self._report: LeakReport | None = None
        self._census.leave_out(self, self.series, self._sampler, self._sources)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def iteration(self) -> None:
        """Say that an iteration is over."""
        self._sampler.probe()
        if self._thorough and (self.series.iterations in self._ends or (not self._ends and self._is_due())):
            self._end_block()
        if self.series.iterations >= self._next_suspicion:
            self._reconsider()

    def iterations(self, count: int) -> Iterator[int]:
        """Yield numbers from 0 on; each iteration of the loop over them counts as one."""
        for number in range(count):
            yield number
            self.iteration()

    def run(self, work: Callable[[], object], iterations: int) -> LeakReport:
        """Call a function again and again, and report; what it returns is dropped at once."""
        for _ in self.iterations(iterations):
            work()
        return self.finish()

    def _is_due(self) -> bool:
        done = self.series.iterations
        if done < self._next_end:
            return False
        self._next_end = done + max(_SHORTEST_BLOCK, done // 8)
        return True

    def _end_block(self) -> None:
        began_s = time.perf_counter()
        self._sampler.end_block()
        if self._may_census and self._wants_snapshot():
            with self._sampler.uncounted():
                self._take_snapshot()
        self._spent_s += time.perf_counter() - began_s

    def _wants_snapshot(self) -> bool:
        done = self.series.iterations
        if self._planned is not None:
            return not self._snapshots
        return done >= 10 and (not self._snapshots or done >= 4 * self._snapshots[-1][0])

    def _take_snapshot(self) -> None:
        done = self.series.iterations
        self._snapshots = [*self._snapshots[-1:], (done, self._census.take(), self._sources.read(done))]

    def _reconsider(self) -> None:
        """Look closer for a suspicion, or no longer for one that did not hold."""
        window = window_of(self.series, self._warm_up)
        moving = (each for each in CHANNELS if self._thorough or may_grow(self.series, each))
        findings = (examine(self.series, channel, window) for channel in moving)
        suspects = [each for each in findings if each is not None and each.shape in _SUSPICIOUS]
        suspicious = bool(suspects) and (self._thorough or self._is_worth_it(suspects))
        # Many a suspicion ends once garbage is collected; a census is for those that do not.
        self._may_census = suspicious and self._thorough
        if suspicious is not self._thorough:
            self._thorough = suspicious
            self._sampler.force(suspicious)
            self._warm_up = self.series.iterations if suspicious else None
            self._next_end = self.series.iterations
        closer = self.series.iterations + max(_CLOSER_LOOK, self.series.iterations // 2)
        # One that waits is looked at earlier than none.
        self._next_suspicion = closer if suspects else 2 * self.series.iterations

    def _is_worth_it(self, suspects: Sequence[ChannelFinding]) -> bool:
        if any(each.channel in _COUNTED and each.grows for each in suspects):
            return True
        if any(each.channel in _IN_BYTES and each.growth >= _WORTH_BYTES for each in suspects):
            return True
        takes_s = _CLOSER_LOOK_S * sys.getallocatedblocks()
        return self._spent_s + takes_s <= self._share * (time.perf_counter() - self._began_s)

    @property
    def block_ends(self) -> frozenset[int]:
        """After which iterations blocks end, where that is planned; empty where the count is not known."""
        return self._ends

    @property
    def is_thorough(self) -> bool:
        """Whether garbage is collected and censuses are taken, from the beginning or for a suspicion."""
        return self._thorough

    def report_now(self) -> LeakReport:
        """Return what the samples say so far, without a collection, a census, culprits."""
        return judge(self.series, warm_up=self._warm_up)

    def finish(self) -> LeakReport:
        """End the watch and return the report; the same again if it is called again."""
        if self._report is None:
            try:
                self._report = self._conclude()
            finally:
                self._sources.close()
        return self._report

    def close(self) -> None:
        """End the watch without a last look, for one whose report nobody wants."""
        self._sources.close()

    def report(self) -> LeakReport:
        """Return the report; ends the watch if it has not ended yet."""
        return self.finish()

    def _conclude(self) -> LeakReport:
        done = self.series.iterations
        # Nothing of ours is in hand now, since the census would count it.
        if self._thorough and self.series.last_end < done:
            self._sampler.end_block()
        explained, sources = self._explain() if self._thorough and done else (None, ())
        if self._thorough and not is_collecting():
            self._sampler.end_block(last=True)
        return judge(self.series, warm_up=self._warm_up, explained=explained, sources=sources)

    def _explain(self) -> tuple[Explained | None, tuple[str, ...]]:
        done = self.series.iterations
        usable = [each for each in self._snapshots if done - each[0] >= min(20, done // 2)]
        # Where the look was cut short a young one still tells objects from what is native.
        usable = usable or [each for each in self._snapshots[:1] if done - each[0] >= _YOUNGEST_SNAPSHOT]
        if not usable:
            return None, ()
        start, snapshot, reading = usable[-1]
        explained = self._census.explain(snapshot, done - start)
        sources = self._sources.read(done)
        mapped = (sources.mapped_bytes - reading.mapped_bytes) / (done - start)
        explained = replace(explained, mapped_bytes=mapped)
        # The sum of what may have come from there is compared with the whole growth; it is private memory most often.
        grown = sum(sources.mappings.values()) - sum(reading.mappings.values())
        return explained, likely_sources(reading, sources, grown)


def _planned_ends(iterations: int, warm_up: int | None) -> range:
    """Cut all but the warm-up into equal blocks, as many as the judge likes."""
    wanted = max(10, iterations // 4) if warm_up is None else warm_up
    blocks = 6 if iterations - wanted < 60 else 10
    length = max(1, (iterations - wanted) // blocks)
    return range(iterations - length * blocks, iterations + 1, length)
