"""The columns of ``memguard top``: what stands in each, and what it is sorted by. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from memguard.cli.jobs_view import name_of, state_text
from memguard.cli.overview import Overview, time_to_reach
from memguard.ledger.standing import JobState, Standing
from memguard.units import format_bytes, format_duration, format_share

__all__ = ["BY_NAME", "COLUMNS", "Column", "JobSeen"]

# A forecast of more than a day is none.
_LONGEST_FORECAST_S: Final = 86400.0


@dataclass(frozen=True, slots=True)
class JobSeen:
    """One job with what only several looks tell."""

    standing: Standing
    seen: Overview

    @property
    def growth_bytes_per_s(self) -> float:
        """How fast it grows, as the last looks saw it."""
        return self.seen.growth.get(self.standing.lease.lease_id, 0.0)

    @property
    def time_to_limit_s(self) -> float:
        """Until it reaches its limit, else its reservation; infinite for what does not grow."""
        lease = self.standing.lease
        if self.standing.state in (JobState.WAITING, JobState.GONE):
            return math.inf
        limit = self.standing.entry.limit_bytes or lease.reserved_bytes
        return time_to_reach(limit, lease.used_bytes, self.growth_bytes_per_s)

    @property
    def for_s(self) -> float:
        """How long it has run, or waited."""
        return max(0.0, self.seen.at_s - self.standing.since_s)


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: for ``--sort``, and its header.
        text: what stands in it.
        key: what it is sorted by, the smallest first.
        descends: whether the largest comes first unless it is reversed.
        right: whether it is aligned to the right.
    """

    name: str
    text: Callable[[JobSeen], str]
    key: Callable[[JobSeen], Any]
    descends: bool = True
    right: bool = True


def _figure(read: Callable[[Standing], int]) -> Callable[[JobSeen], str]:
    def text(job: JobSeen) -> str:
        figure = 0 if job.standing.state is JobState.WAITING else read(job.standing)
        return format_bytes(figure) if figure else "-"

    return text


def _used(job: Standing) -> int:
    return job.lease.used_bytes


def _overrun(job: Standing) -> int:
    return job.lease.overrun_bytes


def _share(job: JobSeen) -> float:
    return job.standing.lease.used_bytes / max(1, job.seen.machine.capacity_bytes)


def _until_limit(job: JobSeen) -> str:
    left_s = job.time_to_limit_s
    return format_duration(left_s) if left_s <= _LONGEST_FORECAST_S else "-"


COLUMNS: Final = (
    Column(
        "pid", lambda job: str(job.standing.lease.owner.pid), lambda job: job.standing.lease.owner.pid, False
    ),
    Column(
        "name", lambda job: name_of(job.standing), lambda job: job.standing.lease.name.lower(), False, False
    ),
    Column(
        "state",
        lambda job: state_text(job.standing.state),
        lambda job: job.standing.state.value,
        False,
        False,
    ),
    Column("priority", lambda job: str(job.standing.lease.priority), lambda job: job.standing.lease.priority),
    Column(
        "reserved",
        lambda job: format_bytes(job.standing.lease.reserved_bytes),
        lambda job: job.standing.lease.reserved_bytes,
    ),
    Column("used", _figure(_used), lambda job: _used(job.standing)),
    Column("overrun", _figure(_overrun), lambda job: _overrun(job.standing)),
    Column("peak", _figure(lambda each: each.peak_bytes), lambda job: job.standing.peak_bytes),
    Column("share", lambda job: format_share(_share(job)) if _share(job) else "-", _share),
    Column("to limit", _until_limit, lambda job: job.time_to_limit_s, False),
    Column("for", lambda job: format_duration(job.for_s), lambda job: job.for_s),
)
BY_NAME: Final = {column.name: column for column in COLUMNS}
