"""Reaping: collects the ends of a guardian's children, the job's first process and the orphans it adopted."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["Reaper"]


class Reaper:
    """Reaps every child of this process, and keeps the status of one; ``on_end`` is told the others' pids."""

    def __init__(self, root_pid: int, *, on_end: Callable[[int], None] | None = None) -> None:
        self._root_pid = root_pid
        self._on_end = on_end
        self.exit_code: int | None = None

    def reap(self) -> bool:
        """Collect all children that have ended; returns whether the first process is among them, now or before."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self._root_pid and self.exit_code is None:
                self.exit_code = os.waitstatus_to_exitcode(status)
            elif self._on_end is not None:
                self._on_end(pid)
        return self.exit_code is not None

    def stopped_by(self) -> int | None:
        """Return the signal that stopped the first process, if it is stopped now."""
        try:
            change = os.waitid(os.P_PID, self._root_pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # it has ended
            return None
        return None if change is None else change.si_status
