"""Holds one running process tree against its budget: measures, warns, and at the end leaves nothing of it.

Comes in: the pid of a tree's first process, its fence if there is one, its lines. Goes out: notices while it runs,
figures and a verified cleanup when it ends. Used by the keeper of a job and by ``memguard run`` alike. It samples:
between two looks the fence alone bounds the tree. What fails here is recorded as `degraded` and never fails the job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from memguard.host import (
    Fence,
    TreeSampler,
    kill_processes,
    machine_oom_kills,
    machine_shared_bytes,
    shared_memory_there,
    start_ticks,
    wait_all_gone,
)
from memguard.host.readings import FenceReading, SharedFile
from memguard.report import CleanupSummary, ProcessUse
from memguard.worker.protocol import leading_that_fit
from memguard.worker.shared_traces import SharedNote, SharedTraces
from memguard.worker.verdict import Delivery, Ending, StopReason
from memguard.worker.watch import Notice, UsageWatch, WatchLimits

__all__ = ["TreeGuard"]

# Finding a tree's shared files costs milliseconds, and only its cleanup needs them: whoever clears up after a guard
# that was killed knows those that it had seen. A file made in /dev/shm itself is looked for at once.
_LIST_EVERY_S: Final = 0.5
# The largest processes are measured exactly, page tables walked, each time the tree has grown by a quarter: the cost
# of all walks together then stays a small multiple of the last one.
_LIST_AT_GROWTH: Final = 1.25
_SMALLEST_LISTED_BYTES: Final = 16 * 1024 * 1024
_TOP_PROCESSES: Final = 8
_SHARED_MEMORY: Final = "/dev/shm"
# The clock that stamps files ticks in steps of up to 10 ms behind the one we read.
_FILE_CLOCK_S: Final = 0.02
# What is told of what had to be removed; a job may leave thousands of files.
_MOST_LEFTOVERS: Final = 50
# It travels in one message of 64 KiB; a path may have 4 KiB.
_MOST_LEFTOVER_BYTES: Final = 32 * 1024
# An exact reading walks page tables; without a fence it is taken this often at most, and near a line always.
_EXACT_EVERY_S: Final = 0.25
# Looking whose new shared memory is costs more than a millisecond: not for every page that somebody shares.
_SMALLEST_GROWTH_BYTES: Final = 1024 * 1024
_GROWTH_TO_LOOK_AT: Final = 0.25
_UNLISTED: Final = "the tree could not be listed: {}"
# A killed process leaves within milliseconds unless it has gigabytes to free or waits for a disk.
_GONE_WAIT_S: Final = 5.0


class _Meter(Protocol):
    def used_bytes(self, now_s: float, *, line_bytes: int) -> int: ...


class _FenceMeter:
    """Use as the kernel charges it: exact, the whole tree in one read."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self.last: FenceReading | None = None
        self.most_cache_bytes = 0

    def used_bytes(self, now_s: float, *, line_bytes: int) -> int:
        self.last = self._fence.read()
        self.most_cache_bytes = max(self.most_cache_bytes, self.last.cache_bytes)
        return self.last.used_bytes


class _TreeMeter:
    """Use by adding up the tree: a cheap figure corrected by an exact one taken now and then.

    The cheap figure counts pages inherited from a parent as private, so it errs upwards, and shared memory not at all:
    the difference of the private part to the last exact figure is subtracted, the shared part of that one is added,
    and a fresh exact one is taken before anything is decided, and when the machine's shared memory has grown by a good
    part of what was left to the line.
    """

    def __init__(self, sampler: TreeSampler) -> None:
        self._sampler = sampler
        self._surplus = 0
        self._shared_bytes = 0
        self._machine_shared_bytes = 0
        self._exact_at_s = -_EXACT_EVERY_S

    def used_bytes(self, now_s: float, *, line_bytes: int) -> int:
        cheap = self._sampler.sample().private_bytes
        used = max(0, cheap - self._surplus) + self._shared_bytes
        is_fresh = now_s - self._exact_at_s < _EXACT_EVERY_S
        if used < line_bytes and is_fresh and not self._shared_may_reach(line_bytes - used):
            return used
        self._machine_shared_bytes = machine_shared_bytes()
        exact = self._sampler.sample(exact=True, shared=True)
        self._surplus, self._exact_at_s = max(0, cheap - exact.private_bytes), now_s
        self._shared_bytes = exact.shared_bytes
        return exact.used_bytes

    def _shared_may_reach(self, room_bytes: int) -> bool:
        grown = machine_shared_bytes() - self._machine_shared_bytes
        return grown > max(_SMALLEST_GROWTH_BYTES, room_bytes * _GROWTH_TO_LOOK_AT)


