"""What a job's guard does with what is asked of its job, beside the job's own budget.

Comes in: the lease's seat on the board, and looks at the job's use. Goes out: the use, for all to see, and what is
asked of the job, when that has changed. The sentinel itself stops and wakes the processes of a job; ending it is left
to its guard, who can tell the story.
"""

from __future__ import annotations

import time

from memguard.ledger.board import Ask
from memguard.ledger.seat import Seat, SeatView

__all__ = ["Obedience"]


class Obedience:
    """Follows one seat, or none: then nothing is ever asked.

    Attributes:
        degraded: why there is no seat though there should be, in a sentence, or ``""``.
        held_s: for how long the job was stopped by others, in seconds: no time of its own.
    """

    def __init__(self, seat: Seat | None) -> None:
        self.degraded = ""
        self.held_s = 0.0
        self._held_since_s: float | None = None
        self._asked = self.before = Ask.NOTHING
        self._view: SeatView | None = None
        try:
            self._view = SeatView(seat) if seat is not None else None
        except OSError as error:
            self.degraded = f"what the job uses is not told to other jobs: {error}"

    def note_root(self, pid: int, start_ticks: int, limit_bytes: int) -> None:
        """Tell which tree it is, and where its guard stops it."""
        if self._view is not None:
            self._view.note_root(pid, start_ticks, limit_bytes)

    def look(self, used_bytes: int) -> Ask | None:
        """Tell what the tree uses; returns what is asked of the job where that is another thing than before.

        What was asked before is `before`.
        """
        if self._view is None:
            return None
        self._view.note_used(used_bytes)
        asked = self._view.entry().asked
        self._count_held(asked, time.monotonic())
        if asked is self._asked:
            return None
        self.before, self._asked = self._asked, asked
        return asked

    def _count_held(self, asked: Ask, now_s: float) -> None:
        if self._held_since_s is not None:
            self.held_s += now_s - self._held_since_s
        self._held_since_s = now_s if asked is Ask.FROZEN else None

    def close(self) -> None:
        """Let go of the seat; once or many times."""
        if self._view is not None:
            self._view.close()
