"""The janitor of a wrapped command: a small process that cleans up if the wrapper itself is killed.

It also tells a signal to the whole process group from one to the wrapper alone: it sits in the same group with every
signal blocked, so a group signal is pending on it too. Only the latter must be passed on to the command, which has
otherwise received it already.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from typing import Final

from memguard.host import kill_processes, pending_signals, processes_with_environment, sweep_stale_fences

__all__ = ["JOB_VARIABLE", "Janitor"]

JOB_VARIABLE: Final = "MEMGUARD_JOB_ID"
# The kernel signals a group one process after the other, in microseconds; this is for a busy machine.
_GROUP_DELIVERY_S: Final = 0.005
_DONE: Final = 0


class Janitor:
    """Started before the command, dismissed after its cleanup."""

    def __init__(self, job_id: str) -> None:
        self._reader, self._writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _be_janitor(self._reader, self._writer, job_id)
        os.close(self._reader)

    def saw(self, number: int) -> bool:
        """Whether the signal went to the whole process group, and not to the wrapper alone."""
        select.select([], [], [], _GROUP_DELIVERY_S)
        if number not in pending_signals(self.pid):
            return False
        os.write(self._writer, bytes([number]))
        return True

    def dismiss(self) -> None:
        """End the janitor; nothing is left for it to do."""
        os.write(self._writer, bytes([_DONE]))
        os.close(self._writer)
        os.waitpid(self.pid, 0)


def _be_janitor(reader: int, writer: int, job_id: str) -> None:
    status = 1
    try:
        os.close(writer)
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        _serve(reader, job_id)
        status = 0
    except BaseException:  # noqa: BLE001 - the last line of a process: told, and in its status
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _serve(reader: int, job_id: str) -> None:
    while True:
        word = os.read(reader, 1)
        if not word:  # the wrapper is gone without a word
            kill_processes(processes_with_environment(JOB_VARIABLE, job_id), signal.SIGKILL)
            sweep_stale_fences()
            return
        if word[0] == _DONE:
            return
        signal.sigtimedwait({word[0]}, 0)
