"""A fence: a memory cgroup around one job, whose limit the kernel itself keeps.

Comes in: a name and a limit. Goes out: a `Fence` that a child enters and its supervisor reads, empties
and removes. Does not decide where fences are made; that is `memguard.host.fence_place`. Fences whose
owner died are removed by `memguard.host.fence_sweep`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NoReturn, Self

from memguard.errors import MemguardError
from memguard.host._files import find_flat, read_all
from memguard.host.fence_limits import write_control, write_limit
from memguard.host.fence_names import fence_name, parse_fence_name
from memguard.host.fence_place import FencePlace, choose_place
from memguard.host.kill import kill_listed
from memguard.host.readings import FenceReading

__all__ = ["FENCE_LAYOUTS", "Fence", "FenceError", "create_fence", "fence_pids", "open_fence"]

# memory.stat has about 60 lines of 30 characters; all of them in one read.
_STAT_SIZE: Final = 16384
# Long enough for exiting processes to leave; the kernel frees about 1 GiB in a tenth of a second.
_LEAVE_S: Final = 5.0
# The job's processes live one level below the limit, so that a fence inside the fence can be a sibling
# of theirs: in v2 a cgroup with processes cannot hand the memory controller to children.
_INNER_V2: Final = "job"
_UNLIMITED: Final = 2**63 - 1


class FenceError(MemguardError, OSError):
    """A fence that could not be read, emptied or removed.

    Attributes:
        path: its directory.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True)
class _Layout:
    """The file names of one cgroup version."""

    usage: str
    high_water: str
    hits: str
    kills: str
    cache: bytes
    shmem: bytes


FENCE_LAYOUTS: Final = {
    "cgroup-v1": _Layout(
        usage="memory.usage_in_bytes",
        high_water="memory.max_usage_in_bytes",
        hits="memory.failcnt",
        kills="memory.oom_control",
        cache=b"total_cache",
        shmem=b"total_shmem",
    ),
    "cgroup-v2": _Layout(
        usage="memory.current",
        high_water="memory.peak",
        hits="memory.events",
        kills="memory.events",
        cache=b"file",
        shmem=b"shmem",
    ),
}


