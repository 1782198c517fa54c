"""A memory cgroup that stands for a machine. Its name is no fence's, since no sentinel starts inside of a job."""

from __future__ import annotations

import os

from memguard.host import Fence
from memguard.host.fence_limits import write_limit
from memguard.host.fence_place import FencePlace, choose_place

__all__ = ["NoPenError", "open_pen"]


class NoPenError(RuntimeError):
    """No memory cgroup can be made here."""


def open_pen(name: str, limit_bytes: int) -> Fence:
    """Make one; whoever asks removes it.

    Raises:
        NoPenError: where none can be made.
    """
    place = choose_place()
    if not isinstance(place, FencePlace):
        raise NoPenError(f"no memory cgroup can be made here: {place.reason}")
    path = f"{place.directory}/{name}-{os.getpid()}"
    os.mkdir(path)
    try:
        write_limit(path, place.kind, limit_bytes, lower=True)
        return Fence(path, place.kind, limit_bytes)
    except BaseException:
        os.rmdir(path)
        raise
