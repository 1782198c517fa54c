"""Shared memory that a process tree created: /dev/shm files, memfds, System V segments, shared mappings.

Comes in: the pids of a tree. Goes out: each piece once, with the pages it really has. Found through
/proc/PID/fd and /proc/PID/maps, so a file that is written and closed between two looks, and held by
nobody afterwards, is missed; a fence sees that, a sampler cannot. A piece in /dev/shm is known by its
identity, and told by the name that it has now.
A file counts once a process of the tree was seen to hold it for writing: a data file on a tmpfs that
is only read belongs to whoever put it there.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from memguard.host._files import parse_kilobytes, read_all
from memguard.host.cgroups import parse_mountinfo
from memguard.host.readings import SharedFile
from memguard.host.shared_names import SHARED_MEMORY, shared_paths

__all__ = ["SharedMemoryFinder", "machine_shared_bytes"]

_Key = tuple[int, int]

_TMPFS_KINDS: Final = frozenset({"tmpfs", "ramfs", "hugetlbfs"})
# What the kernel names files of its own unmounted tmpfs: memfds, System V segments, shared anonymous maps.
_KERNEL_NAMES: Final = ("/memfd:", "/SYSV", "/dev/zero (deleted)")
_DELETED: Final = " (deleted)"


def machine_shared_bytes() -> int:
    """Return all shared memory of the machine, whoever made it; 0 where it is not told.

    A cheap sign, some microseconds, that it may be worth looking whose it is.
    """
    try:
        return parse_kilobytes(read_all("/proc/meminfo")).get(b"Shmem", 0)
    except OSError:
        return 0


class SharedMemoryFinder:
    """Finds the shared memory of a tree, and remembers what it found as long as that exists.

    Does not see a tmpfs that only the tree's own mount namespace has.
    """

    def __init__(self, ignore: Iterable[_Key] = ()) -> None:
        self._ignore = set(ignore)
        self._known: dict[_Key, str] = {}

    def ignore(self, key: _Key) -> None:
        """Leave a piece out from now on."""
        self._ignore.add(key)
        self._known.pop(key, None)

    def find(self, pids: Iterable[int]) -> tuple[SharedFile, ...]:
        """Look at what these processes hold now, and at what was held earlier and is still there."""
        prefixes, devices = _memory_file_systems()
        pattern = _mapping_pattern(prefixes)
        held: dict[_Key, SharedFile] = {}
        for pid in pids:
            for file, writable in _descriptors(pid, prefixes):
                if file.device in devices:
                    self._note(held, file, writable)
            for span, file, writable in _mappings(pid, pattern):
                key = (file.device, file.inode)
                if file.device in devices and key not in held:
                    size = _mapped_bytes(pid, span, file.path, key)
                    self._note(held, replace(file, allocated_bytes=size), writable)
        return self._with_names(held)

    def _with_names(self, held: dict[_Key, SharedFile]) -> tuple[SharedFile, ...]:
        """Return what is held and what is still there, each by the name that it has now."""
        names = _NamesNow()
        for key, file in held.items():
            held[key] = self._named_now(file, names)
        for key in [key for key in self._known if key not in held]:
            self._keep_or_forget(key, held, names)
        return tuple(held.values())

    def _note(self, held: dict[_Key, SharedFile], file: SharedFile, writable: bool) -> None:
        key = (file.device, file.inode)
        if key not in self._ignore and (writable or key in self._known):
            self._known[key] = file.path
            held[key] = file

    def _named_now(self, file: SharedFile, names: _NamesNow) -> SharedFile:
        """Tell a file by the name that it has, where the one it was opened with was only its first."""
        key = (file.device, file.inode)
        if not file.path.endswith(_DELETED) or (path := names.find(file.path, key)) is None:
            return file
        self._known[key] = path
        return replace(file, path=path)

    def _keep_or_forget(self, key: _Key, held: dict[_Key, SharedFile], names: _NamesNow) -> None:
        path = self._known.pop(key)
        allocated_bytes = _still_allocated(path, key)
        if allocated_bytes is None and (renamed := names.find(path, key)):
            path, allocated_bytes = renamed, _still_allocated(renamed, key)
        if allocated_bytes is not None:
            self._known[key] = path
            held[key] = SharedFile(path, *key, allocated_bytes)


class _NamesNow:
    """The names in /dev/shm at one look; listed only if a piece is met that has lost the name it was seen with."""

    def __init__(self) -> None:
        self._paths: dict[_Key, str] | None = None

    def find(self, path: str, key: _Key) -> str | None:
        """Return the name that a piece has now, if it was seen in /dev/shm."""
        if not path.startswith(f"{SHARED_MEMORY}/"):
            return None
        if self._paths is None:
            self._paths = shared_paths()
        return self._paths.get(key)


def _memory_file_systems() -> tuple[tuple[str, ...], frozenset[int]]:
    """Return path prefixes under which files are memory, and the devices that prove it."""
    text = read_all("/proc/self/mountinfo").decode("utf-8", "surrogateescape")
    # A tmpfs as the root directory holds programs and libraries; their pages are not a job's data.
    mounts = [m for m in parse_mountinfo(text) if m.kind in _TMPFS_KINDS and m.mount_point != "/"]
    prefixes = (*_KERNEL_NAMES, *sorted({mount.mount_point + "/" for mount in mounts}))
    return prefixes, frozenset({mount.device for mount in mounts} | _kernel_device())


@functools.cache
def _kernel_device() -> frozenset[int]:
    """Return the device of the kernel's own tmpfs, where memfds and System V segments live."""
    try:
        descriptor = os.memfd_create("memguard-probe")
    except (AttributeError, OSError):
        return frozenset()
    try:
        return frozenset({os.fstat(descriptor).st_dev})
    finally:
        os.close(descriptor)


