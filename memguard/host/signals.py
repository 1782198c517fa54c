"""Signals as a stream: a process that blocks them takes one after the other, each with where it came from.

Comes in: signal numbers that are blocked. Goes out: a `ReceivedSignal` at a time, or nothing when time is up.
`signal.sigtimedwait` would do, but when SIGSTOP and SIGCONT interrupt it after its time (any control-Z and `fg`) it
returns what happens to lie in memory, a signal that nobody sent (seen in CPython 3.11; the code is the same in 3.13).
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from memguard.host import _libc

__all__ = ["ReceivedSignal", "SignalStream"]

# signalfd_siginfo: the number, an errno, si_code; 128 bytes in all.
_INFO: Final = struct.Struct("=Iii")
_INFO_BYTES: Final = 128


@dataclass(frozen=True, slots=True)
class ReceivedSignal:
    """One signal.

    Attributes:
        number: which.
        code: ``si_code``, which tells a signal of the kernel from one of a process.
    """

    number: int
    code: int


class SignalStream:
    """Takes blocked signals of this process; whoever made it must call `close`.

    Args:
        numbers: what to take; the caller has blocked them in every thread.

    Raises:
        OSError: when the kernel refuses.
        AttributeError: on systems without signalfd.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._descriptor = _libc.signalfd(numbers)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def wait(self, timeout_s: float) -> ReceivedSignal | None:
        """Take the next signal; ``None`` when none came for ``timeout_s`` seconds."""
        if not self._poll.poll(timeout_s * 1000):
            return None
        try:
            number, _, code = _INFO.unpack_from(os.read(self._descriptor, _INFO_BYTES))
        except BlockingIOError:  # the kernel forgot it: SIGCONT and the stop signals undo each other
            return None
        return ReceivedSignal(number, code)

    def close(self) -> None:
        """Give the descriptor back; signals that were not taken stay pending."""
        os.close(self._descriptor)
