"""Settling in as a small process that must act when others cannot: nothing inherited, first in line, last to go.

Comes in: whatever the starter's process was like. Goes out: default signals, full limits, memory that stays resident.
Each of them is taken where the machine allows it, and done without where not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import struct
from typing import Final

from memguard.host import _libc
from memguard.host._files import read_once

__all__ = ["lock_memory", "settle_in", "write_lock_holder"]

# Before all others that the kernel would kill for memory; the jobs are what should end.
_OOM_SCORES: Final = (-900, 0)
_NICE: Final = -10
# struct flock with 64-bit offsets, as on every 64-bit Linux.
_FLOCK: Final = struct.Struct("hhqqi4x")
_KEEPS_IGNORING: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
_OWN_LIMITS: Final = (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_CPU)


def settle_in() -> None:
    """Undo what the starter's surroundings mean for this process, and go before others where that is allowed."""
    for number in signal.valid_signals() - _KEEPS_IGNORING:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for limit in _OWN_LIMITS:
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (hard, hard))
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    for score in _OOM_SCORES:
        if _set_oom_score(score):
            break


def _set_oom_score(score: int) -> bool:
    try:
        if int(read_once("/proc/self/oom_score_adj")) <= score:
            return True
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, str(score).encode())
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def lock_memory() -> bool:
    """Keep this process's memory resident, each page from its first use on; returns whether that was to be had.

    Not where only a part may be locked: the next allocation beyond that would fail.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if allowed != resource.RLIM_INFINITY and os.geteuid() != 0:
        return False
    try:
        _libc.lock_all_memory()
    except (OSError, AttributeError):
        return False
    return True


def write_lock_holder(descriptor: int, offset: int) -> int:
    """Return the process that keeps others from write-locking a byte of a file, 0 if nobody does.

    The descriptor must stay open as long as this process has locks of its own on the file: closing any descriptor of a
    file gives up all of them.

    Raises:
        OSError: when the kernel cannot tell.
    """
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, wanted))
    return 0 if kind == fcntl.F_UNLCK else int(pid)
