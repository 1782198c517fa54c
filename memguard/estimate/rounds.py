"""How often a kind was told the truth before it went on: jobs begun beside each other hear nothing of each other. Pure.

Comes in: that a job begins, that one ends. Goes out: the number of rounds, each begun after a job of the one before had
ended. What changes the world hits all jobs of a round, so a promise counts rounds: after n of them without a change
the next brings one with probability 1 / (n + 1), however many jobs each had. This module sizes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Rounds"]


class Rounds:
    """The rounds of one kind."""

    def __init__(self) -> None:
        """Begin with none."""
        self.done = 0
        self._ends = 0
        self._beside = 0

    def begin(self) -> int:
        """Note that a job begins; returns its round."""
        return self.done

    def end(self, began: int | None, running: int) -> None:
        """Note that a job has ended.

        Args:
            began: the round that it began in; ``None`` if nobody told, so it is one by itself.
            running: how many have begun and not ended, this one not among them.
        """
        self._ends += 1
        # Whose end it is may be mistaken where jobs look alike; that many ends are one of this round for certain.
        if began is None or began == self.done or self._ends > self._beside:
            self.done, self._ends, self._beside = self.done + 1, 0, running

    def state(self) -> dict[str, int]:
        """Return what `restore` takes."""
        return {"done": self.done, "ends": self._ends, "beside": self._beside}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another was."""
        self.done, self._ends, self._beside = (int(state[name]) for name in ("done", "ends", "beside"))
