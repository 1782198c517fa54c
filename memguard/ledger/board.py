"""What each lease uses, and what is asked of it: one small file that all processes map, read and written without locks.

Comes in: figures of the guards, some hundred times a second, and what the sentinel asks of them. Goes out: the same to
whoever decides or obeys. A slot belongs to one lease (the ledger says which); each of its fields has one writer: the
lease's guard tells, the sentinel asks. A field is eight bytes and is written at once. What must survive stands in the
ledger, not here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

from memguard.host.shared_map import SharedMap

__all__ = ["SLOTS", "Ask", "Board", "Entry", "entry_in", "figures_at", "slot_of"]

# 64 bytes, a line of the processor's cache: writers do not slow each other.
_SLOT_BYTES: Final = 64
SLOTS: Final = 1024
_FIELD: Final = struct.Struct("=Q")
_SLOT: Final = struct.Struct("=QQQQQQQQ")
_USED, _TOKEN, _ASKED, _ROOT_PID, _ROOT_TICKS, _LIMIT, _ASKED_AT, _PEAK = range(0, _SLOT_BYTES, _FIELD.size)


class Ask(IntEnum):
    """What the sentinel asks of a job, the milder the lower.

    ``SHED``: give back what can be made again. ``LIGHT``: go on with less. ``STOP``: end, and keep what there is.
    ``WAIT``: go on only when this is taken back (cooperative jobs). ``FROZEN``: as WAIT; its processes were stopped.
    ``KILL``: its guard is to end it now.
    """

    NOTHING = 0
    SHED = 1
    LIGHT = 2
    STOP = 3
    WAIT = 4
    FROZEN = 5
    KILL = 6


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in a lease's slot.

    Attributes:
        used_bytes: what its tree was last seen to use; 0 while its guard has not said.
        peak_bytes: the most it was seen to use.
        asked: what is asked of it.
        asked_at_s: since when, in seconds since boot.
        root_pid: the first process of its tree; 0 for work inside its owner's own process, which is not enforced.
        root_ticks: when that process started, as in `ProcessIdentity`.
        limit_bytes: where its own guard stops it; 0 while that is not known.
    """

    used_bytes: int = 0
    peak_bytes: int = 0
    asked: Ask = Ask.NOTHING
    asked_at_s: float = 0.0
    root_pid: int = 0
    root_ticks: int = 0
    limit_bytes: int = 0


class Board:
    """A table of figures, one slot a lease.

    Args:
        path: the file; made if it is missing.

    Raises:
        OSError: if it cannot be opened or has no room.
    """

    def __init__(self, path: Path) -> None:
        self._map = SharedMap(path, SLOTS * _SLOT_BYTES)

    def claim(self, slot: int, token: int) -> None:
        """Begin to use a slot, for the lease that has this token."""
        self._map.memory[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES] = bytes(_SLOT_BYTES)
        self._write(slot, _TOKEN, token)

    def restore(self, slot: int, token: int, figures: bytes | None) -> None:
        """Begin to use a slot for a lease that had another one, or had it on a board that was removed.

        Args:
            slot: its new place.
            token: the lease's.
            figures: of the former board, where it is not this one. All that stood there for the lease goes on to hold,
                what is asked of it too: who is stopped must be let go on.
        """
        known = bytes(self._map.memory) if figures is None else figures
        former = slot_of(known, token)
        self.claim(slot, token)
        if former >= 0:
            begin = former * _SLOT_BYTES
            if figures is None:  # a guard that still writes there would take it for its own
                self.claim(former, 0)
            self._map.memory[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES] = known[
                begin : begin + _SLOT_BYTES
            ]

    @property
    def is_replaced(self) -> bool:
        """Whether another board is at its path by now."""
        return self._map.is_replaced

    @property
    def is_there(self) -> bool:
        """Whether it is still the board at its path."""
        return self._map.is_there

    def belongs_to(self, slot: int, token: int) -> bool:
        """Whether a slot is still that of the lease that has this token."""
        (owner,) = _FIELD.unpack_from(self._map.memory, slot * _SLOT_BYTES + _TOKEN)
        return bool(owner == token)

    def write_used(self, slot: int, used_bytes: int) -> None:
        """Tell what a lease's tree uses now."""
        self._write(slot, _USED, used_bytes)
        (peak,) = _FIELD.unpack_from(self._map.memory, slot * _SLOT_BYTES + _PEAK)
        if used_bytes > peak:
            self._write(slot, _PEAK, used_bytes)

    def write_root(self, slot: int, pid: int, start_ticks: int, limit_bytes: int) -> None:
        """Tell which tree a lease is for, whose guard enforces ``limit_bytes``; the pid last, when the rest is true."""
        self._write(slot, _LIMIT, limit_bytes)
        self._write(slot, _ROOT_TICKS, start_ticks)
        self._write(slot, _ROOT_PID, pid)

    def ask(self, slot: int, token: int, what: Ask, now_s: float) -> bool:
        """Ask something of a lease; False if the slot is another's by now."""
        if not self.belongs_to(slot, token):
            return False
        self._write(slot, _ASKED_AT, int(now_s * 1e6))
        self._write(slot, _ASKED, what)
        return True

    def _write(self, slot: int, field: int, value: int) -> None:
        _FIELD.pack_into(self._map.memory, slot * _SLOT_BYTES + field, max(0, value))

    def entry(self, slot: int, token: int) -> Entry:
        """Return what stands in the slot of a lease now."""
        return _entry(bytes(self._map.memory[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES]), 0, token)

    def copy(self) -> bytes:
        """Return all figures as they are now, for `entry_in`."""
        return bytes(self._map.memory)

    def close(self) -> None:
        """Unmap; once or many times."""
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def figures_at(path: Path) -> bytes:
    """Return all figures of a board without making it, for `entry_in`; none stand on one that is missing.

    Raises:
        OSError: if it cannot be read.
    """
    try:
        figures = path.read_bytes()
    except FileNotFoundError:
        figures = b""
    return figures.ljust(SLOTS * _SLOT_BYTES, b"\0")


def slot_of(figures: bytes, token: int) -> int:
    """Return the slot of the lease that has this token, -1 if it has none."""
    wanted, at = _FIELD.pack(token), -1
    while (at := figures.find(wanted, at + 1)) >= 0:
        if at % _SLOT_BYTES == _TOKEN:
            return at // _SLOT_BYTES
    return -1


def entry_in(figures: bytes, slot: int, token: int) -> Entry:
    """Return what stood in the slot of a lease; nothing if it was another's."""
    return _entry(figures, slot * _SLOT_BYTES, token)


def _entry(figures: bytes, offset: int, token: int) -> Entry:
    used, owner, asked, pid, ticks, limit, asked_at, peak = _SLOT.unpack_from(figures, offset)
    if owner != token:
        return Entry()
    known = Ask(asked) if asked in _ASKS else Ask.NOTHING
    return Entry(used, peak, known, asked_at / 1e6, pid, ticks, limit)


_ASKS: Final = frozenset(int(each) for each in Ask)
