"""What a manager is inside of: the budgets around its jobs, and the cleanup that its own is a part of.

Comes in: the manager around it, if there is one, and the process. Goes out: bounds, and what reports say of them.
"""

from __future__ import annotations

import os

from memguard.budget import OuterBound, bound_told_as
from memguard.cleanup import CleanupManager
from memguard.config import Settings
from memguard.events import EventBus
from memguard.report import OuterBudget
from memguard.worker import current_job
from memguard.worker.spec import BUDGET_VARIABLE

__all__ = ["bound_of_process", "budgets_around", "cleanup_for"]

_WRAPPER: str = "the budget of the enclosing `memguard run` or job"


def bound_of_process() -> OuterBound | None:
    """Return the budget of the job that this process is, or of the command that it belongs to."""
    job = current_job()
    if job is not None:
        return OuterBound(job.budget_bytes, f"the budget of job {job.name}")
    return bound_told_as(os.environ.get(BUDGET_VARIABLE, ""), _WRAPPER)


def budgets_around(
    limit_bytes: int, name: str, outer: tuple[OuterBudget, ...] | None, bound: OuterBound | None
) -> tuple[OuterBudget, ...]:
    """Return the budgets around a manager's jobs, the nearest first.

    Args:
        limit_bytes: the manager's own budget.
        name: what the manager is called.
        outer: what is around the jobs of the manager around this one, or ``None`` where there is none.
        bound: where there is none: what bounds this process, a job or a command, or ``None``.
    """
    own = OuterBudget(limit_bytes, f"the budget of {name}", "budget")
    if outer is not None or bound is None:
        return own, *(outer or ())
    setting = "--memory" if bound.name == _WRAPPER else "memory"
    return own, OuterBudget(bound.limit_bytes, bound.name, setting)


def cleanup_for(
    settings: Settings, events: EventBus | None, enclosing: CleanupManager | None
) -> CleanupManager:
    """Make a cleanup manager with the deadline and the interval of the settings."""
    return CleanupManager(
        events=events,
        enclosing=enclosing,
        deadline_s=settings.cleanup_deadline_s,
        interval_s=settings.cleanup_interval_s,
    )
