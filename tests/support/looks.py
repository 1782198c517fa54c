"""A job that stays until its guard has looked often enough, or has seen enough: told by the guard's own samples."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from memguard import JobProgress


class Looks:
    """Hears the samples of a job that `stays`, and lets it go on.

    Args:
        gate: a path for what the two meet at.
        enough: says of all samples heard so far, in bytes, whether the job may go on.
        phase: the samples of this phase of the job count; ``""`` for those of all.
    """

    def __init__(self, gate: Path, enough: Callable[[list[int]], bool], phase: str = "") -> None:
        self.gate, self._enough, self._phase = gate, enough, phase
        self.used: list[int] = []
        os.mkfifo(gate)

    def __call__(self, progress: JobProgress) -> None:
        """Hear of one; for ``on_progress``."""
        if self._phase not in ("", progress.phase):
            return
        self.used.append(progress.used_bytes)
        if self._enough(self.used):
            with contextlib.suppress(OSError):  # nobody is at the gate: he is not there yet, or has gone on
                os.close(os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK))


def stay(gate: Path) -> None:
    """Wait, in the job, until it may go on."""
    os.close(os.open(gate, os.O_RDONLY))
