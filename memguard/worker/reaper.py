"""Reaping: collects the ends of a guardian's children, the job's first process and the orphans it adopted."""

from __future__ import annotations

import os

__all__ = ["Reaper"]


class Reaper:
    """Reaps every child of this process, and keeps the status of one."""

    def __init__(self, root_pid: int) -> None:
        self._root_pid = root_pid
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
            if pid == self._root_pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code is not None
