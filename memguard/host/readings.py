"""The records in which the machine is told: what other rooms see instead of /proc, psutil and cgroups."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "Exactness",
    "FenceReading",
    "MachineReading",
    "MemoryLimit",
    "PressureReading",
    "ProcessIdentity",
    "ProcessReading",
    "SharedFile",
    "TreeReading",
]


class Exactness(StrEnum):
    """How a tree's private memory was measured.

    ``cheap``: /proc/PID/statm, resident minus shared; counts pages inherited from a parent as private.
    ``exact``: /proc/PID/smaps_rollup; anonymous pages that no other process maps, and proportional
    figures, at about a millisecond a process (more for large ones: the kernel walks the page tables).
    """

    CHEAP = "cheap"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with the same pid.

    Attributes:
        host: the machine's name.
        boot_id: the kernel's id of this boot.
        pid: process id in the reader's pid namespace.
        start_ticks: start time in clock ticks since boot (field 22 of /proc/PID/stat).
    """

    host: str
    boot_id: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """One bound on memory that holds for this process.

    Attributes:
        source: ``physical``, ``cgroup-v2``, ``cgroup-v1`` or ``MEMGUARD_CAPACITY``.
        path: the file or setting it was read from.
        limit_bytes: the bound.
        used_bytes: what already counts against it, reclaimable file cache left out, tmpfs counted.
    """

    source: str
    path: str
    limit_bytes: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        """What is left below the bound, never negative."""
        return max(0, self.limit_bytes - self.used_bytes)


@dataclass(frozen=True, slots=True)
class PressureReading:
    """Pressure stall information of memory: percent of time lost to waiting for it, 0 to 100."""

    some_avg10: float
    full_avg10: float


@dataclass(frozen=True, slots=True)
class MachineReading:
    """What memory there is for jobs of this process.

    Attributes:
        capacity_bytes: the smallest bound of all.
        used_bytes: working set against the bound with the least capacity.
        available_bytes: what can still be taken: the least free over all bounds, and MemAvailable.
        binding: the bound that sets ``capacity_bytes``.
        limits: every bound, outermost first.
        swap_free_bytes: free swap; not part of ``available_bytes``.
        pressure: ``None`` where the kernel does not tell it.
        notes: one sentence for each thing that could not be read and so is not among the bounds.
    """

    capacity_bytes: int
    used_bytes: int
    available_bytes: int
    binding: MemoryLimit
    limits: tuple[MemoryLimit, ...]
    swap_free_bytes: int
    pressure: PressureReading | None
    notes: tuple[str, ...] = ()

    @property
    def used_fraction(self) -> float:
        """Share of the capacity in use, 0 to 1 (more only where a limit was lowered below use)."""
        return self.used_bytes / self.capacity_bytes if self.capacity_bytes else 1.0


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """One process of a tree at one instant.

    Attributes:
        pid: process id.
        parent_pid: its parent's.
        start_ticks: see `ProcessIdentity`.
        name: the kernel's short name of the program, at most 15 characters.
        private_bytes: memory that would be free if it died; how sure that is tells `TreeReading.exactness`.
        pss_bytes: proportional set size, or ``None`` in a cheap reading.
        rss_bytes: resident set, shared pages included; never to be summed.
        swap_bytes: private memory that was swapped out; 0 in a cheap reading.
    """

    pid: int
    parent_pid: int
    start_ticks: int
    name: str
    private_bytes: int
    pss_bytes: int | None
    rss_bytes: int
    swap_bytes: int


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A piece of shared memory held open or mapped: a /dev/shm file, a memfd, a System V segment.

    Attributes:
        path: its name as the kernel shows it.
        device: with ``inode``, its identity.
        inode: with ``device``, its identity.
        allocated_bytes: pages it really has (blocks, not length).
    """

    path: str
    device: int
    inode: int
    allocated_bytes: int


@dataclass(frozen=True, slots=True)
class TreeReading:
    """A process and all its descendants at (nearly) one instant.

    Attributes:
        processes: the root first where it is still there.
        shared_files: shared memory that the tree created: held by it and not among the inherited ones.
        exactness: how ``private_bytes`` of the processes was measured.
        at_s: monotonic seconds.
    """

    processes: tuple[ProcessReading, ...]
    shared_files: tuple[SharedFile, ...]
    exactness: Exactness
    at_s: float

    @property
    def private_bytes(self) -> int:
        """Private memory of all processes."""
        return sum(process.private_bytes + process.swap_bytes for process in self.processes)

    @property
    def shared_bytes(self) -> int:
        """Shared memory that the tree created, each piece once."""
        return sum(file.allocated_bytes for file in self.shared_files)

    @property
    def used_bytes(self) -> int:
        """What the tree's budget is held against: private plus created shared memory."""
        return self.private_bytes + self.shared_bytes


@dataclass(frozen=True, slots=True)
class FenceReading:
    """What the kernel says of a cgroup that fences a job.

    Attributes:
        used_bytes: anonymous memory, shared memory and kernel memory charged to it; file cache left out.
        charged_bytes: all that is charged, file cache included.
        high_water_bytes: highest ``charged_bytes`` the kernel saw, or ``None`` where it keeps none.
        limit_bytes: its limit.
        limit_hits: times a charge ran into the limit.
        oom_kills: processes in it that the kernel's out-of-memory killer killed, those in a fence within it left out.
        cache_bytes: file cache charged to it, tmpfs left out.
    """

    used_bytes: int
    charged_bytes: int
    high_water_bytes: int | None
    limit_bytes: int
    limit_hits: int
    oom_kills: int
    cache_bytes: int
