"""The ledger and the board as somebody sees them who looks a hundred times a second and changes nothing.

Comes in: the folder. Goes out: each lease with what stands in its slot. No writer keeps it waiting, and rows are read
only where somebody changed them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from memguard.host.quarters import write_lock_holder
from memguard.ledger.board import Ask, Entry, entry_in
from memguard.ledger.files import LedgerFiles
from memguard.ledger.records import Lease
from memguard.ledger.store import LedgerStore

__all__ = ["LedgerReader"]


# Where SQLite locks the index of its write-ahead log for writing: WALINDEX_LOCK_OFFSET in its wal.c.
_WRITE_LOCK_AT: Final = 120


class LedgerReader:
    """What is read again and again. Of no use in a forked copy; for one thread.

    Args:
        folder: where the ledger is.

    Raises:
        LedgerError: if it cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = LedgerFiles(folder)
        self._shared: dict[int, int] = {}
        self._seen: tuple[LedgerStore, int] | None = None
        self._leases: list[Lease] = []

    def look(self) -> Sequence[tuple[Lease, Entry]]:
        """Return each lease, with its use as the board has it, and its entry there.

        Raises:
            LedgerError: if the ledger cannot be read.
        """
        store = self._files.current()
        # Asked before the rows are read: who changes them in between is then seen the next time.
        seen = store, store.version
        if seen != self._seen:
            self._leases, self._seen = store.leases(), seen
        figures = self._files.board.copy()
        entries = [entry_in(figures, lease.slot, lease.token) for lease in self._leases]
        self._leases = [_using(*each) for each in zip(self._leases, entries, strict=True)]
        return list(zip(self._leases, entries, strict=True))

    def ask(self, lease: Lease, what: Ask, now_s: float) -> bool:
        """Ask something of a lease's job; False if the lease has ended."""
        return self._files.board.ask(lease.slot, lease.token, what, now_s)

    def writer(self) -> int:
        """Return the process that is in the midst of a transaction, 0 if nobody is or it cannot be told."""
        path = self._folder / "ledger.sqlite-shm"
        try:
            inode = os.stat(path).st_ino
            if inode not in self._shared:
                # Kept open for good: to close it would give up SQLite's own locks on the file.
                self._shared[inode] = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            return write_lock_holder(self._shared[inode], _WRITE_LOCK_AT)
        except OSError:
            return 0

    def close(self) -> None:
        """Close the files; once or many times."""
        self._files.close()
        while self._shared:
            os.close(self._shared.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _using(lease: Lease, entry: Entry) -> Lease:
    # Most jobs use what they used a moment ago.
    return lease if lease.used_bytes == entry.used_bytes else replace(lease, used_bytes=entry.used_bytes)