def _descriptors(pid: int, prefixes: tuple[str, ...]) -> Iterator[tuple[SharedFile, bool]]:
    """Give each descriptor of a file in memory, and whether it may be written through."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return  # gone, or not ours to look into
    for name in names:
        link = f"{folder}/{name}"
        try:
            path = os.readlink(link)
            # Only now stat: on other file systems it could hang, as NFS does.
            if path.startswith(prefixes):
                status, writable = os.stat(link), bool(os.lstat(link).st_mode & stat.S_IWUSR)
                if stat.S_ISREG(status.st_mode):
                    yield _shared_file(path, status), writable
        except OSError:
            continue  # closed since it was listed


def _shared_file(path: str, status: os.stat_result) -> SharedFile:
    # st_blocks counts 512 bytes each, whatever the page size.
    return SharedFile(path, status.st_dev, status.st_ino, status.st_blocks * 512)


@functools.lru_cache(maxsize=4)
def _mapping_pattern(prefixes: tuple[str, ...]) -> re.Pattern[bytes]:
    names = b"|".join(re.escape(os.fsencode(prefix)) for prefix in prefixes)
    return re.compile(
        rb"^([0-9a-f]+-[0-9a-f]+) .(.).(.) [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) (\d+) +((?:" + names + rb").*)$",
        re.MULTILINE,
    )


def _mappings(pid: int, pattern: re.Pattern[bytes]) -> Iterator[tuple[str, SharedFile, bool]]:
    """Give address range, file (its size still unknown) and whether writes reach it, of mappings."""
    try:
        text = read_all(f"/proc/{pid}/maps")
    except OSError:
        return  # gone, or not ours to look into
    for span, write, share, major, minor, inode, path in pattern.findall(text):
        device = os.makedev(int(major, 16), int(minor, 16))
        file = SharedFile(os.fsdecode(path), device, int(inode), 0)
        yield span.decode(), file, (write, share) == (b"w", b"s")


def _mapped_bytes(pid: int, span: str, path: str, key: _Key) -> int:
    """Return what a mapped file has allocated, by the best way that is open to this user."""
    for way in (f"/proc/{pid}/map_files/{span}", path):
        try:
            status = os.stat(way)
        except OSError:
            continue  # map_files needs a capability, and a deleted file has no path
        if (status.st_dev, status.st_ino) == key:
            return status.st_blocks * 512
    return _resident_of_inode(pid, key[1])


def _resident_of_inode(pid: int, inode: int) -> int:
    """Return what is resident of a file in one process's mappings: a lower bound of what it has."""
    try:
        lines = read_all(f"/proc/{pid}/smaps").splitlines()
    except OSError:
        return 0
    total, inside, wanted = 0, False, str(inode).encode()
    for line in lines:
        fields = line.split(None, 5)
        if not fields[0].endswith(b":"):
            inside = fields[4] == wanted
        elif inside and fields[0] == b"Rss:":
            total += int(fields[1]) * 1024
    return total


def _still_allocated(path: str, key: _Key) -> int | None:
    """Return the bytes of a file that nobody holds, ``None`` when it is gone or another has its name."""
    if path.startswith("/SYSV"):
        return _system_v_bytes(key[1])
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_blocks * 512 if (status.st_dev, status.st_ino) == key else None


def _system_v_bytes(segment: int) -> int | None:
    # The inode of a System V segment is its id; the two columns before the last are rss and swap.
    try:
        rows = [line.split() for line in read_all("/proc/sysvipc/shm").splitlines()[1:]]
    except OSError:
        return None
    return next((int(row[-2]) + int(row[-1]) for row in rows if int(row[1]) == segment), None)
