"""What is asked of a job when memory is short, as the job itself sees it: wait, give back, take less, stop.

Comes in: the lease's seat on the board. Goes out: a wait at checkpoints, calls of those who can give memory back, and
two words for the job to act on. Without a ledger nothing is ever asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from memguard.ledger.beacon import Sight
from memguard.ledger.board import Ask, Entry

__all__ = ["LOOK_EVERY_S", "Asked", "Seated"]

# How often who is made to wait looks whether he may go on, in seconds.
LOOK_EVERY_S: Final = 0.02


class Seated(Protocol):
    """Where a lease's figures stand."""

    def entry(self) -> Entry:
        """Return what stands there now."""

    def sight(self) -> Sight | None:
        """Return what the sentinel saw last."""


class Asked:
    """Follows what is asked of one job.

    Args:
        seat: where it stands, ``None`` for nowhere.
    """

    def __init__(self, seat: Seated | None) -> None:
        self._seat = seat
        self._shed: list[Callable[[int], object]] = []
        self._shed_at_s = 0.0

    @property
    def now(self) -> Ask:
        """What is asked now."""
        return self._seat.entry().asked if self._seat is not None else Ask.NOTHING

    @property
    def is_held(self) -> bool:
        """Whether the job is made to wait now."""
        return self.now in (Ask.WAIT, Ask.FROZEN)

    @property
    def light(self) -> bool:
        """Whether the job is to go on with less, if it can."""
        return self.now in (Ask.LIGHT, Ask.STOP)

    @property
    def stop(self) -> bool:
        """Whether the job is to end soon, and to keep what it has."""
        return self.now in (Ask.STOP, Ask.KILL)

    @property
    def state(self) -> int:
        """How short memory of the machine is, a `memguard.guard.Pressure` as a number; 0 where nobody looks."""
        sight = self._seat.sight() if self._seat is not None else None
        return sight.state if sight is not None and sight.is_fresh() else 0

    @property
    def running(self) -> int:
        """How many jobs hold memory of the machine; 1 where nobody counts."""
        sight = self._seat.sight() if self._seat is not None else None
        return max(1, sight.running) if sight is not None and sight.is_fresh() else 1

    @property
    def used_bytes(self) -> int | None:
        """What the job was last seen to use; ``None`` where nobody tells."""
        used = self._seat.entry().used_bytes if self._seat is not None else 0
        return used or None

    def on_shed(self, shed: Callable[[int], object]) -> None:
        """Have something called when memory is to be given back, with how many bytes would help."""
        self._shed.append(shed)

    def heed(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Give back what is asked for, and wait while the job is made to wait.

        Args:
            meanwhile: called again and again then: sees to what must go on, and may raise to end the wait.
        """
        self.shed_if_asked()
        while self.is_held:
            meanwhile()
            # Whoever asked may have died since; he who comes after him sees what stands on the board, and goes on.
            time.sleep(LOOK_EVERY_S)

    def shed_if_asked(self) -> None:
        """Have memory given back, once each time that is asked."""
        entry = self._seat.entry() if self._seat is not None else Entry()
        if entry.asked is Ask.NOTHING or entry.asked_at_s == self._shed_at_s:
            return
        self._shed_at_s = entry.asked_at_s
        for shed in tuple(self._shed):
            shed(entry.used_bytes)
