"""What psutil tells on systems without /proc: less exact, but the same records.

Imports psutil only when it is asked something, so that Linux, which never asks, does not pay for it.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["HAS_PROC", "is_alive", "physical_memory", "start_ticks", "swap_free_bytes"]

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
