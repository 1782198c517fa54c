"""What the ladder is told, and what it answers; the deadlines of its rungs. Frozen records, without effects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memguard.guard.pressure import Pressure
from memguard.ledger.board import Ask, Entry
from memguard.ledger.records import Lease

__all__ = ["Deadlines", "Job", "Machine", "Step", "shuts_gate"]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each rung is given, and the last line.

    Attributes:
        shed_all_s: those who keep to their reservation are asked to give back this long after the others.
        light_s: cooperative jobs that cannot be held are asked for less this long after memory became critical.
        stop_s: and to end, this long after that, or after they were held.
        kill_s: how long use may stand above the critical line, and nobody was held meanwhile, before somebody dies.
        effect_s: how long a kill is counted on; then the next one's turn comes.
        seen_s: how long after the end of a job its memory is looked for.
        pause_s: between two that are let go on, or two that are held for what other programs use.
        frozen_limit_s: who was held for so long is let go on or ends.
        brink: above this share nothing waits for a deadline: the next one to kill somebody would be the kernel.
        brink_s: less time than this until nothing is left, at the speed of the moment and above the line that is
            called high, is the same.
        brink_kill_s: how long that may last before one dies who keeps to his reservation, where nobody is over.
    """

    shed_all_s: float = 1.0
    light_s: float = 0.5
    stop_s: float = 2.0
    kill_s: float = 3.0
    effect_s: float = 5.0
    seen_s: float = 0.2
    pause_s: float = 0.5
    frozen_limit_s: float = 60.0
    brink: float = 0.98
    brink_s: float = 0.04
    brink_kill_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What the shortest of the limits has, in bytes."""

    capacity_bytes: int
    available_bytes: int

    @property
    def used_bytes(self) -> int:
        """What is in use."""
        return self.capacity_bytes - self.available_bytes


@dataclass(frozen=True, slots=True)
class Job:
    """A lease that holds memory, with what stands on the board for it."""

    lease: Lease
    entry: Entry

    @property
    def runs(self) -> bool:
        """Whether it can finish: it holds memory, and nobody asked it to wait."""
        return self.entry.asked < Ask.WAIT and self.lease.used_bytes > 0

    @property
    def is_held(self) -> bool:
        """Whether it was asked to wait, or was stopped."""
        return self.entry.asked in (Ask.WAIT, Ask.FROZEN)

    @property
    def is_over(self) -> bool:
        """Whether it uses more than is reserved for it."""
        return self.lease.overrun_bytes > 0

    @property
    def is_enforced(self) -> bool:
        """Whether it is a tree of processes; else it is work inside a process that is not memguard's."""
        return self.entry.root_pid != 0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        lease: whose job it is.
        ask: what is asked of it; ``NOTHING`` takes back what was.
        why: why now, and why this one.
    """

    lease: Lease
    ask: Ask
    why: str


def shuts_gate(state: Pressure, jobs: Iterable[Job], *, others_over: bool) -> bool:
    """Return whether nothing is to be given out, though it seem free.

    What keeps to its promises is accounted for when the next one is made. So it takes somebody who does not, and whom
    nobody has held yet, or somebody held, who comes first; or memory that runs out at this moment, whoever takes it.

    Args:
        state: how short memory is.
        jobs: those that hold some.
        others_over: whether a job of another domain, below the same limit, uses more than was promised to it.
    """
    if state is Pressure.CRITICAL:
        return True
    return state >= Pressure.RECOVERING and (others_over or any(job.is_over or job.is_held for job in jobs))
