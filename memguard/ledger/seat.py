"""A lease as a job's own guard sees it: where to tell what the job uses, and what is asked of it.

Comes in: a `Seat`, small enough to travel in a message. Goes out: figures on the board, and an `Entry` from it. Needs
no database, so a guard that is forked for every job stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from memguard.errors import LedgerError
from memguard.ledger.beacon import Beacon, Sight, domain_file
from memguard.ledger.board import Board, Entry, slot_of
from memguard.ledger.place import ledger_folder

__all__ = ["BOARD", "SIGHT", "Seat", "SeatView"]

# The files' names in the runtime directory.
BOARD = "board"
SIGHT = "sight"


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a lease's figures stand.

    Attributes:
        folder: the runtime directory.
        domain: whose memory it is of.
        lease_id: the lease.
        slot: its place on the board.
        token: what says that the place is this lease's.
    """

    folder: str
    domain: str
    lease_id: str
    slot: int
    token: int

    @classmethod
    def from_message(cls, message: Mapping[str, Any] | None) -> Self | None:
        """Rebuild from plain data; ``None`` for none."""
        return None if message is None else cls(**message)


class SeatView:
    """The seat, mapped.

    Raises:
        OSError: if the board is not to be had.
    """

    def __init__(self, seat: Seat) -> None:
        self.seat, self._slot = seat, seat.slot
        self._board = Board(Path(seat.folder) / BOARD)
        try:
            self._beacon = Beacon(domain_file(Path(seat.folder), SIGHT, seat.domain))
        except OSError:
            self._board.close()
            raise

    def note_used(self, used_bytes: int) -> None:
        """Tell what the job's tree uses now; nothing once the lease has ended."""
        if self._is_found():
            self._board.write_used(self._slot, used_bytes)

    def note_root(self, pid: int, start_ticks: int, limit_bytes: int) -> None:
        """Tell which tree it is, and where its guard stops it."""
        if self._is_found():
            self._board.write_root(self._slot, pid, start_ticks, limit_bytes)

    def _is_found(self) -> bool:
        """Find the lease's slot, in the board that is there now: it may have been removed with its folder."""
        if self._board.is_replaced:
            try:
                board = Board(ledger_folder(Path(self.seat.folder)) / BOARD)
            except (OSError, LedgerError):  # it is gone again, or somebody else's
                return False
            self._board.close()
            self._board = board
        if self._board.belongs_to(self._slot, self.seat.token):
            return True
        if (slot := slot_of(self._board.copy(), self.seat.token)) >= 0:
            self._slot = slot
        return slot >= 0

    def entry(self) -> Entry:
        """Return what stands there now; nothing once the lease has ended."""
        return self._board.entry(self._slot, self.seat.token) if self._is_found() else Entry()

    def sight(self) -> Sight | None:
        """Return what the sentinel saw last."""
        return self._beacon.read()

    def close(self) -> None:
        """Unmap; once or many times."""
        self._board.close()
        self._beacon.close()
