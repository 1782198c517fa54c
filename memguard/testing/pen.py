"""A memory cgroup that stands for a machine: small, so that it can be filled, and emptied and removed at the end.

Comes in: a limit. Goes out: a `Fence` whose name is no fence's of a job, for inside of a job no sentinel starts.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import Final

from memguard.host import Fence
from memguard.host.fence_limits import write_control, write_limit
from memguard.host.fence_place import FencePlace, choose_place

__all__ = ["NoPenError", "open_pen"]

_numbers: Final = itertools.count()


class NoPenError(RuntimeError):
    """No memory cgroup can be made here."""


def open_pen(name: str, limit_bytes: int) -> Fence:
    """Make a machine of a size; whoever asks closes it, best as a ``with`` block, which ends who is inside.

    Processes go inside with its ``enter``. What they see as the machine's memory is the limit, and the kernel holds
    them to it. Nobody sweeps up a pen whose maker was killed.

    Args:
        name: the beginning of the cgroup's name.
        limit_bytes: of all that is inside.

    Raises:
        NoPenError: where none can be made; says why.
        OSError: if the kernel refuses the limit.
    """
    place = choose_place()
    if not isinstance(place, FencePlace):
        raise NoPenError(f"no memory cgroup can be made here: {place.reason}")
    path = f"{place.directory}/{name}-{os.getpid()}-{next(_numbers)}"
    os.mkdir(path)
    try:
        write_limit(path, place.kind, limit_bytes, lower=True)
        if place.kind == "cgroup-v2":  # one with processes cannot hold fences: they go beside the inner one
            write_control(f"{path}/cgroup.subtree_control", "+memory")
            os.mkdir(f"{path}/job")
        return Fence(path, place.kind, limit_bytes)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(f"{path}/job")
        os.rmdir(path)
        raise
