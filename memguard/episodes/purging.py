"""What a purge still owes: copies of what it overwrote, in the log and in the vectors' files.

They go when the log is put into the database and emptied, which a reader that began before the purge forbids for as
long as it reads. So the debt is written down by the same commit as the purge itself, and is paid off by whoever writes
later, in whatever process.
"""

from __future__ import annotations

import time
from typing import Final

import apsw

from memguard.episodes.ids import new_ids

__all__ = ["Debt", "owe", "owed", "settle"]

_NAME: Final = "\0purge"  # no mark that anybody else sets
# How long a reader is left alone before it is tried again.
_PAUSE_S: Final = 1.0


def owe(connection: apsw.Connection) -> None:
    """Write down that something was purged, inside the transaction that did it."""
    connection.execute("INSERT OR REPLACE INTO mark(name, value) VALUES (?, ?)", (_NAME, new_ids(1)[0]))


def owed(connection: apsw.Connection) -> str | None:
    """Return what tells the last purge that is not finished; ``None``: there is none."""
    found = connection.execute("SELECT value FROM mark WHERE name = ?", (_NAME,)).fetchone()
    return None if found is None else str(found[0])


def settle(connection: apsw.Connection, purge: str) -> None:
    """Strike a purge out; one that came meanwhile stays."""
    connection.execute("DELETE FROM mark WHERE name = ? AND value = ?", (_NAME, purge))


class Debt:
    """Whether this process knows of a purge to be finished, and when to try again.

    Args:
        is_open: whether there is one.
    """

    def __init__(self, *, is_open: bool) -> None:
        self._is_open, self._next_s = is_open, 0.0

    def set(self, *, is_open: bool) -> None:
        """Take what came of a try."""
        self._is_open, self._next_s = is_open, time.monotonic() + _PAUSE_S

    @property
    def is_due(self) -> bool:
        """Whether it is to be tried now."""
        return self._is_open and time.monotonic() >= self._next_s
