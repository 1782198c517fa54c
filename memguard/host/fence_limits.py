"""How a fence's limit is written, so that neither swap nor the order of the writes lets anything escape."""

from __future__ import annotations

import contextlib
import os
from typing import Final

__all__ = ["write_control", "write_limit"]

# The kernel counts a charge refused by memory.limit_in_bytes but not one refused by memsw (Linux
# 6.16 on). A little room above, larger than a batch of charges, lets the counted limit be hit first.
_MEMSW_ROOM: Final = 1024**2


def write_limit(path: str, kind: str, limit_bytes: int, *, lower: bool) -> None:
    """Set the limit of a fence.

    Args:
        path: its directory.
        kind: ``cgroup-v1`` or ``cgroup-v2``.
        limit_bytes: the limit; the kernel rounds it down to whole pages.
        lower: whether the new limit is the lower one; v1 needs another order then.

    Raises:
        OSError: when the kernel refuses the limit. Files that only some kernels have may be missing.
    """
    if kind == "cgroup-v2":
        write_control(f"{path}/memory.max", str(limit_bytes))
        _write_optional(f"{path}/memory.swap.max", "0")
        _write_optional(f"{path}/memory.oom.group", "1")
    else:
        _write_v1(path, limit_bytes, lower=lower)


def _write_v1(path: str, limit_bytes: int, *, lower: bool) -> None:
    # memsw must never be below the limit itself. The file is missing where swap is not accounted;
    # swappiness 0 then keeps anonymous pages out of swap.
    swap_limit = str(limit_bytes + _MEMSW_ROOM)
    if not lower:
        _write_optional(f"{path}/memory.memsw.limit_in_bytes", swap_limit)
    write_control(f"{path}/memory.limit_in_bytes", str(limit_bytes))
    if lower:
        _write_optional(f"{path}/memory.memsw.limit_in_bytes", swap_limit)
    _write_optional(f"{path}/memory.swappiness", "0")


def write_control(path: str, text: str) -> None:
    """Write to a control file that exists.

    Raises:
        OSError: when it does not, or the kernel refuses the value.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)


def _write_optional(path: str, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        write_control(path, text)
