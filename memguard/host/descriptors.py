"""Descriptors with an owner: whatever interrupts the code that has them, they are closed when it lets go."""

from __future__ import annotations

import contextlib
import os

__all__ = ["Descriptors"]


class Descriptors(list[int]):
    """Owns the descriptors in it until `close`, until they are given away, or until nobody has it any more.

    Fill it by ``Descriptors(map(os.open, [path], [flags]))``, or by ``extend`` of the like: the call that opens and
    the list that owns are then one step, and Ctrl-C comes before or after it.
    """

    __slots__ = ()

    def fileno(self) -> int:
        """Return the first one, -1 if there is none."""
        return self[0] if self else -1

    def close(self) -> None:
        """Close all; once or many times, and each once, whatever comes in between."""
        with contextlib.suppress(IndexError):  # another thread closed the last one
            while self:
                # Taken out and closed in one step too: a closed number may be somebody else's a moment later.
                next(map(os.close, map(list.pop, (self,))))

    def give_away(self) -> list[int]:
        """Return them for another owner."""
        given = list(self)
        self.clear()
        return given

    def __del__(self) -> None:
        self.close()
