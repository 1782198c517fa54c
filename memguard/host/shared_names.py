"""What has a name in /dev/shm: every entry by its identity, and whose it is where the name tells.

Comes in: nothing but the folder itself. Goes out: paths, and the pid that a name holds. The kernel keeps no maker of
such an entry, and shows a mapped one by the name it was first given: `sem_open` of glibc makes a file, gives it its
lasting name with a hard link and unlinks the first, so who made a semaphore seems to map a deleted file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator
from typing import Final

from memguard.host.readings import SharedFile

__all__ = ["SHARED_MEMORY", "identity_of", "maker_of", "named_after", "shared_memory_there", "shared_paths"]

_Key = tuple[int, int]

SHARED_MEMORY: Final = "/dev/shm"
# What libraries name after the process that makes it; the number is its pid. Each is a format in their sources.
_MADE_BY: Final = re.compile(
    r"sem\.loky-(\d+)-"  # loky, backend/synchronize.py, `SemLock._make_name`: the semaphores of joblib's executor
    r"|joblib_memmapping_folder_(\d+)_"  # joblib, _memmapping_reducer.py: arrays for its workers
    r"|torch_(\d+)_\d+_"  # PyTorch, `NewProcessWideShmHandle`: tensors for its data loaders
    r"|pym-(\d+)-"  # CPython, multiprocessing/heap.py, `Arena`: unlinked at once, unless it is killed in between
    r"|__KMP_REGISTERED_LIB_(\d+)_"  # LLVM's and Intel's OpenMP, kmp_runtime.cpp: nobody maps it for long
)


def shared_paths() -> dict[_Key, str]:
    """Return every file and folder in /dev/shm by device and inode; of several names one."""
    return dict(_entries_below(SHARED_MEMORY))


def _entries_below(folder: str) -> Iterator[tuple[_Key, str]]:
    # The listing itself tells inodes; a file is not asked for each, there may be thousands.
    try:
        device = os.stat(folder).st_dev
        with os.scandir(folder) as listing:
            entries = list(listing)
    except OSError:
        return  # gone meanwhile, not ours to look into, or a machine without it
    for entry in entries:
        yield (device, entry.inode()), entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from _entries_below(entry.path)


def shared_memory_there() -> frozenset[_Key]:
    """Return device and inode of everything in /dev/shm now: what a tree that starts now did not make.

    A time would not tell: a file's ``ctime`` is that of its last change, whoever made it.
    """
    return frozenset(shared_paths())


def maker_of(path: str) -> int | None:
    """Return the pid that the name of an entry holds, ``None`` for a name that holds none."""
    match = _MADE_BY.match(os.path.basename(path))
    return int(match[match.lastindex or 0]) if match else None


def named_after(pids: Container[int], before: Container[_Key]) -> tuple[SharedFile, ...]:
    """Return the entries of /dev/shm that are named after one of some processes.

    Args:
        pids: the processes; they may have ended.
        before: identities of what is left out, because it was there before them.
    """
    mine = (
        (path, key) for key, path in shared_paths().items() if key not in before and maker_of(path) in pids
    )
    return tuple(entry for path, key in mine if (entry := identity_of(path)) and _key(entry) == key)


def identity_of(path: str) -> SharedFile | None:
    """Return what has a name now, ``None`` for nothing; a link is not followed."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    # st_blocks counts 512 bytes each, whatever the page size.
    return SharedFile(path, status.st_dev, status.st_ino, status.st_blocks * 512)


def _key(file: SharedFile) -> _Key:
    return file.device, file.inode
