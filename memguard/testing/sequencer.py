"""An order for the steps of several threads, so that a race is tested in the order that hurts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["SequenceError", "Sequencer"]


class SequenceError(RuntimeError):
    """A step that others wait for failed, so theirs can never come."""


class Sequencer:
    """Lets numbered blocks run one after another, whichever threads they are in.

    ``with sequence(0): ...`` in one thread and ``with sequence(1): ...`` in another: the second block
    starts when the first has ended. Each number from 0 on is used exactly once.
    """

    def __init__(self, *, patience_s: float = 10.0) -> None:
        """Start before step 0.

        Args:
            patience_s: real seconds after which a step that never comes is an error, not a hang.
        """
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._claimed: set[int] = set()
        self._next = 0
        self._broken_at: int | None = None

    @contextmanager
    def __call__(self, position: int) -> Iterator[None]:
        """Run a block as step ``position``.

        Raises:
            ValueError: the number was used before, or is negative.
            SequenceError: an earlier step raised.
            TimeoutError: the earlier steps did not come in time.
        """
        self._claim(position)
        self._wait_turn(position)
        try:
            yield
        except BaseException:
            self._advance(broken_at=position)
            raise
        self._advance()

    def _claim(self, position: int) -> None:
        with self._changed:
            if position < 0 or position in self._claimed:
                raise ValueError(f"step {position} is negative or was used before")
            self._claimed.add(position)

    def _wait_turn(self, position: int) -> None:
        with self._changed:
            in_time = self._changed.wait_for(
                lambda: self._next == position or self._broken_at is not None, self._patience_s
            )
            if self._broken_at is not None:
                raise SequenceError(f"step {position} cannot come: step {self._broken_at} failed")
            if not in_time:
                raise TimeoutError(f"step {position} waited {self._patience_s} s for step {self._next}")

    def _advance(self, broken_at: int | None = None) -> None:
        with self._changed:
            self._next += 1
            self._broken_at = broken_at
            self._changed.notify_all()
