"""A census of all objects, taken twice: what is there, and at the second time what became more and who holds it.

Comes in: a moment. Goes out: a `Snapshot`, which has numbers alone and keeps no object, and from it and a later moment
an `Explained`. Each census walks over all objects (about 0.4 s of processor time with 100,000 of them), allocates some
120 bytes for each and gives all of it back. What it does not see: references that C code has, and memory of C.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from memguard.leaks.culprits import MOST_CULPRITS, explain
from memguard.leaks.records import Explained
from memguard.leaks.snapshot import Snapshot, snapshot_of
from memguard.leaks.walk import Walk, WalkLimits, walk

__all__ = ["Census"]


class Census:
    """Takes snapshots and explains what came between two of them. Keeps no object but snapshots.

    Args:
        limits: where a walk gives up; by default after ten seconds.
        contents: whether findings may show keys and values; else types and sizes alone.
        most_culprits: how many to name.
    """

    def __init__(
        self,
        limits: WalkLimits | None = None,
        *,
        contents: bool = False,
        most_culprits: int = MOST_CULPRITS,
    ) -> None:
        self._limits = limits or WalkLimits()
        self._contents = contents
        self._most = most_culprits
        self._taken: list[Snapshot] = []
        self._left_out: list[object] = []

    def leave_out(self, *things: object) -> None:
        """Leave out objects, with what only they hold: those of whoever takes the census."""
        self._left_out.extend(things)

    def take(self) -> Snapshot:
        """Take a snapshot of this process."""
        with _uncollected():
            snapshot = snapshot_of(self._walk())
        self._taken.append(snapshot)
        return snapshot

    def explain(self, before: Snapshot, iterations: int) -> Explained:
        """Say what became more since a snapshot, and who holds it.

        Args:
            before: the snapshot, taken in this process.
            iterations: how many there were since, 1 or more.
        """
        with _uncollected():
            found = self._walk()
            return explain(before, found, max(1, iterations), contents=self._contents, most=self._most)

    def _walk(self) -> Walk:
        own: list[object] = [self, self._taken, self._limits, self._left_out, *self._left_out]
        own.extend(part for each in self._taken for part in each.parts())
        return walk(self._limits, ignoring=own)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the collector from freeing, in the midst of a census, the cycles that it is to count."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
