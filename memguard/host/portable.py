"""What psutil tells on systems without /proc: less exact, but the same records.

Imports psutil only when it is asked something, so that Linux, which never asks, does not pay for it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from memguard.host.readings import Exactness, ProcessReading, TreeReading

if TYPE_CHECKING:
    import psutil

__all__ = ["HAS_PROC", "is_alive", "physical_memory", "sample_tree", "start_ticks", "swap_free_bytes"]

# Asked once: a machine does not gain a Linux /proc while a program runs.
HAS_PROC: Final = os.path.exists("/proc/self/stat")


def start_ticks(pid: int) -> int:
    """Return a process's start time in hundredths of a second since the epoch.

    Raises:
        ProcessLookupError: when there is no such process.
    """
    import psutil  # noqa: PLC0415 - Linux never needs it

    try:
        return int(psutil.Process(pid).create_time() * 100)
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(f"no process {pid}") from error


def is_alive(pid: int, ticks: int) -> bool:
    """Tell whether a process with that start time runs; unknown counts as alive, a zombie as dead."""
    import psutil  # noqa: PLC0415 - Linux never needs it

    try:
        process = psutil.Process(pid)
        return int(process.create_time() * 100) == ticks and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def physical_memory() -> tuple[int, int]:
    """Return the machine's memory and what of it is in use, in bytes."""
    import psutil  # noqa: PLC0415 - Linux never needs it

    memory = psutil.virtual_memory()
    return memory.total, memory.total - memory.available


def swap_free_bytes() -> int:
    """Return free swap in bytes."""
    import psutil  # noqa: PLC0415 - Linux never needs it

    return psutil.swap_memory().free


def sample_tree(root_pid: int, exact: bool) -> TreeReading:
    """Measure a process and its descendants; without ``exact``, resident pages stand for private ones.

    Shared memory that the tree created cannot be told here, and orphans leave the tree.
    """
    import psutil  # noqa: PLC0415 - Linux never needs it

    try:
        root = psutil.Process(root_pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    readings = tuple(reading for each in family if (reading := _read_process(each, exact)) is not None)
    fully_exact = exact and all(reading.pss_bytes is not None for reading in readings)
    return TreeReading(
        processes=readings,
        shared_files=(),
        exactness=Exactness.EXACT if fully_exact else Exactness.CHEAP,
        at_s=time.monotonic(),
    )


def _read_process(process: psutil.Process, exact: bool) -> ProcessReading | None:
    import psutil  # noqa: PLC0415 - Linux never needs it

    try:
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            rss_bytes = process.memory_info().rss
            private_bytes = _unique_bytes(process) if exact else None
            return ProcessReading(
                pid=process.pid,
                parent_pid=process.ppid(),
                start_ticks=int(process.create_time() * 100),
                name=process.name(),
                private_bytes=rss_bytes if private_bytes is None else private_bytes,
                # No such system tells proportional figures; the unique ones stand in where they are known.
                pss_bytes=private_bytes,
                rss_bytes=rss_bytes,
                swap_bytes=0,
            )
    except psutil.Error:
        return None  # ended, or not ours to look into


def _unique_bytes(process: psutil.Process) -> int | None:
    import psutil  # noqa: PLC0415 - Linux never needs it

    try:
        return int(process.memory_full_info().uss)
    except (psutil.AccessDenied, AttributeError):
        return None
