"""What is left when a process tree has ended: waiting for the last of it, and clearing shared memory it left.

Comes in: identities and shared files that were seen while the tree lived. Goes out: whether all is gone, and what
had to be removed. A file is removed only if the tree made it, nobody holds it, and it is still the same file.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from memguard.host._files import parse_flat, read_all
from memguard.host.identity import pid_is_alive
from memguard.host.readings import SharedFile

__all__ = ["machine_oom_kills", "remove_abandoned", "shared_memory_there", "wait_all_gone"]

_SHARED_MEMORY = Path("/dev/shm")
_LOOK_AGAIN_S: Final = 0.01


def machine_oom_kills() -> int:
    """Return how many processes the kernel's out-of-memory killer killed since boot; 0 where it does not tell."""
    try:
        return parse_flat(read_all("/proc/vmstat")).get(b"oom_kill", 0)
    except OSError:
        return 0


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


def shared_memory_there() -> frozenset[tuple[int, int]]:
    """Return device and inode of every file in /dev/shm now: what a tree that starts now did not make.

    A time would not tell: a file's ``ctime`` is that of its last change, whoever made it.
    """
    found = set()
    for folder, _, names in os.walk(_SHARED_MEMORY):
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                status = os.lstat(f"{folder}/{name}")
                found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def remove_abandoned(files: Iterable[SharedFile], since_wall_s: float) -> tuple[SharedFile, ...]:
    """Unlink /dev/shm files that a dead tree made and left.

    Args:
        files: what the tree was seen to hold, without what was there before it.
        since_wall_s: when the tree began, seconds since the epoch; older files are not its own.

    Returns:
        What was removed.
    """
    candidates = [file for file in files if _is_ours(file, since_wall_s)]
    held = _held_inodes() if candidates else frozenset()
    abandoned = [file for file in candidates if (file.device, file.inode) not in held]
    removed = []
    for file in abandoned:
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            os.unlink(file.path)
            removed.append(file)
    return tuple(removed)


def _is_ours(file: SharedFile, since_wall_s: float) -> bool:
    if _SHARED_MEMORY not in Path(file.path).parents:
        return False
    try:
        status = os.lstat(file.path)
    except OSError:
        return False
    same = (status.st_dev, status.st_ino) == (file.device, file.inode) and status.st_uid == os.geteuid()
    # The clock that stamps files ticks in steps of up to 10 ms behind the one we read.
    return same and status.st_ctime >= since_wall_s - 0.1


def _held_inodes() -> frozenset[tuple[int, int]]:
    """Return identities of all /dev/shm files that any readable process maps or holds open."""
    held: set[tuple[int, int]] = set()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            held |= _held_by(process)
    return frozenset(held)


def _held_by(process: Path) -> set[tuple[int, int]]:
    held: set[tuple[int, int]] = set()
    for folder in ("fd", "map_files"):
        with contextlib.suppress(OSError):  # it ended, or is not ours to look into
            held |= {
                identity for link in (process / folder).iterdir() if (identity := _shared_identity(link))
            }
    return held


def _shared_identity(link: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        if os.readlink(link).startswith(f"{_SHARED_MEMORY}/"):
            status = os.stat(link)
            return status.st_dev, status.st_ino
    return None
