"""Which places of a namespace have a vector that can be found: those of versions that are neither replaced nor deleted.

Comes in: one look at the store. Goes out: a mask, a bit for each place (125 KB for a million). It is read off the rows
once, and then follows the rows that came since: a version can be found until a later one of its episode is stored, and
never again after.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import apsw
import numpy as np
from numpy.typing import NDArray

from memguard.episodes.namespaces import Namespace

__all__ = ["Everything", "Living", "Places"]

# So many ends of versions are remembered, for readers who look at the store as it was a moment ago.
_MOST_ENDS: Final = 4096


class Everything:
    """A mask that lets everything pass."""

    def among(self, first: int, count: int) -> None:
        """Return ``None``: all may be found."""


class Places:
    """A mask with a bit for each place.

    Args:
        bits: of the places from 1 on, eight in a byte, the first in the highest bit.
    """

    def __init__(self, bits: NDArray[np.uint8]) -> None:
        self._bits = bits
        self.count = int(np.unpackbits(bits).sum(dtype=np.int64))

    @classmethod
    def of(cls, places: NDArray[np.int64], last_place: int) -> Places:
        """Return a mask of some places up to one."""
        allowed = np.zeros(last_place, np.bool_)
        allowed[places - 1] = True
        return cls(np.packbits(allowed))

    def among(self, first: int, count: int) -> NDArray[np.bool_]:
        """Return which of ``count`` places from one on may be found."""
        start = first - 1
        some = np.unpackbits(self._bits[start // 8 : (start + count + 7) // 8])
        found = some[start % 8 : start % 8 + count].view(np.bool_)
        return found if len(found) == count else np.pad(found, (0, count - len(found)))

    def upto(self, last_place: int) -> NDArray[np.int64]:
        """Return the places up to one, rising."""
        return np.flatnonzero(np.unpackbits(self._bits)[:last_place]) + 1

    def changed(self, last_place: int, fresh: Sequence[int] | NDArray[np.int64], gone: list[int]) -> Places:
        """Return a mask up to another place, with some places more and some less."""
        bits = np.zeros((last_place + 7) // 8, np.uint8)
        bits[: len(self._bits)] = self._bits[: len(bits)]
        byte, bit = _where(fresh)
        np.bitwise_or.at(bits, byte, bit)
        byte, bit = _where(gone)
        np.bitwise_and.at(bits, byte, ~bit)
        return Places(bits)

    def those_of(self, places: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some places are among these."""
        byte, bit = _where(places)
        return self._bits[byte] & bit > 0


def _where(places: Sequence[int] | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    at = np.asarray(places, np.int64) - 1
    return at // 8, (128 >> (at % 8)).astype(np.uint8)


class Living:
    """The places of one namespace; threads may ask at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places, self._upto = Places(np.zeros(0, np.uint8)), 0
        # Of versions that ended: the place of what ended it, and its own; none is forgotten behind `_since`.
        self._ends: deque[tuple[int, int]] = deque()
        self._since = 0

    def places(self, connection: apsw.Connection, namespace: Namespace) -> Places:
        """Return the mask as a look at the store has it.

        Args:
            connection: inside the look.
            namespace: as it is in it.
        """
        with self._lock:
            if namespace.last_place > self._upto:
                self._follow(connection, namespace)
            if namespace.last_place == self._upto:
                return self._places
            if namespace.last_place >= self._since:
                undone = [place for by, place in self._ends if by > namespace.last_place]
                return self._places.changed(self._upto, undone, [])
        return Places(np.zeros(0, np.uint8)).changed(
            namespace.last_place, _found(connection, namespace, 0), []
        )

    def _follow(self, connection: apsw.Connection, namespace: Namespace) -> None:
        fresh = _found(connection, namespace, self._upto)
        ended = _ended(connection, namespace, self._upto) if self._upto else []
        known = [each for each in ended if each[1] <= self._upto]
        were = self._places.those_of([place for _, place in known])
        known = [each for each, was in zip(known, were.tolist(), strict=True) if was]
        self._places = self._places.changed(namespace.last_place, fresh, [place for _, place in known])
        self._ends.extend(known)
        self._since = self._since if self._upto else namespace.last_place
        while len(self._ends) > _MOST_ENDS:
            self._since = self._ends.popleft()[0]
        self._upto = namespace.last_place


def _found(connection: apsw.Connection, namespace: Namespace, after: int) -> NDArray[np.int64]:
    """Return the places behind one that have a vector that can be found; few rows are given where most have."""
    last = namespace.last_place
    if namespace.live == namespace.vectors == last:  # no version without a vector, and none that ended
        return np.arange(after + 1, last + 1)
    if 2 * min(namespace.live, namespace.vectors) < last:
        return _places(connection, namespace, after, "is_live AND has_vector")
    found = np.ones(last - after, np.bool_)
    found[_places(connection, namespace, after, "NOT (is_live AND has_vector)") - after - 1] = False
    return np.flatnonzero(found) + after + 1


def _places(connection: apsw.Connection, namespace: Namespace, after: int, which: str) -> NDArray[np.int64]:
    asked = f"SELECT row FROM episode WHERE row > ? AND row <= ? AND {which}"
    rows: Any = connection.execute(asked, (namespace.row(after), namespace.row(namespace.last_place)))
    return np.fromiter((row for (row,) in rows), np.int64) - namespace.row(0)


def _ended(connection: apsw.Connection, namespace: Namespace, after: int) -> list[tuple[int, int]]:
    """Return the ends of versions by rows behind a place, in order."""
    asked = (
        "SELECT later.row, earlier.row FROM episode AS later CROSS JOIN episode AS earlier "
        "ON earlier.id = later.id AND earlier.version = later.version - 1 "
        "WHERE later.row > ? AND later.row <= ? AND later.version > 1 ORDER BY later.row"
    )
    first = namespace.row(0)
    rows: Any = connection.execute(asked, (namespace.row(after), namespace.row(namespace.last_place)))
    return [(by - first, row - first) for by, row in rows]
