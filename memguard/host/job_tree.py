"""A job's processes as somebody else sees them who must act on all at once: measured, stopped, continued, killed.

Comes in: the first process of the tree, and who guards it. Goes out: what it uses, and signals to whoever is of it now:
its descendants, and all that is in the fence around it. Guards are left alone, and so is whoever somebody else stopped.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from typing import Final

from memguard.host._files import find_flat
from memguard.host.cgroups import find_places
from memguard.host.fence import FENCE_LAYOUTS, fence_pids
from memguard.host.fence_names import parse_fence_name
from memguard.host.identity import ProcessStat, read_stat
from memguard.host.kill import kill_processes
from memguard.host.tree import TreeSampler
from memguard.host.watcher import KernelFile

__all__ = ["JobTree"]

_STOPPED: Final = frozenset("Tt")
# A tree that forks as fast as it can has a few more each time; it is stopped from its root on, so this is far more
# than it takes.
_MOST_ROUNDS: Final = 100
_LOOKS: Final = 2
# A transaction takes a millisecond or two; whoever needs longer is stuck.
_FINISH_S: Final = 0.02


class JobTree:
    """The processes of one job. Owns descriptors until `close`. For one thread.

    Args:
        root_pid: the first process.
        root_ticks: when it started.
        guards: processes that are never touched, whatever is around them.
    """

    def __init__(self, root_pid: int, root_ticks: int, guards: Collection[int] = ()) -> None:
        self.root = root_pid, root_ticks
        self._guards = frozenset((os.getpid(), *guards))
        # Of a root that is gone nobody is left to be known: its pid may be another's by now.
        self._sampler = TreeSampler(root_pid if self.is_alive else 0, learn_inherited=False)
        self._stopped: dict[int, int] = {}
        self._known_fence: tuple[str, str] | None = None
        self._meter: _FenceMeter | None = None
        self._meter = self._open_meter()

    def _open_meter(self) -> _FenceMeter | None:
        fence = self._fence()
        try:
            return None if fence is None else _FenceMeter(*fence)
        except OSError:  # it was removed at this moment
            return None

    def _fence(self) -> tuple[str, str] | None:
        """Return path and kind of the fence that is around this tree and nobody else, the last one known at its end."""
        if self.is_alive:
            self._known_fence = self._find_fence()
        return self._known_fence

    def _find_fence(self) -> tuple[str, str] | None:
        try:
            places = find_places(of=self.root[0])
        except OSError:
            return None
        for place in places:
            for directory in reversed(place.directories):
                if parse_fence_name(directory) is not None:
                    return (directory, place.kind) if self._is_own(directory) else None
        return None

    def _is_own(self, directory: str) -> bool:
        # A guard is never in the fence of its own job; where one is inside, it is the fence of a job around that guard.
        parent = _stat(self.root[0])
        guards = self._guards if parent is None else self._guards | {parent.parent_pid}
        try:
            return not guards.intersection(fence_pids(directory))
        except OSError:
            return False

    @property
    def is_alive(self) -> bool:
        """Whether its first process still runs."""
        stat = _stat(self.root[0])
        return stat is not None and stat.start_ticks == self.root[1] and not stat.is_dead

    def fence_bytes(self) -> int | None:
        """Return what is charged to its fence, file cache left out; ``None`` without a fence."""
        if self._meter is None:
            return None
        try:
            return self._meter.read()
        except (OSError, ValueError):
            self._meter.close()
            self._meter = None
            return None

    def private_bytes(self) -> int:
        """Return the private memory of its processes by the cheap figure, which may count what they inherited."""
        return self._sampler.sample().private_bytes

    def stop(self) -> None:
        """Stop all its processes, those too that are forked meanwhile; once or many times."""
        looks = 0
        for _ in range(_MOST_ROUNDS):
            found = {pid: ticks for pid, ticks, stat in self._members() if not _is_still(stat)}
            kill_processes(found.items(), signal.SIGSTOP)
            self._stopped |= found
            # The kernel's list of children may leave one out while another one dies; it is whole when all stand still.
            looks = 0 if found else looks + 1
            if looks == _LOOKS:
                return

    def go_on(self) -> None:
        """Let its processes go on, but for those that were stopped before `stop`.

        Where this object stopped none, somebody else did in its place, and all of them go on.
        """
        held = [(pid, ticks) for pid, ticks, stat in self._members() if stat.state in _STOPPED]
        known = self._stopped.items()
        kill_processes([each for each in held if not known or each in known], signal.SIGCONT)
        self._stopped = {}

    def let_finish(self, pid: int, is_busy: Callable[[], bool], within_s: float = _FINISH_S) -> None:
        """Let one of its stopped processes go on until it is no longer busy, or so long at most, and stop it again."""
        who = [(member, ticks) for member, ticks, _ in self._members() if member == pid]
        until_s = time.monotonic() + within_s
        while who and time.monotonic() < until_s:
            kill_processes(who, signal.SIGCONT)
            while is_busy() and time.monotonic() < until_s:
                pass  # a moment of sleep, and it is busy again
            kill_processes(who, signal.SIGSTOP)
            if not is_busy():
                return

    def kill(self) -> None:
        """Kill all its processes and have their memory freed at once where the kernel can; does not wait."""
        kill_processes([(pid, ticks) for pid, ticks, _ in self._members()])

    def pids(self) -> frozenset[int]:
        """Return who is in it now."""
        return frozenset(pid for pid, _, _ in self._members())

    def _members(self) -> Iterator[tuple[int, int, ProcessStat]]:
        """Give everybody alive in it, parents first."""
        met: set[int] = set(self._guards)
        for pid in (*(pid for pid, _ in self._sampler.processes()), *self._fenced()):
            stat = _stat(pid)
            if pid not in met and stat is not None and not stat.is_dead:
                met.add(pid)
                yield pid, stat.start_ticks, stat

    def _fenced(self) -> tuple[int, ...]:
        # Looked up each time: a fence may be renamed while it is used.
        fence = self._fence()
        try:
            return fence_pids(fence[0]) if fence is not None else ()
        except OSError:
            return ()

    def close(self) -> None:
        """Close the descriptors; once or many times."""
        if self._meter is not None:
            self._meter.close()
        self._meter = None


class _FenceMeter:
    """Reads what is charged to a fence, file cache left out, from files that stay open."""

    def __init__(self, path: str, kind: str) -> None:
        self._layout = FENCE_LAYOUTS[kind]
        # In v2 the processes live one level below the limit; the fence is the directory that has its name.
        self._usage = KernelFile(f"{path}/{self._layout.usage}", 64)
        self._stat = KernelFile(f"{path}/memory.stat")

    def read(self) -> int:
        stat = self._stat.read()
        cache = find_flat(stat, self._layout.cache) - find_flat(stat, self._layout.shmem)
        return max(0, int(self._usage.read()) - cache)

    def close(self) -> None:
        self._usage.close()
        self._stat.close()


def _stat(pid: int) -> ProcessStat | None:
    try:
        return read_stat(pid)
    except (OSError, ValueError):
        return None


def _is_still(stat: ProcessStat) -> bool:
    return stat.state in _STOPPED or stat.is_dead
