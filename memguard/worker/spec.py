"""What a job is asked to be: the records that travel from the caller to the keeper and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from memguard.host.readings import ProcessIdentity
from memguard.ledger.records import LEASE_VARIABLE
from memguard.ledger.seat import Seat
from memguard.report import CleanupSummary, ProcessUse
from memguard.worker.verdict import Delivery, Ending, StopReason
from memguard.worker.watch import WatchLimits

__all__ = ["BUDGET_VARIABLE", "EndRecord", "GuardPlan", "JobSpec"]

# Tells a process how much the job or wrapped command may use that it is part of, in bytes.
BUDGET_VARIABLE: Final = "MEMGUARD_JOB_BUDGET"


@dataclass(frozen=True, slots=True)
class GuardPlan:
    """How a tree is held to its budget.

    Attributes:
        limit_bytes: the budget.
        warn_fraction: where warnings begin.
        timeout_s: seconds until the tree is stopped, or ``None``.
        grace_s: seconds between asking to stop and killing.
        shortest_interval_s: between two looks.
        longest_interval_s: between two looks.
        fence: ``auto``, ``cgroup``, ``rlimit`` or ``none``.
        oom_score_adj: how much sooner than others the kernel should pick the tree, 0 to 1000.
    """

    limit_bytes: int
    warn_fraction: float
    timeout_s: float | None
    grace_s: float
    shortest_interval_s: float
    longest_interval_s: float
    fence: str
    oom_score_adj: int

    @property
    def watch_limits(self) -> WatchLimits:
        """The lines to watch."""
        return WatchLimits(
            self.limit_bytes, self.warn_fraction, self.shortest_interval_s, self.longest_interval_s
        )


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job for a template: everything but the function and its arguments, which travel in a segment."""

    job_id: str
    name: str
    owner: ProcessIdentity
    plan: GuardPlan
    seat: Seat | None = None

    @property
    def variables(self) -> dict[str, str]:
        """What the job's processes find in their environment."""
        own = {BUDGET_VARIABLE: str(self.plan.limit_bytes)}
        return own if self.seat is None else {**own, LEASE_VARIABLE: self.seat.lease_id}

    def to_message(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """Rebuild from `to_message`."""
        return cls(
            job_id=message["job_id"],
            name=message["name"],
            owner=ProcessIdentity(**message["owner"]),
            plan=GuardPlan(**message["plan"]),
            seat=Seat.from_message(message["seat"]),
        )


@dataclass(frozen=True, slots=True)
class EndRecord:
    """What the keeper (or the wrapper of a command) knows when the tree is gone."""

    ending: Ending
    duration_s: float
    cleanup: CleanupSummary
    baseline_bytes: int
    processes: tuple[ProcessUse, ...]
    degraded: tuple[str, ...]

    def to_message(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """Rebuild from `to_message`."""
        ending = dict(message["ending"])
        ending["delivery"] = Delivery(ending["delivery"])
        ending["stop_reason"] = StopReason(ending["stop_reason"]) if ending["stop_reason"] else None
        cleanup = {**message["cleanup"], "leftovers": tuple(message["cleanup"]["leftovers"])}
        return cls(
            ending=Ending(**ending),
            duration_s=message["duration_s"],
            cleanup=CleanupSummary(**cleanup),
            baseline_bytes=message["baseline_bytes"],
            processes=tuple(ProcessUse(**each) for each in message["processes"]),
            degraded=tuple(message["degraded"]),
        )