class Fence:
    """A memory cgroup around one job.

    Made by `open_fence`. The process that opened it owns it and must call `remove`; a child made by
    fork may call `enter`. Descriptors stay open because reading through them is several times cheaper.
    Does not promise to hold memory that its processes were charged elsewhere before they entered.
    """

    def __init__(self, path: str, kind: str, limit_bytes: int | None) -> None:
        self.path = path
        self.kind = kind
        self._limit_bytes = _UNLIMITED if limit_bytes is None else limit_bytes
        self._layout = FENCE_LAYOUTS[kind]
        self._descriptors: dict[str, int] = {}
        inner = f"{path}/{_INNER_V2}"
        self._entrance = inner if kind == "cgroup-v2" and os.path.isdir(inner) else path
        try:
            self._open_files()
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_all()
        self.remove()

    def _open_files(self) -> None:
        for name in (self._layout.usage, "memory.stat", self._layout.hits, self._layout.kills):
            self._open(f"{self.path}/{name}", os.O_RDONLY)
        # memory.peak came with Linux 5.19.
        with contextlib.suppress(FileNotFoundError):
            self._open(f"{self.path}/{self._layout.high_water}", os.O_RDONLY)
        self._open(f"{self._entrance}/cgroup.procs", os.O_WRONLY)

    def _open(self, path: str, flags: int) -> None:
        name = path.rpartition("/")[2]
        if name not in self._descriptors:
            self._descriptors[name] = os.open(path, flags | os.O_CLOEXEC)

    def enter(self) -> None:
        """Move the calling process into the fence; children it makes later are inside from birth.

        Safe right after a fork: one write, no allocation to speak of.

        Raises:
            FenceError: when the kernel refuses, or the fence is gone.
        """
        try:
            os.write(self._descriptors["cgroup.procs"], b"0")
        except (OSError, KeyError) as error:
            raise self._error("could not be entered", error) from error

    def read(self) -> FenceReading:
        """Read what is charged to the fence.

        Raises:
            FenceError: when the fence is gone, or was closed.
        """
        try:
            # The parts before the sum: file cache that grows in between counts as used for a moment,
            # while the other order would hide as much of what is used.
            stat = self._pread("memory.stat", _STAT_SIZE)
            charged_bytes = int(self._pread(self._layout.usage))
            peak = self._layout.high_water
            high_water_bytes = int(self._pread(peak)) if peak in self._descriptors else None
            return self._reading(charged_bytes, stat, high_water_bytes)
        except (OSError, KeyError, ValueError) as error:
            raise self._error("could not be read", error) from error

    def _reading(self, charged_bytes: int, stat: bytes, high_water_bytes: int | None) -> FenceReading:
        layout = self._layout
        cache_bytes = find_flat(stat, layout.cache) - find_flat(stat, layout.shmem)
        return FenceReading(
            used_bytes=max(0, charged_bytes - cache_bytes),
            charged_bytes=charged_bytes,
            high_water_bytes=high_water_bytes,
            limit_bytes=self._limit_bytes,
            limit_hits=self._limit_hits(high_water_bytes),
            oom_kills=self._oom_kills(),
            cache_bytes=cache_bytes,
        )

    def _pread(self, name: str, size: int = 512) -> bytes:
        return os.pread(self._descriptors[name], size, 0)

    def _limit_hits(self, high_water_bytes: int | None) -> int:
        text = self._pread(self._layout.hits)
        counted = int(text) if self.kind == "cgroup-v1" else find_flat(text, b"max")
        # With swap in use the uncounted limit of memsw can be the one that was hit; see
        # `memguard.host.fence_limits`.
        reached = high_water_bytes is not None and high_water_bytes >= self._limit_bytes
        return max(counted, int(reached))

    def _oom_kills(self) -> int:
        """Count kills inside, but for those in a fence within this one: its owner answers for them."""
        killed = find_flat(self._pread(self._layout.kills), b"oom_kill")
        if self.kind == "cgroup-v1":
            return killed + sum(_kills(each, "memory.oom_control") for each in self._own_directories())
        # memory.events counts what happens anywhere below; its local twin came with Linux 5.2.
        if not killed or not os.path.exists(f"{self.path}/memory.events.local"):
            return killed
        return sum(_kills(each, "memory.events.local") for each in (self.path, *self._own_directories()))

    def _own_directories(self) -> tuple[str, ...]:
        """Return the directories below that belong to no fence within this one."""
        inner = self._inner_directories()
        fences = tuple(f"{each}/" for each in inner if parse_fence_name(each) is not None)
        return tuple(each for each in inner if not f"{each}/".startswith(fences))

    def _inner_directories(self) -> tuple[str, ...]:
        return _directories_below(self.path)

    def pids(self) -> tuple[int, ...]:
        """Return the processes inside, those in cgroups below it too; zombies are not listed.

        A fence that is gone holds nobody: only an empty one can be removed.

        Raises:
            FenceError: when it cannot be told.
        """
        try:
            return fence_pids(self.path)
        except OSError as error:
            raise self._error("cannot tell who is inside", error) from error

    def resize(self, limit_bytes: int) -> None:
        """Change the limit; lowering it below use makes the kernel reclaim, and kill where it cannot.

        Raises:
            FenceError: when the kernel refuses, for instance with ``EBUSY`` in v1 when memory in use
                cannot be pushed below the new limit.
        """
        lower = limit_bytes < self._limit_bytes
        try:
            write_limit(self.path, self.kind, limit_bytes, lower=lower)
        except OSError as error:
            raise self._error(f"could not be given a limit of {limit_bytes} bytes", error) from error
        self._limit_bytes = limit_bytes

    def rename(self, name: str) -> None:
        """Show in the path what the fence is for now. v2 has no way to do so; there the path stays.

        Raises:
            FenceError: when the kernel refuses, or the fence is gone.
        """
        if self.kind == "cgroup-v2":
            return
        path = f"{os.path.dirname(self.path)}/{fence_name(name)}"
        try:
            os.rename(self.path, path)
        except OSError as error:
            raise self._error(f"could not be renamed to {path}", error) from error
        self.path = self._entrance = path

    def kill_all(self, timeout_s: float = _LEAVE_S) -> None:
        """SIGKILL every process inside, and wait until none is left.

        Raises:
            FenceError: when somebody is left after ``timeout_s`` seconds, or the caller itself is inside.
        """
        if os.getpid() in self.pids():
            raise FenceError(f"{self.path} holds the process that should empty it", path=self.path)
        if self.kind == "cgroup-v2":
            # Came with Linux 5.14; without it the loop below does the same, one process at a time.
            with contextlib.suppress(FileNotFoundError):
                write_control(f"{self.path}/cgroup.kill", "1")
        if not kill_listed(self.pids, timeout_s):
            raise FenceError(f"{self.path} still holds {self.pids()} after {timeout_s} s", path=self.path)

    def remove(self, timeout_s: float = _LEAVE_S) -> None:
        """Remove the cgroup and those below it; a fence that is gone already is no error.

        Raises:
            FenceError: when it still holds processes after ``timeout_s`` seconds, or the kernel refuses.
        """
        deadline_s, pause_s = time.monotonic() + timeout_s, 0.0005
        while (error := _remove_tree(self.path)) is not None:
            if error.errno != errno.EBUSY or time.monotonic() > deadline_s:
                raise self._error("could not be removed", error) from error
            # A process that just died may leave its cgroup a moment later; no event tells.
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
        self.close()

    def close(self) -> None:
        """Close the descriptors and leave the cgroup as it is; for a forked child, or a second time."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def _error(self, what: str, error: Exception) -> FenceError:
        return FenceError(f"fence {self.path} {what}: {error}", path=self.path)


def fence_pids(path: str) -> tuple[int, ...]:
    """Return the processes in a cgroup and below it; nobody where it is gone.

    Raises:
        OSError: when it cannot be told.
    """
    try:
        directories = (path, *_directories_below(path))
    except FileNotFoundError:
        return ()
    inside = {pid for directory in directories for pid in _listed(directory)}
    # A process that lives outside of this pid namespace is listed as 0.
    return tuple(sorted(inside - {0}))


def _directories_below(path: str) -> tuple[str, ...]:
    # A directory's link count is two more than its subdirectories; asking it is cheaper than walking.
    if os.stat(path).st_nlink <= 2:
        return ()
    return tuple(f"{parent}/{name}" for parent, names, _ in os.walk(path) for name in names)


def _listed(directory: str) -> set[int]:
    try:
        return set(map(int, read_all(f"{directory}/cgroup.procs").split()))
    except FileNotFoundError:
        return set()


def _kills(directory: str, name: str) -> int:
    try:
        return find_flat(read_all(f"{directory}/{name}"), b"oom_kill")
    except FileNotFoundError:
        return 0  # removed meanwhile


def _remove_tree(path: str) -> OSError | None:
    with contextlib.suppress(OSError):
        os.rmdir(path)  # needs no descriptor, and as a rule there is nothing inside
        return None
    try:
        for directory, _, _ in os.walk(path, topdown=False, onerror=_raise):
            os.rmdir(directory)
    except FileNotFoundError:
        return None if not os.path.isdir(path) else OSError(errno.EBUSY, "changed while it was removed")
    except OSError as error:
        return error
    return None


def _raise(error: OSError) -> NoReturn:
    raise error


def open_fence(name: str, limit_bytes: int | None) -> Fence | None:
    """Make a fence below the memory cgroup of this process, or beside it where v2 asks for that.

    Args:
        name: what the fence is for, shown in its path.
        limit_bytes: its limit, in bytes; ``None`` for one that is given its limit later, by `Fence.resize`.

    Returns:
        The fence, or ``None`` when this machine lets none be made; `memguard.host.probe` tells why.

    Raises:
        ValueError: for a limit that is not positive.
    """
    if limit_bytes is not None and limit_bytes <= 0:
        raise ValueError(f"a fence needs room; {limit_bytes} bytes is none")
    try:
        place = choose_place()
        return create_fence(place, name, limit_bytes) if isinstance(place, FencePlace) else None
    except OSError:
        return None


def create_fence(
    place: FencePlace,
    name: str,
    limit_bytes: int | None,
    make_directory: Callable[[str], None] = os.mkdir,
) -> Fence:
    """Make a fence at a place, complete or not at all.

    Args:
        place: where; see `memguard.host.fence_place.choose_place`.
        name: as in `open_fence`.
        limit_bytes: as in `open_fence`.
        make_directory: makes a cgroup.

    Raises:
        OSError: when the kernel refuses any part of it; nothing is left behind then.
    """
    path = _make_unique(place.directory, name, make_directory)
    try:
        if place.kind == "cgroup-v2":
            write_control(f"{path}/cgroup.subtree_control", "+memory")
            make_directory(f"{path}/{_INNER_V2}")
        if limit_bytes is not None:
            write_limit(path, place.kind, limit_bytes, lower=True)
        return Fence(path, place.kind, limit_bytes)
    except BaseException:
        _remove_tree(path)
        raise


def _make_unique(parent: str, name: str, make_directory: Callable[[str], None]) -> str:
    for number in range(1000):
        path = f"{parent}/{fence_name(name, number)}"
        with contextlib.suppress(FileExistsError):
            make_directory(path)
            return path
    raise FileExistsError(errno.EEXIST, "a thousand fences of this name exist", parent)
