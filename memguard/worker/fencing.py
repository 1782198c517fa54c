"""Putting a process behind its fence: made by the guardian before the fork, entered by the child right after it.

The limit may come later than the fence: the process that waits for the next job is behind it already, because
moving a process between cgroups makes the kernel wait, often for ten milliseconds and more.

Best fence first: a memory cgroup of its own; else RLIMIT_DATA as a backstop beside the watching guard. Never
RLIMIT_AS: it counts address space, which numerical libraries reserve by the gigabyte and never touch.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Final

from memguard.host import Fence, die_with_parent, limit_data_segment, open_fence, raise_oom_score
from memguard.units import MIB
from memguard.worker.spec import GuardPlan

__all__ = ["Enclosure", "build_enclosure"]

# RLIMIT_DATA counts private writable mappings whether touched or not, thread stacks and BLAS buffers among them, so
# it stands well above the budget: it stops a runaway between two looks, it does not do the accounting.
_RLIMIT_FACTOR: Final = 1.5
_RLIMIT_SLACK_BYTES: Final = 512 * MIB


@dataclass(frozen=True, slots=True)
class Enclosure:
    """What encloses a tree.

    Attributes:
        fence: its cgroup, or ``None``.
        kind: ``cgroup-v1``, ``cgroup-v2``, ``rlimit`` or ``watch``.
        degraded: why it is not what was asked for, or ``""``.
    """

    fence: Fence | None
    kind: str
    degraded: str

    def enter(self, parent_pid: int) -> None:
        """Go behind the fence; called by the child on itself, before anything else.

        Args:
            parent_pid: who must be its parent; it ends with it.

        Raises:
            OSError: if the cgroup cannot be entered; then the job must not run.
        """
        die_with_parent(signal.SIGKILL, parent_pid=parent_pid)
        if self.fence is not None:
            self.fence.enter()
            self.fence.close()  # this copy of its descriptors; the job has no business with them

    def submit_to(self, plan: GuardPlan, *, arguments_bytes: int = 0) -> None:
        """Take on the limits that a process must set for itself; called by the child before its work.

        Args:
            plan: the job's.
            arguments_bytes: what it will map of its arguments: not its memory, yet RLIMIT_DATA counts it.
        """
        if self.kind == "rlimit":
            budget_bytes = int(plan.limit_bytes * _RLIMIT_FACTOR)
            limit_data_segment(budget_bytes + _RLIMIT_SLACK_BYTES + arguments_bytes)
        raise_oom_score(os.getpid(), plan.oom_score_adj)

    def assign(self, name: str, limit_bytes: int) -> None:
        """Make a fence that waited the fence of one job; called by the guardian.

        Raises:
            OSError: if it cannot be given its limit; then the job must not run in it.
        """
        if self.fence is not None:
            self.fence.rename(name)
            self.fence.resize(limit_bytes)


def build_enclosure(name: str, kind: str, limit_bytes: int | None) -> Enclosure:
    """Make the best fence that is allowed and that the machine can give.

    Args:
        name: what it is for.
        kind: ``auto``, ``cgroup``, ``rlimit`` or ``none``.
        limit_bytes: its limit; ``None`` if `Enclosure.assign` gives it later.
    """
    if kind in ("auto", "cgroup"):
        fence = open_fence(name, limit_bytes)
        if fence is not None:
            return Enclosure(fence, fence.kind, "")
    if kind == "none":
        return Enclosure(None, "watch", "")
    missing = "no memory cgroup can be made here (see `memguard doctor`)" if kind == "cgroup" else ""
    return Enclosure(None, "rlimit", missing)
