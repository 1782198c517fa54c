"""Signals that ask a command to end, made into what Ctrl-C is: what runs is stopped, cleaned up and told of."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final

__all__ = ["StoppedBySignal", "stopped_by_signals"]

_ASKING: Final = (signal.SIGTERM, signal.SIGHUP)


class StoppedBySignal(KeyboardInterrupt):
    """A signal asked the command to end. Whoever knows what to do at a Ctrl-C knows what to do here.

    Attributes:
        exit_status: 128 + n for signal n, as a shell tells a death by it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_status = 128 + number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a block as Ctrl-C does; one that is ignored, as by ``nohup``, stays so.

    Raises:
        StoppedBySignal: from wherever the main thread is.
    """
    with ExitStack() as restored:
        for each in _ASKING:
            if signal.getsignal(each) is signal.SIG_DFL:
                restored.callback(signal.signal, each, signal.signal(each, _stop))
        yield


def _stop(number: int, _frame: FrameType | None) -> None:
    raise StoppedBySignal(number)
