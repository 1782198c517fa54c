"""A process and all its descendants, measured together.

Comes in: the pid of the first process. Goes out: a `TreeReading` whenever asked. A member stays one
as long as it lives, also when its parent dies and somebody else adopts it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Final

from memguard.host import portable
from memguard.host._files import read_once
from memguard.host.identity import ProcessStat, read_stat
from memguard.host.readings import Exactness, ProcessReading, TreeReading
from memguard.host.shared import SharedMemoryFinder
from memguard.host.smaps import ExactMemory, Inherited, read_exact

__all__ = ["TreeSampler"]

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# A new process is looked for when the kernel has given out a pid since the last look; this often also
# without that sign, so that a kernel which hides it costs a delay and nothing worse.
_LOOK_ANYWAY_S: Final = 0.25
# A pid is given out a moment before its process can be seen below its parent: look a second time.
_LOOKS_AFTER_CHANGE: Final = 2
# Between vfork and exec a child *is* its parent's memory; longer than this nobody stays there.
_TWIN_AGE_S: Final = 1.0
_TWIN_PAGES: Final = 64
_INHERITS_NOTHING: Final = Inherited(0, 1.0)


class _Member:
    """What is remembered of a process between samples."""

    __slots__ = (
        "first_seen_s",
        "has_executed",
        "name",
        "parent_pid",
        "pid",
        "start_ticks",
        "statm",
        "threads",
    )

    def __init__(self, pid: int, stat: ProcessStat, now_s: float) -> None:
        self.pid = pid
        self.start_ticks = stat.start_ticks
        self.statm = f"/proc/{pid}/statm"
        self.first_seen_s = now_s
        self.refresh(stat)

    def refresh(self, stat: ProcessStat) -> None:
        self.parent_pid = stat.parent_pid
        self.name = stat.name
        self.threads = stat.threads
        self.has_executed = stat.has_executed

    def reading(self, private_bytes: int, rss_bytes: int, exact: ExactMemory | None) -> ProcessReading:
        return ProcessReading(
            pid=self.pid,
            parent_pid=self.parent_pid,
            start_ticks=self.start_ticks,
            name=self.name,
            private_bytes=private_bytes,
            pss_bytes=None if exact is None else exact.pss_bytes,
            rss_bytes=rss_bytes,
            swap_bytes=0 if exact is None else exact.swap_bytes,
        )


class TreeSampler:
    """Measures a process tree whenever asked.

    It samples: a process that lives shorter than the time between two samples can be missed, and so
    can a grandchild whose parent died before it was ever seen (unless the root is a subreaper, or
    `adopt` is told of it). Not safe to use from two threads at once.

    Args:
        root_pid: the first process.
        ignore_shared: device and inode of shared memory that somebody else made.
        learn_inherited: walk the first process's page tables now, so that what it inherited by fork can
            be told from its own; costs some milliseconds in which its page faults wait.
    """

    def __init__(
        self, root_pid: int, *, ignore_shared: Iterable[tuple[int, int]] = (), learn_inherited: bool = True
    ) -> None:
        self._root_pid = root_pid
        self._members: dict[int, _Member] = {}
        self._met: dict[int, int] = {}
        self._inherited = _INHERITS_NOTHING
        self._shared = SharedMemoryFinder(ignore_shared)
        self._last_pid = b""
        self._looks_left = _LOOKS_AFTER_CHANGE
        self._looked_s = 0.0
        self._has_children_files = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
        self._pid_sign = _has_own_loadavg()
        self.adopt(root_pid)
        if learn_inherited and any(not member.has_executed for member in self._members.values()):
            # Only a tree that is one process tells what it inherited, so look whether it still is.
            self._look(time.monotonic())
            self._walk()

    def adopt(self, pid: int) -> None:
        """Count a process, and its descendants from now on, as part of the tree; a dead one is ignored."""
        if pid not in self._members and (stat := _living(pid)) is not None:
            self._join(pid, stat, time.monotonic())
            self._looks_left = _LOOKS_AFTER_CHANGE

    def _join(self, pid: int, stat: ProcessStat, now_s: float) -> _Member:
        self._members[pid] = member = _Member(pid, stat, now_s)
        self._met[pid] = stat.start_ticks
        return member

    def met_since(self) -> tuple[tuple[int, int], ...]:
        """Return pid and start ticks of everybody seen in the tree since this was asked last, the dead among them."""
        met, self._met = self._met, {pid: member.start_ticks for pid, member in self._members.items()}
        return tuple(met.items())

    def ignore_shared(self, key: tuple[int, int]) -> None:
        """Leave a piece of shared memory, by device and inode, out of the tree's from now on."""
        self._shared.ignore(key)

    def processes(self) -> tuple[tuple[int, int], ...]:
        """Return pid and start ticks of everybody alive in the tree, looked up now."""
        if not portable.HAS_PROC:
            family = portable.sample_tree(self._root_pid, exact=False).processes
            return tuple((member.pid, member.start_ticks) for member in family)
        self._look(time.monotonic())
        return tuple((member.pid, member.start_ticks) for member in self._members.values())

    def sample(self, exact: bool = False, shared: bool = False) -> TreeReading:
        """Measure the tree.

        Args:
            exact: walk page tables for true private and proportional figures; about a millisecond a process.
            shared: also look for shared memory that the tree created.

        Returns:
            The reading, without processes when all have ended. A process that may not be looked into
            is measured the cheap way, and the reading is then ``cheap`` as a whole.
        """
        if not portable.HAS_PROC:
            return portable.sample_tree(self._root_pid, exact)
        now_s = time.monotonic()
        if exact or self._must_look(now_s):
            self._look(now_s)
        readings = tuple(self._measured(exact, now_s))
        fully_exact = exact and all(reading.pss_bytes is not None for reading in readings)
        return TreeReading(
            processes=readings,
            shared_files=self._shared.find(self._members) if shared else (),
            exactness=Exactness.EXACT if fully_exact else Exactness.CHEAP,
            at_s=now_s,
        )

    def _must_look(self, now_s: float) -> bool:
        if not self._pid_sign:
            return True
        last_pid = read_once("/proc/loadavg").rpartition(b" ")[2]
        if last_pid != self._last_pid:
            self._last_pid = last_pid
            self._looks_left = _LOOKS_AFTER_CHANGE
        return self._looks_left > 0 or now_s - self._looked_s > _LOOK_ANYWAY_S

    def _look(self, now_s: float) -> None:
        """Drop the dead and the replaced, and follow everybody's children."""
        self._looks_left -= 1
        self._looked_s = now_s
        for member in tuple(self._members.values()):
            stat = _living(member.pid)
            if stat is None or stat.start_ticks != member.start_ticks:
                del self._members[member.pid]
            else:
                member.refresh(stat)
        waiting = list(self._members.values())
        family = None if self._has_children_files else _families()
        while waiting:
            member = waiting.pop()
            for pid in _children(member) if family is None else family.get(member.pid, ()):
                if pid not in self._members and (stat := _living(pid)) is not None:
                    waiting.append(self._join(pid, stat, now_s))

    def _measured(self, exact: bool, now_s: float) -> Iterator[ProcessReading]:
        walked = self._walk() if exact else {}
        forked = sum(not self._members[pid].has_executed for pid in walked)
        for member in tuple(self._members.values()):
            pages, memory = _pages(member), walked.get(member.pid)
            if pages is None:
                del self._members[member.pid]
                continue
            # A twin's pages are its parent's, be they the same page tables or copies of them.
            twin = self._is_twin(member, pages, now_s)
            if memory is None:
                private_bytes = 0 if twin else (pages[1] - pages[2]) * _PAGE_BYTES
                yield member.reading(private_bytes, pages[1] * _PAGE_BYTES, None)
            else:
                inherited = _INHERITS_NOTHING if member.has_executed else self._inherited
                private_bytes = 0 if twin else memory.private_bytes
                shared_bytes = inherited.share_of_tree(memory, forked)
                yield member.reading(private_bytes + shared_bytes, memory.rss_bytes, memory)

    def _walk(self) -> dict[int, ExactMemory]:
        """Walk everybody's page tables, and learn what the tree inherited while it is one process."""
        walked = {pid: memory for pid in self._members if (memory := _exact(pid)) is not None}
        if len(self._members) == 1 and len(walked) == 1:
            self._inherited = Inherited.seen_alone(next(iter(walked.values())))
        return walked

    def _is_twin(self, member: _Member, pages: tuple[int, int, int], now_s: float) -> bool:
        """Tell whether a new process still runs in its parent's memory, as between vfork and exec."""
        if member.has_executed or now_s - member.first_seen_s > _TWIN_AGE_S:
            return False
        parent = self._members.get(member.parent_pid)
        other = None if parent is None else _pages(parent)
        return other is not None and all(
            abs(mine - theirs) <= _TWIN_PAGES for mine, theirs in zip(pages, other, strict=True)
        )


