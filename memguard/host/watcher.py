"""The machine's memory read over and over: what `read_machine` tells, from files that stay open, several times cheaper.

Comes in: the same files. Goes out: the same `MachineReading`, without what nobody asks a hundred times a second
(pressure stall information, notes). Where the files are is looked up once a second and whenever one fails; what they
say, limits too, is read each time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, Self

from memguard.host._files import find_flat, parse_flat, parse_kilobytes
from memguard.host.cgroups import CgroupPlace, find_places
from memguard.host.descriptors import Descriptors
from memguard.host.machine import (
    LIMIT_FILES,
    NO_LIMIT_FROM,
    USAGE_FILES,
    available_in,
    binds,
    read_machine,
    reclaimable_in,
    summarise,
)
from memguard.host.readings import MachineReading, MemoryLimit

__all__ = ["KernelFile", "MachineWatcher"]

# memory.stat and meminfo have about 60 lines of 30 characters; all of them in one read.
_LARGEST_BYTES: Final = 16384
_NUMBER_BYTES: Final = 64
_LOOK_ROUND_S: Final = 1.0


class KernelFile:
    """A file of the kernel that is read again and again, into the same memory.

    Raises:
        OSError: if it cannot be opened.
    """

    __slots__ = ("_buffer", "_descriptors", "_view")

    def __init__(self, path: str, size: int = _LARGEST_BYTES) -> None:
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._descriptors = Descriptors(map(os.open, [path], [os.O_RDONLY | os.O_CLOEXEC]))

    def read(self) -> bytes:
        """Return what it says now.

        Raises:
            OSError: as `os.preadv` does; ``ENODEV`` for a cgroup that is gone.
        """
        return bytes(self._view[: os.preadv(self._descriptors.fileno(), [self._buffer], 0)])

    def close(self) -> None:
        """Close it; once or many times."""
        self._descriptors.close()


class _Physical:
    """The machine's own memory."""

    def __init__(self, base: str) -> None:
        self._path = f"{base}/proc/meminfo"
        self._file = KernelFile(self._path)
        self.swap_free_bytes = self._available = 0

    def limits(self) -> list[MemoryLimit]:
        fields = _wanted(self._file.read())
        self.swap_free_bytes = fields.get(b"SwapFree", 0)
        total, self._available = fields[b"MemTotal"], available_in(fields)
        return [MemoryLimit("physical", self._path, total, total - self._available)]

    def has_moved(self, least_bytes: float) -> bool:
        fields = _wanted(self._file.read())
        return abs(available_in(fields) - self._available) > least_bytes

    def close(self) -> None:
        self._file.close()


def _wanted(meminfo: bytes) -> dict[bytes, int]:
    """Take apart only the lines that matter, which are three of sixty; all of them on kernels that lack one."""
    lines = [_line(meminfo, key) for key in (b"MemTotal:", b"MemAvailable:", b"SwapFree:")]
    return parse_kilobytes(b"\n".join(lines) if all(lines) else meminfo)


def _line(text: bytes, key: bytes) -> bytes:
    start = text.find(key)
    return text[start : text.find(b"\n", start)] if start >= 0 else b""


class _Group:
    """One cgroup with the files that bound it, open."""

    def __init__(self, kind: str, directory: str, *, tells_hidden: bool) -> None:
        self._kind = kind
        self._path = f"{directory}/{LIMIT_FILES[kind]}"
        self._stat_path = f"{directory}/memory.stat"
        self._tells_hidden = tells_hidden
        self._limit = KernelFile(self._path, _NUMBER_BYTES)
        self._usage = KernelFile(f"{directory}/{USAGE_FILES[kind]}", _NUMBER_BYTES)
        self._stat = KernelFile(self._stat_path)
        self._seen, self._last_limit = (-1, 0), NO_LIMIT_FROM

    def limit(self) -> MemoryLimit | None:
        """Return its bound; ``None`` while it has none."""
        limit_bytes = self._last_limit = self._read_limit()
        if limit_bytes >= NO_LIMIT_FROM:
            return None
        usage = int(self._usage.read())
        if usage != self._seen[0]:
            # Where nothing was charged or given back, what of it is file cache is as it was: until all is opened anew.
            self._seen = usage, self._used(self._stat.read())
        return MemoryLimit(self._kind, self._path, limit_bytes, self._seen[1])

    def _read_limit(self) -> int:
        text = self._limit.read().strip()
        return NO_LIMIT_FROM if text == b"max" else int(text)

    def has_moved(self, least_bytes: float) -> bool:
        """Whether another limit holds, or more or less is charged than at the last reading."""
        limit_bytes = self._read_limit()
        if limit_bytes != self._last_limit:
            return True
        return limit_bytes < NO_LIMIT_FROM and abs(int(self._usage.read()) - self._seen[0]) > least_bytes

    def _used(self, stat: bytes) -> int:
        return max(0, int(self._usage.read()) - reclaimable_in(self._kind, parse_flat(stat)))

    def hidden(self, seen: list[MemoryLimit]) -> list[MemoryLimit]:
        """Return the limit of an ancestor that cannot be seen, as `memguard.host.machine` does."""
        if not self._tells_hidden:
            return []
        stat = self._stat.read()
        try:
            limit_bytes = find_flat(stat, b"hierarchical_memory_limit")
        except ValueError:
            return []
        if limit_bytes >= min((limit.limit_bytes for limit in seen), default=NO_LIMIT_FROM):
            return []
        path = f"{self._stat_path} (hierarchical_memory_limit)"
        return [MemoryLimit(self._kind, path, limit_bytes, self._used(stat))]

    def close(self) -> None:
        for each in (self._limit, self._usage, self._stat):
            each.close()


