"""What is left when a process tree has ended: waiting for the last of it, and clearing shared memory it left.

Comes in: identities and shared files that were seen while the tree lived. Goes out: whether all is gone, and what
had to be removed. An entry is removed only if the tree made it, nobody holds it, it is still the same one, it is this
user's, and the process that its name tells as its maker, if it tells one, is proven dead.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from memguard.host._files import parse_flat, read_all
from memguard.host.cgroups import CgroupPlace, find_places
from memguard.host.identity import pid_is_alive, pid_is_taken
from memguard.host.readings import SharedFile
from memguard.host.shared_names import SHARED_MEMORY, identity_of, maker_of

__all__ = ["machine_oom_kills", "remove_abandoned", "still_there", "wait_all_gone"]

_Key = tuple[int, int]

# A descriptor is often closed once a file is mapped, and /proc/PID/map_files is for the privileged only.
_MAPPED: Final = re.compile(rb" ([0-9a-f]+):([0-9a-f]+) (\d+) +/dev/shm/")
_LOOK_AGAIN_S: Final = 0.01


def machine_oom_kills() -> int:
    """Return how many processes the kernel's out-of-memory killer killed since boot; 0 where it does not tell.

    Of those in the memory cgroup that this process is in, where the kernel counts them there: on the whole machine
    there are others.
    """
    with contextlib.suppress(OSError):
        for place in find_places():
            kills = _kills_in(place)
            if kills is not None:
                return kills
    try:
        return parse_flat(read_all("/proc/vmstat")).get(b"oom_kill", 0)
    except OSError:
        return 0


def _kills_in(place: CgroupPlace) -> int | None:
    if not (place.reaches_own and place.directories):
        return None
    name = "memory.oom_control" if place.kind == "cgroup-v1" else "memory.events.local"
    with contextlib.suppress(OSError):
        return parse_flat(read_all(f"{place.directories[-1]}/{name}")).get(b"oom_kill")
    return None


def wait_all_gone(processes: Iterable[tuple[int, int]], timeout_s: float) -> bool:
    """Wait until all of some processes have died; a zombie counts as dead.

    Args:
        processes: pid and start ticks of each.
        timeout_s: how long to wait at most.

    Returns:
        Whether all were seen dead in time.
    """
    deadline = time.monotonic() + timeout_s
    return all(_wait_gone(pid, ticks, deadline) for pid, ticks in tuple(processes))


def _wait_gone(pid: int, start_ticks: int, deadline_s: float) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:  # no descriptor is left, or the kernel has no such call: that proves nothing
        return _poll_gone(pid, start_ticks, deadline_s)
    try:
        if not pid_is_alive(pid, start_ticks):
            return True
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline_s - time.monotonic()) * 1000))
    finally:
        os.close(handle)


def _poll_gone(pid: int, start_ticks: int, deadline_s: float) -> bool:
    """Look again and again, where the kernel cannot wake us."""
    while (alive := pid_is_alive(pid, start_ticks)) and time.monotonic() < deadline_s:
        select.select([], [], [], _LOOK_AGAIN_S)
    return not alive


def remove_abandoned(files: Iterable[SharedFile], since_wall_s: float) -> tuple[SharedFile, ...]:
    """Remove entries of /dev/shm that a dead tree made and left, folders with what is in them.

    Args:
        files: what the tree was seen to hold, and what is named after its processes, without what was there before it.
        since_wall_s: when the tree began, seconds since the epoch; older entries are not its own.

    Returns:
        What was removed. What somebody holds, or what is not this user's, is left; `still_there` tells it.
    """
    candidates = [file for each in files if _is_ours(each, since_wall_s) for file in _with_contents(each)]
    held = _held_inodes() if candidates else frozenset()
    # A folder last: it must be empty. The same file may be known by itself and as content of its folder.
    ordered = sorted(dict.fromkeys(candidates), key=lambda file: -file.path.count("/"))
    return tuple(file for file in ordered if _key(file) not in held and _remove(file.path))


def still_there(files: Iterable[SharedFile]) -> tuple[SharedFile, ...]:
    """Return those of some entries of /dev/shm that exist, under the name they are known by."""
    inside = (file for file in files if file.path.startswith(f"{SHARED_MEMORY}/"))
    pairs = ((file, identity_of(file.path)) for file in inside)
    return tuple(file for file, now in pairs if now is not None and _key(now) == _key(file))


def _is_ours(file: SharedFile, since_wall_s: float) -> bool:
    if Path(SHARED_MEMORY) not in Path(file.path).parents:
        return False
    try:
        status = os.lstat(file.path)
    except OSError:
        return False
    same = (status.st_dev, status.st_ino) == _key(file) and status.st_uid == os.geteuid()
    # Whose it is by what was held counts no more than its name: a living maker, of the tree or not, needs it.
    maker = maker_of(file.path)
    # The clock that stamps files ticks in steps of up to 10 ms behind the one we read.
    return same and status.st_ctime >= since_wall_s - 0.1 and (maker is None or not pid_is_taken(maker))


def _with_contents(entry: SharedFile) -> Iterator[SharedFile]:
    """Give an entry, and what a folder holds of this user's."""
    is_folder = os.path.isdir(entry.path) and not os.path.islink(entry.path)
    for folder, names, files in os.walk(entry.path) if is_folder else ():
        for name in (*names, *files):
            path = f"{folder}/{name}"
            with contextlib.suppress(OSError):  # gone meanwhile
                if os.lstat(path).st_uid == os.geteuid() and (content := identity_of(path)):
                    yield content
    yield entry


def _remove(path: str) -> bool:
    """Remove a file or an empty folder; tells whether it was there and is gone by this."""
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.rmdir(path)
        else:
            os.unlink(path)
    except OSError:  # somebody else was faster, or put something into it; or it is not ours after all
        return False
    return True


def _key(file: SharedFile) -> _Key:
    return file.device, file.inode


def _held_inodes() -> frozenset[_Key]:
    """Return identities of everything in /dev/shm that any readable process maps or holds open."""
    held: set[_Key] = set()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            held.update(_mapped_by(process), _opened_by(process))
    return frozenset(held)


def _mapped_by(process: Path) -> Iterator[_Key]:
    try:
        text = read_all(f"{process}/maps")
    except OSError:
        return  # it ended, or is not ours to look into
    for major, minor, inode in _MAPPED.findall(text):
        yield os.makedev(int(major, 16), int(minor, 16)), int(inode)


def _opened_by(process: Path) -> Iterator[_Key]:
    with contextlib.suppress(OSError):  # it ended, or is not ours to look into
        for link in (process / "fd").iterdir():
            if (identity := _shared_identity(link)) is not None:
                yield identity


def _shared_identity(link: Path) -> _Key | None:
    with contextlib.suppress(OSError):
        if os.readlink(link).startswith(f"{SHARED_MEMORY}/"):
            status = os.stat(link)
            return status.st_dev, status.st_ino
    return None
