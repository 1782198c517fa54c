"""Who a process is, beyond its pid: pids are used again, start times within one boot are not.

A process is called dead on proof only. Whatever cannot be seen from here (another machine, another
pid namespace, a process hidden by permissions) counts as alive.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Final

from memguard.host import portable
from memguard.host._files import read_once
from memguard.host.readings import ProcessIdentity

__all__ = [
    "ProcessStat",
    "identify",
    "is_alive",
    "parse_stat",
    "pid_is_alive",
    "pid_is_taken",
    "pid_namespace",
    "read_stat",
]

# The kernel's fixed inode of the first pid namespace (PROC_PID_INIT_INO).
_FIRST_PID_NAMESPACE: Final = 0xEFFFFFFC
_DEAD_STATES: Final = frozenset("ZXx")
# PF_FORKNOEXEC of the kernel's task flags.
_FORKED_ONLY: Final = 0x40


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The fields of /proc/PID/stat that memguard uses.

    Attributes:
        name: the kernel's short name of the program.
        state: one letter; ``Z`` and ``X`` are dead.
        parent_pid: the parent's pid, 0 for none that can be seen.
        has_executed: whether it runs a program of its own, not its parent's memory since the fork.
        threads: number of threads.
        start_ticks: start time in clock ticks since boot.
    """

    name: str
    state: str
    parent_pid: int
    has_executed: bool
    threads: int
    start_ticks: int

    @property
    def is_dead(self) -> bool:
        """Whether it is only an entry that waits for its parent.

        A first thread that ended while others go on shows as a zombie too, but with their number.
        """
        return self.state in _DEAD_STATES and self.threads <= 1


def parse_stat(text: bytes) -> ProcessStat:
    """Read the content of /proc/PID/stat; the name may hold spaces, parentheses and newlines.

    Raises:
        ValueError: for a text that is not such a content, for instance an empty one.
    """
    opening, closing = text.find(b"("), text.rfind(b")")
    fields = text[closing + 2 :].split()
    if opening < 0 or closing < opening or len(fields) < 20:
        raise ValueError(f"not the content of /proc/PID/stat: {text[:60]!r}")
    name = text[opening + 1 : closing].decode("utf-8", "replace")
    return ProcessStat(
        name=name,
        state=chr(fields[0][0]),
        parent_pid=int(fields[1]),
        has_executed=not int(fields[6]) & _FORKED_ONLY,
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
    )


def read_stat(pid: int) -> ProcessStat:
    """Read /proc/PID/stat of a process.

    Raises:
        OSError: when there is no such process, or it cannot be seen.
    """
    return parse_stat(read_once(f"/proc/{pid}/stat"))


def identify(pid: int | None = None) -> ProcessIdentity:
    """Tell who a process is.

    Args:
        pid: the process, this one by default.

    Raises:
        OSError: when there is no such process, or it cannot be seen.
    """
    pid = os.getpid() if pid is None else pid
    return ProcessIdentity(_host_name(), _boot_id(), pid, _start_ticks(pid))


def is_alive(identity: ProcessIdentity) -> bool:
    """Tell whether a process still runs; ``False`` only on proof of death, and for zombies.

    Proof is: another boot of the same machine, no such pid, or a pid that now belongs to a process
    with another start time. Another host or pid namespace cannot be judged from here: alive.
    """
    if identity.host != _host_name():
        return True
    here = _boot_id()
    if here and identity.boot_id and here != identity.boot_id:
        return False
    return pid_is_alive(identity.pid, identity.start_ticks)


def pid_is_alive(pid: int, start_ticks: int) -> bool:
    """Tell whether a process of this machine and boot still runs; ``False`` only on proof, and for zombies."""
    if not portable.HAS_PROC:
        return portable.is_alive(pid, start_ticks)
    try:
        stat = read_stat(pid)
    except (OSError, ValueError):
        # /proc mounted with hidepid shows no entry for other users' processes, so a missing entry
        # proves nothing; the signal that is never sent does.
        return _pid_exists(pid)
    return stat.start_ticks == start_ticks and not stat.is_dead


def pid_is_taken(pid: int) -> bool:
    """Tell whether any process has a pid now; ``False`` only on proof, and for zombies."""
    try:
        return not read_stat(pid).is_dead
    except (OSError, ValueError):
        return _pid_exists(pid)


def _pid_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _start_ticks(pid: int) -> int:
    return read_stat(pid).start_ticks if portable.HAS_PROC else portable.start_ticks(pid)


def pid_namespace() -> int:
    """Return the inode of this process's pid namespace, 0 where it cannot be told."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _host_name() -> str:
    # Pids mean nothing in another pid namespace, and containers often share a host name (pods with
    # a shared network, restarts): so a namespace that is not the first one is part of the name.
    namespace = pid_namespace()
    suffix = "" if namespace in (0, _FIRST_PID_NAMESPACE) else f"#pid:{namespace}"
    return os.uname().nodename + suffix


@functools.cache
def _boot_id() -> str:
    """Return the kernel's id of this boot, or ``""`` where it tells none; then boots are not compared."""
    try:
        return read_once("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
    except OSError:
        return ""