class MachineWatcher:
    """Reads what `read_machine` reads, again and again. Owns descriptors until `close`. For one thread.

    Args:
        root: where /proc and /sys are; another directory reads a recorded tree.
        scope: the innermost cgroup whose limits count, ``""`` for none but the machine's own; ``None`` for all that
            this process is in.
    """

    def __init__(self, *, root: Path = Path("/"), scope: str | None = None) -> None:
        self._root = root
        self._base = str(root).rstrip("/")
        self._scope = scope
        self._physical: _Physical | None = None
        self._hierarchies: list[list[_Group]] = []
        self._found_at_s = 0.0

    def look(self) -> MachineReading:
        """Return what memory there is now."""
        try:
            if self._physical is None or time.monotonic() - self._found_at_s > _LOOK_ROUND_S:
                self._open_all()
            return self._read()
        except (OSError, ValueError, KeyError):
            # A cgroup went, or a file says what nobody expected: the slow way knows what to make of it.
            self.close()
            return self._restricted(read_machine(root=self._root))

    def has_moved(self, least_bytes: float) -> bool:
        """Whether a limit is another one than at the last look, or use by more than so many bytes; far cheaper."""
        if self._physical is None:
            return True
        try:
            groups = (group for groups in self._hierarchies for group in groups)
            return self._physical.has_moved(least_bytes) or any(
                group.has_moved(least_bytes) for group in groups
            )
        except (OSError, ValueError, KeyError):
            return True

    def _open_all(self) -> None:
        self.close()
        self._physical = _Physical(self._base)
        for place in find_places(self._base):
            directories = [each for each in place.directories if self._counts(each) and binds(place, each)]
            groups = [group for each in directories if (group := _open(place, each)) is not None]
            self._hierarchies.append(groups)
        self._found_at_s = time.monotonic()

    def _counts(self, directory: str) -> bool:
        return self._scope is None or f"{self._scope}/".startswith(f"{directory}/")

    def _read(self) -> MachineReading:
        assert self._physical is not None
        limits = self._physical.limits()
        for groups in self._hierarchies:
            seen = [limit for group in groups if (limit := group.limit()) is not None]
            limits += [*(groups[-1].hidden(seen) if groups else ()), *seen]
        return summarise(limits, self._physical.swap_free_bytes, None, [])

    def _restricted(self, machine: MachineReading) -> MachineReading:
        limits = [
            each
            for each in machine.limits
            if each.source == "physical" or self._counts(os.path.dirname(each.path))
        ]
        return summarise(limits, machine.swap_free_bytes, machine.pressure, list(machine.notes))

    def close(self) -> None:
        """Close all files; they are opened again at the next look."""
        if self._physical is not None:
            self._physical.close()
        for groups in self._hierarchies:
            for group in groups:
                group.close()
        self._physical, self._hierarchies = None, []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(place: CgroupPlace, directory: str) -> _Group | None:
    own = place.kind == "cgroup-v1" and place.reaches_own and directory == place.directories[-1]
    try:
        return _Group(place.kind, directory, tells_hidden=own)
    except (
        FileNotFoundError
    ):  # a root cgroup has no limit, and a hierarchy without the controller none at all
        return None