class TreeGuard:
    """Guards the tree below ``root_pid`` until `finish`.

    ``adopted`` lists the children of the guarding process, its own helpers left out: a subreaper finds there what
    escaped by a double fork. ``shared_before`` is `memguard.host.shared_memory_there` from before the tree began,
    taken now if it is not given.

    The owner calls `tick` as often as `next_wait_s` says, acts on the notices, reaps the first process itself, and
    calls `finish` on every path.
    """

    def __init__(
        self,
        root_pid: int,
        fence: Fence | None,
        limits: WatchLimits,
        *,
        adopted: Callable[[], tuple[tuple[int, int], ...]],
        shared_before: frozenset[tuple[int, int]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root_pid = root_pid
        self.fence = fence
        self.watch = UsageWatch(limits)
        self.degraded: dict[str, None] = {}
        self.processes_at_peak: tuple[ProcessUse, ...] = ()
        self._adopted = adopted
        self._clock = clock
        self._sampler = TreeSampler(root_pid, learn_inherited=fence is None)
        self._meter: _Meter = _FenceMeter(fence) if fence else _TreeMeter(self._sampler)
        self._traces = SharedTraces(
            shared_memory_there() if shared_before is None else shared_before,
            SharedNote(makers=self._sampler.met_since()),
        )
        self._started_wall_s = time.time()
        self._listed_at_s = clock()
        self._shared_changed_ns = _shared_changed_ns()
        self._listed_peak = _SMALLEST_LISTED_BYTES
        self._oom_kills_at_start = machine_oom_kills()

    @property
    def machine_oom_kills(self) -> int:
        """Out-of-memory kills on the machine since this guard began."""
        return machine_oom_kills() - self._oom_kills_at_start

    @property
    def last_fence_reading(self) -> FenceReading | None:
        """The latest reading of the fence; ``None`` without one."""
        return self._meter.last if isinstance(self._meter, _FenceMeter) else None

    @property
    def shared_files(self) -> tuple[SharedFile, ...]:
        """The entries of /dev/shm that are known to be the tree's, and that were there at the last look."""
        return self._traces.last.files

    @property
    def shared_note(self) -> SharedNote:
        """What whoever clears up in /dev/shm must know should this guard be killed."""
        return self._traces.last

    def tick(self) -> tuple[Notice, ...]:
        """Measure once; returns what is new. A kill by the kernel inside the fence counts as exceeding."""
        now = self._clock()
        if isinstance(self._meter, _TreeMeter):
            self._adopt_orphans()  # a fence counts them wherever they are
        try:
            used = self._meter.used_bytes(now, line_bytes=self._next_line())
            notices = self.watch.observe(used)
            if Notice.NEARED in notices:
                # The kernel may kill before the next look; whose a named file in /dev/shm was, nothing tells then.
                self._note_shared()
            self._list_sometimes(now)
        except OSError as error:
            self.degraded[f"use could not be read: {error}"] = None
            self._meter = _TreeMeter(
                self._sampler
            )  # whatever is wrong with the fence, the tree can be added up
            return ()
        reading = self.last_fence_reading
        if reading is not None and reading.oom_kills and Notice.EXCEEDED not in notices:
            notices = (*notices, Notice.EXCEEDED)
        return notices

    def next_wait_s(self) -> float:
        """Seconds until the next `tick` is due."""
        return self.watch.next_interval_s()

    def _next_line(self) -> int:
        limits = self.watch.limits
        return limits.limit_bytes if self.watch.used_bytes >= limits.warn_bytes else limits.warn_bytes

    def _list_sometimes(self, now_s: float) -> None:
        if self.watch.used_bytes > self._listed_peak * _LIST_AT_GROWTH:
            self._list_processes()
        changed_ns = _shared_changed_ns()
        if now_s - self._listed_at_s >= _LIST_EVERY_S or changed_ns != self._shared_changed_ns:
            self._listed_at_s, self._shared_changed_ns = now_s, changed_ns
            self._note_shared()

    def _list_processes(self) -> None:
        self._listed_peak = max(self.watch.used_bytes, _SMALLEST_LISTED_BYTES)
        self.processes_at_peak = self._largest_processes()

    def _largest_processes(self) -> tuple[ProcessUse, ...]:
        processes = self._sampler.sample(exact=True).processes
        largest = sorted(processes, key=lambda each: -each.private_bytes)[:_TOP_PROCESSES]
        return tuple(ProcessUse(p.pid, p.name, p.private_bytes) for p in largest)

    def _list_before_kill(self) -> None:
        """List the processes anew: what grew in a burst was listed last when it was small."""
        try:
            there = self._largest_processes()
        except OSError as error:
            self.degraded[_UNLISTED.format(error)] = None
            return
        if _private_sum(there) > _private_sum(self.processes_at_peak):
            self.processes_at_peak = there

    def ignore_shared(self, descriptor: int) -> None:
        """Leave a segment out of the tree's use, because its pages are charged to somebody else."""
        status = os.fstat(descriptor)
        self._sampler.ignore_shared((status.st_dev, status.st_ino))

    def look_before_end(self) -> None:
        """Note what a job holds of shared memory while it is still there, if any was made since it began."""
        with contextlib.suppress(FileNotFoundError):
            if os.stat(_SHARED_MEMORY).st_mtime >= self._started_wall_s - _FILE_CLOCK_S:
                self._note_shared()

    def signal_root(self, number: int) -> None:
        """Send a signal to the tree's first process; it has not been reaped, so the pid is still its own."""
        try:
            os.kill(self.root_pid, number)
        except PermissionError as error:  # it became another user, as `sudo` does
            self.degraded[f"{signal.Signals(number).name} could not be passed on: {error}"] = None

    def kill_all(self) -> None:
        """Kill the whole tree with SIGKILL."""
        if self.fence is None:
            # Looking for its shared memory takes milliseconds in which nothing else would stop it from growing.
            kill_processes(self._members(), signal.SIGSTOP)
        self._note_shared()
        self._list_before_kill()
        try:
            if self.fence is not None:
                self.fence.kill_all()
            kill_processes(self._members(), signal.SIGKILL)
        except OSError as error:
            self.degraded[f"the tree could not be killed: {error}"] = None

    def _members(self) -> tuple[tuple[int, int], ...]:
        fenced = self.fence.pids() if self.fence is not None else ()
        self._adopt_orphans()
        known = dict(self._sampler.processes())
        return (
            *known.items(),
            *((pid, ticks) for pid in fenced if pid not in known and (ticks := start_ticks(pid))),
        )

    def _adopt_orphans(self) -> None:
        for pid, _ in self._adopted():
            self._sampler.adopt(pid)

    def ending(
        self, exit_code: int, delivery: Delivery, stop_reason: StopReason | None, fence_kind: str
    ) -> Ending:
        """Gather what was seen of the end."""
        fence = self.last_fence_reading
        return Ending(
            exit_code=exit_code,
            delivery=delivery,
            stop_reason=stop_reason,
            limit_bytes=self.watch.limits.limit_bytes,
            peak_bytes=self.watch.peak_bytes,
            fence_kind=fence_kind,
            fence_oom_kills=fence.oom_kills if fence else 0,
            fence_limit_hits=fence.limit_hits if fence else 0,
            fence_high_water_bytes=fence.high_water_bytes if fence else None,
            fence_most_cache_bytes=self._meter.most_cache_bytes
            if isinstance(self._meter, _FenceMeter)
            else None,
            machine_oom_kills=self.machine_oom_kills,
        )

    def _note_shared(self) -> None:
        try:
            self._adopt_orphans()
            for pid in self.fence.pids() if self.fence is not None else ():
                self._sampler.adopt(pid)
            held = self._sampler.sample(shared=True).shared_files
            self._traces.note(held, self._sampler.met_since())
        except OSError as error:
            self.degraded[_UNLISTED.format(error)] = None

    def finish(self, grace_s: float, *, remove_shared: bool) -> CleanupSummary:
        """End what is left of the tree and verify that it is gone.

        Args:
            grace_s: how long what the first process left running may take to end by itself after SIGTERM.
            remove_shared: remove what the tree made in /dev/shm and nobody else holds.

        Returns:
            What was done; ``verified`` only if processes, fence and (if asked) shared memory were seen gone.
        """
        started = self._clock()
        killed = self._end_stragglers(grace_s)
        gone = wait_all_gone(self._members(), _GONE_WAIT_S)
        told, cleared = self._clear_shared() if remove_shared else ([], True)
        fence_gone = self._remove_fence()
        verified = gone and cleared and fence_gone
        return CleanupSummary(self._clock() - started, verified, _shortened([*killed, *told]))

    def _end_stragglers(self, grace_s: float) -> list[str]:
        self._note_shared()
        stragglers = self._stragglers()
        if not stragglers:
            return []
        # Most are helpers such as multiprocessing's resource tracker, which end by themselves and must be let:
        # it is they who unlink shared memory. They ignore SIGTERM.
        kill_processes(stragglers, signal.SIGTERM)
        wait_all_gone(stragglers, grace_s)
        killed = self._kill_stubborn(self._clock() + _GONE_WAIT_S)
        return [f"process {pid} outlived the job and was killed" for pid, _ in killed]

    def _kill_stubborn(self, deadline_s: float) -> dict[tuple[int, int], None]:
        """Kill who ignored SIGTERM, and whom they started meanwhile, until nobody is left."""
        killed: dict[tuple[int, int], None] = {}
        while (stubborn := self._stragglers()) and self._clock() < deadline_s:
            self.kill_all()
            wait_all_gone(stubborn, _GONE_WAIT_S)
            killed.update(dict.fromkeys(stubborn))
        return killed

    def _stragglers(self) -> tuple[tuple[int, int], ...]:
        return tuple(
            (pid, ticks)
            for pid, ticks in self._members()
            if pid != self.root_pid and start_ticks(pid) == ticks  # the dead that wait to be reaped left out
        )

    def _clear_shared(self) -> tuple[list[str], bool]:
        return self._traces.clear(self._sampler.met_since(), self._started_wall_s)

    def _remove_fence(self) -> bool:
        if self.fence is None:
            return True
        try:
            self.fence.remove()
        except OSError as error:
            self.degraded[f"the fence {self.fence.path} could not be removed: {error}"] = None
            return False
        return True


def _private_sum(processes: Iterable[ProcessUse]) -> int:
    return sum(each.private_bytes for each in processes)


def _shared_changed_ns() -> int:
    """Return when a file was last made in /dev/shm, or removed; 0 where that does not exist."""
    try:
        return os.stat(_SHARED_MEMORY).st_mtime_ns
    except OSError:
        return 0


def _shortened(lines: list[str]) -> tuple[str, ...]:
    told = leading_that_fit(lines[:_MOST_LEFTOVERS], _MOST_LEFTOVER_BYTES)
    more = len(lines) - len(told)
    return (*told, *([f"and {more} more"] if more > 0 else []))
