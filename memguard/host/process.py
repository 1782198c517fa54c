"""One process from outside and from inside: its memory, its children, its own limits."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from typing import Final

from memguard.host._files import parse_kilobytes, read_all, read_once
from memguard.host.descriptors import Descriptors
from memguard.host.identity import read_stat

__all__ = [
    "OwnMemory",
    "ProcessMemory",
    "age_s",
    "children_of",
    "command_line",
    "limit_data_segment",
    "peak_resident_bytes_now",
    "pending_signals",
    "private_bytes_now",
    "private_bytes_of",
    "processes_with_environment",
    "read_process_memory",
    "resident_bytes_now",
    "start_ticks",
    "was_started_with",
]

_STATM: Final = "/proc/self/statm"
_STATM_SIZE: Final = 128


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Memory of one process, measured exactly.

    Attributes:
        private_bytes: would be free if it died; swapped pages included.
        inherited_bytes: resident but shared with another process: a template's pages, libraries.
    """

    private_bytes: int
    inherited_bytes: int


def read_process_memory(pid: int | None = None) -> ProcessMemory:
    """Measure a process by walking its page tables: about a millisecond, more for a large one.

    Raises:
        OSError: if it is gone or not ours to read.
    """
    fields = parse_kilobytes(read_all(f"/proc/{pid or os.getpid()}/smaps_rollup"))
    resident = (
        fields.get(b"Private_Clean", 0) + fields.get(b"Private_Dirty", 0) + fields.get(b"Private_Hugetlb", 0)
    )
    return ProcessMemory(resident + fields.get(b"Swap", 0), max(0, fields.get(b"Rss", 0) - resident))


def children_of(pid: int) -> tuple[tuple[int, int], ...]:
    """Return pid and start ticks of each direct child, zombies included."""
    found: list[tuple[int, int]] = []
    for child in _listed_children(pid):
        try:
            found.append((child, read_stat(child).start_ticks))
        except (OSError, ValueError):
            continue  # it is gone meanwhile
    return tuple(found)


def _listed_children(pid: int) -> list[int]:
    folder = f"/proc/{pid}/task"
    try:
        lists = [read_all(f"{folder}/{thread}/children") for thread in os.listdir(folder)]
    except FileNotFoundError:  # a kernel without these lists, or a thread that just ended
        return _children_by_search(pid)
    return [int(child) for each in lists for child in each.split()]


def _children_by_search(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if read_stat(int(name)).parent_pid == pid:
                    found.append(int(name))
            except (OSError, ValueError):
                continue
    return found


def limit_data_segment(above_now_bytes: int) -> None:
    """Bound this process's private writable memory at what it has now plus ``above_now_bytes`` (RLIMIT_DATA).

    An allocation beyond it fails, in Python as MemoryError. Inherited by children, each with its own count.
    """
    now = parse_kilobytes(read_all("/proc/self/status")).get(b"VmData", 0)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = now + above_now_bytes
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def resident_bytes_now() -> int:
    """Return this process's resident set, shared pages included, in a few microseconds."""
    return int(read_once(_STATM, _STATM_SIZE).split()[1]) * resource.getpagesize()


def peak_resident_bytes_now() -> int:
    """Return the highest resident set of this process so far, shared pages included: the kernel's own mark."""
    return parse_kilobytes(read_all("/proc/self/status")).get(b"VmHWM", 0)


def private_bytes_now() -> int:
    """Return this process's private memory by the cheap figure (resident minus shared), in a few microseconds.

    Pages that a forked process inherited count too; what matters here are differences over time.
    """
    return _private_bytes(read_once(_STATM, _STATM_SIZE))


def private_bytes_of(pid: int) -> int | None:
    """Return another process's private memory by the same figure; ``None`` if it is gone or cannot be seen."""
    try:
        return _private_bytes(read_once(f"/proc/{pid}/statm", _STATM_SIZE))
    except (OSError, IndexError):
        return None


class OwnMemory:
    """Reads this process's private memory as `private_bytes_now` does, also once no descriptor is left to open.

    Owns a descriptor until `close`, or until nobody has it any more. Of no use in a forked copy: there it tells of the
    process it was made in.
    """

    def __init__(self) -> None:
        self._descriptors = Descriptors(map(os.open, [_STATM], [os.O_RDONLY | os.O_CLOEXEC]))

    def private_bytes(self) -> int:
        """Return the figure of now, in bytes; once closed, it needs a descriptor as `private_bytes_now` does."""
        descriptor = self._descriptors.fileno()
        if descriptor < 0:
            return private_bytes_now()
        return _private_bytes(os.pread(descriptor, _STATM_SIZE, 0))

    def close(self) -> None:
        """Close the descriptor; once or many times."""
        self._descriptors.close()


def _private_bytes(statm: bytes) -> int:
    fields = statm.split()
    return (int(fields[1]) - int(fields[2])) * resource.getpagesize()


def start_ticks(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot; ``None`` if it is gone."""
    try:
        stat = read_stat(pid)
    except (OSError, ValueError):
        return None
    return None if stat.is_dead else stat.start_ticks


def age_s(pid: int, start_ticks: int) -> float | None:
    """Return for how long a process has been there, by the clock that counts since boot; ``None`` if it is gone."""
    try:
        stat = read_stat(pid)
    except (OSError, ValueError):
        return None
    if stat.start_ticks != start_ticks or stat.is_dead:
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")


def command_line(pid: int) -> tuple[bytes, ...]:
    """Return the words that a process was started with.

    Raises:
        OSError: if it is gone, or not ours to read.
    """
    return tuple(read_all(f"/proc/{pid}/cmdline").split(b"\0"))


def pending_signals(pid: int) -> frozenset[int]:
    """Return the signals that wait for a process because it blocks them.

    Raises:
        OSError: if it is gone.
    """
    mask = 0
    for line in read_all(f"/proc/{pid}/status").splitlines():
        if line.startswith((b"SigPnd:", b"ShdPnd:")):
            mask |= int(line.split()[1], 16)
    return frozenset(number for number in range(1, 65) if mask >> (number - 1) & 1)


def processes_with_environment(name: str, value: str) -> tuple[tuple[int, int], ...]:
    """Return pid and start ticks of every process that was started with ``name=value`` in its environment."""
    wanted = os.fsencode(f"{name}={value}")
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and wanted in _environment_of(int(entry)):
            ticks = start_ticks(int(entry))
            if ticks is not None:
                found.append((int(entry), ticks))
    return tuple(found)


def was_started_with(name: str) -> bool:
    """Tell whether this process found a variable in its environment, and did not set it itself; yes if unknown."""
    try:
        initial = read_all("/proc/self/environ")
    except OSError:
        return True
    return any(line.startswith(os.fsencode(f"{name}=")) for line in initial.split(b"\0"))


def _environment_of(pid: int) -> frozenset[bytes]:
    try:
        return frozenset(read_all(f"/proc/{pid}/environ").split(b"\0"))
    except OSError:  # gone, or not ours to read
        return frozenset()
