"""Memory cgroups for tests that fill a machine: its limit is the machine's for whoever is inside."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memguard.host import Fence
from memguard.host.fence_limits import write_limit
from memguard.host.fence_place import FencePlace, choose_place

_numbers = itertools.count()


@contextmanager
def pen(limit_bytes: int) -> Iterator[Fence]:
    """A cgroup with a limit, which is no fence of a job: who is inside may have a sentinel. Emptied and removed."""
    place = choose_place()
    if not isinstance(place, FencePlace):
        pytest.skip(f"no memory cgroup can be made here: {place.reason}")
    path = f"{place.directory}/pen-{os.getpid()}-{next(_numbers)}"
    os.mkdir(path)
    try:
        write_limit(path, place.kind, limit_bytes, lower=True)
        opened = Fence(path, place.kind, limit_bytes)
    except BaseException:
        os.rmdir(path)
        raise
    with opened:
        yield opened
