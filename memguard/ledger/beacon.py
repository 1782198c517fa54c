"""What the sentinel of a domain sees, for every process to read without asking: one small mapped file.

Comes in: its look at the machine, up to a hundred times a second. Goes out: the same, with the time, so that a reader
knows whether somebody still looks. One writer, who holds the lock; a reader that meets a half-written record reads
again.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import time
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Final, Self

from memguard.host.shared_map import SharedMap

__all__ = ["FRESH_S", "Beacon", "Sight", "domain_file", "sight_at"]

# The sentinel looks once a second at least; who has not been seen for this long is frozen, or gone.
FRESH_S: Final = 3.0
_RECORD: Final = struct.Struct("=dQQQddQQQdddQQ")
_COUNT: Final = struct.Struct("=Q")
_SIZE_BYTES: Final = 2 * _COUNT.size + _RECORD.size
_TRIES: Final = 100


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found.

    Attributes:
        at_s: when, in seconds since boot.
        pid: the sentinel's process.
        start_ticks: when it started, as in `ProcessIdentity`.
        state: a `memguard.guard.Pressure`, as a number.
        since_s: since when.
        used_fraction: of the capacity.
        capacity_bytes: what jobs may use.
        available_bytes: what nobody uses.
        promised_bytes: what was promised and is not used yet.
        fill_bytes_per_s: how fast grows what is used or promised.
        time_to_full_s: until nothing is left; infinite if it does not grow.
        next_look_s: seconds until the next look.
        running: how many leases hold memory.
        is_shut: whether nothing is to be given out, 1 or 0.
    """

    at_s: float
    pid: int
    start_ticks: int
    state: int
    since_s: float
    used_fraction: float
    capacity_bytes: int
    available_bytes: int
    promised_bytes: int
    fill_bytes_per_s: float
    time_to_full_s: float
    next_look_s: float
    running: int
    is_shut: int = 0

    def is_fresh(self, now_s: float | None = None) -> bool:
        """Whether somebody looked lately."""
        now_s = time.clock_gettime(time.CLOCK_MONOTONIC) if now_s is None else now_s
        return 0 <= now_s - self.at_s < FRESH_S


# Not `dataclasses.astuple`, which copies in depth and is twenty times slower.
_fields_of: Final = attrgetter(*(each.name for each in fields(Sight)))


class Beacon:
    """The mapped file.

    Args:
        path: the file; made if it is missing. See `domain_file`.

    Raises:
        OSError: if it cannot be opened or has no room.
    """

    def __init__(self, path: Path) -> None:
        self._map = SharedMap(path, _SIZE_BYTES)

    def write(self, sight: Sight) -> None:
        """Tell what was seen; counts before and after, so that a reader can see whether it is whole."""
        (count,) = _COUNT.unpack_from(self._map.memory, 0)
        count = (count + 1) % 2**63
        _COUNT.pack_into(self._map.memory, 0, count)
        _RECORD.pack_into(self._map.memory, _COUNT.size, *_fields_of(sight))
        _COUNT.pack_into(self._map.memory, _COUNT.size + _RECORD.size, count)

    def read(self) -> Sight | None:
        """Return what was seen last; ``None`` if nothing ever was."""
        return _sight_in(self._map.memory)

    def close(self) -> None:
        """Unmap; once or many times."""
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sight_at(path: Path) -> Sight | None:
    """Return what was seen last, without making the file; ``None`` if nothing ever was.

    Raises:
        OSError: if it cannot be read.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            return _sight_in(memory) if len(memory) >= _SIZE_BYTES else None
    except (FileNotFoundError, ValueError):  # an empty file cannot be mapped: somebody is about to fill it
        return None


def _sight_in(memory: mmap.mmap | memoryview) -> Sight | None:
    for _ in range(_TRIES):
        after = _COUNT.unpack_from(memory, _COUNT.size + _RECORD.size)
        fields = _RECORD.unpack_from(memory, _COUNT.size)
        before = _COUNT.unpack_from(memory, 0)
        if before == after:
            return Sight(*fields) if before != (0,) else None
        os.sched_yield()
    return None  # its writer died, or was frozen, in the midst of it: nobody looks


def domain_file(folder: Path, kind: str, domain: str) -> Path:
    """Return where a file that belongs to a domain is; see `memguard.ledger.records.Room` for what that is."""
    if not domain:
        return folder / kind
    return folder / f"{kind}-{hashlib.sha256(domain.encode()).hexdigest()[:16]}"
