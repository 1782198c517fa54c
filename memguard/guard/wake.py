"""Sleeping until the next look is due, or until a signal says that it is the last one.

Comes in: signal numbers, seconds. Goes out: waking. Without it a signal would be seen when the sleep is over.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from types import FrameType
from typing import Self

__all__ = ["Wake"]


class Wake:
    """Sleeps; woken by signals. For the main thread; put back what was there at the end of its block.

    Args:
        numbers: the signals that stop.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self.is_stopped = False
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._former = {number: signal.signal(number, self._stop) for number in numbers}

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.is_stopped = True
        os.eventfd_write(self._descriptor, 1)

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until a signal comes; not at all once one came."""
        self._poll.poll(seconds * 1000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)
        os.close(self._descriptor)
