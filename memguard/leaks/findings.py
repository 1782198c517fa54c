"""What one look at a function, a command or a process found: the report, and what is known beside it."""

from __future__ import annotations

from dataclasses import dataclass

from memguard.leaks.allocated import Allocation
from memguard.leaks.records import LeakReport

__all__ = ["Findings"]


@dataclass(frozen=True, slots=True)
class Findings:
    """One look, complete.

    Attributes:
        target: what was looked at, as it was named.
        report: what the detector says.
        unit: what an iteration is: ``iteration``, or ``1 s`` where samples are taken by the clock.
        stopped: why it ended early, ``""`` if it did not.
        allocated: where what stays was allocated, most bytes first.
        status: exit status of a command that could not be run; ``None`` otherwise.
    """

    target: str
    report: LeakReport
    unit: str = "iteration"
    stopped: str = ""
    allocated: tuple[Allocation, ...] = ()
    status: int | None = None