def _has_own_loadavg() -> bool:
    # lxcfs puts its own file over /proc/loadavg, whose last pid is not the kernel's.
    try:
        return os.stat("/proc/loadavg").st_dev == os.stat("/proc").st_dev
    except OSError:
        return False


def _living(pid: int) -> ProcessStat | None:
    try:
        stat = read_stat(pid)
    except (OSError, ValueError):
        return None
    return None if stat.is_dead else stat


def _children(member: _Member) -> Iterator[int]:
    """Give the children of each thread, for the kernel lists a child with the thread that forked it."""
    folder = f"/proc/{member.pid}/task"
    try:
        threads = (str(member.pid),) if member.threads == 1 else os.listdir(folder)
    except OSError:
        return
    for thread in threads:
        try:
            # One page holds the pids of several hundred children; more come with the next look.
            yield from map(int, read_once(f"{folder}/{thread}/children", 65536).split())
        except OSError:
            continue  # the thread ended; its children are listed with another one next time


def _families() -> dict[int, list[int]]:
    """Return each process's children by reading every process's parent: for kernels without the list."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (stat := _living(int(name))) is not None:
            children.setdefault(stat.parent_pid, []).append(int(name))
    return children


def _pages(member: _Member) -> tuple[int, int, int] | None:
    """Return address space, resident and shared pages; ``None`` when the process is gone or a zombie."""
    try:
        size, resident, shared, *_ = read_once(member.statm, 128).split()
    except (OSError, ValueError):
        return None
    return (int(size), int(resident), int(shared)) if size != b"0" else None


def _exact(pid: int) -> ExactMemory | None:
    try:
        return read_exact(pid)
    except OSError:
        return None  # not ours to look into, or just gone: the cheap figure says what can be said
