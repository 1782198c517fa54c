"""Waiting for the lock of the ledger's file: in short steps at first, and in longer ones where many wait.

Comes in: how often one has looked in vain. Goes out: whether to look again, after a pause. SQLite's own handler sleeps
up to a tenth of a second between two looks.
"""

from __future__ import annotations

import random
import time
from typing import Final

__all__ = ["PATIENCE_S", "Patience", "pause_s"]

# Somebody may hold the file for seconds: a debugger in a transaction, a machine that swaps.
PATIENCE_S: Final = 10.0
_SHORTEST_LOOK_S: Final = 0.0005
_LONGEST_LOOK_S: Final = 0.002
# Who has looked so often is one of many: sixty that look every two milliseconds leave no processor to the one inside.
_MANY_LOOKS: Final = 20
_LONGEST_LOOK_OF_MANY_S: Final = 0.02


class Patience:
    """A busy handler of one connection."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._until_s = 0.0

    def __call__(self, tries: int) -> bool:
        """Pause; returns whether there is time for another look."""
        now_s = time.monotonic()
        if tries == 0:
            self._until_s = now_s + self._patience_s
        # Each a little different, or all would look again at the same moment.
        time.sleep(pause_s(tries) * random.uniform(0.5, 1.5))
        return now_s < self._until_s


def pause_s(tries: int) -> float:
    """Return how long to wait until the next look, after so many."""
    first_ones = min(_LONGEST_LOOK_S, _SHORTEST_LOOK_S * (1 + tries))
    beyond = max(0, tries - _MANY_LOOKS)
    return min(_LONGEST_LOOK_OF_MANY_S, first_ones + beyond * _SHORTEST_LOOK_S)
