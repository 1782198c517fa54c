"""What a cleanup run did, as frozen records: one result for each handler, in the order of the calls."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from memguard.errors import CleanupFailed
from memguard.events import Event

__all__ = ["CleanupReport", "HandlerOutcome", "HandlerResult", "Occasion", "event_of"]


class Occasion(StrEnum):
    """When handlers run.

    ``normal``: the end: `run`, `close`, the end of a ``with`` block, a signal, interpreter exit.
    ``scheduled``: every so often while work goes on. ``emergency``: memory is short while work goes on.
    """

    NORMAL = "normal"
    SCHEDULED = "scheduled"
    EMERGENCY = "emergency"


class HandlerOutcome(StrEnum):
    """How a handler ended: well, with an error, not within its deadline, or it was not called."""

    OK = "ok"
    FAILED = "failed"
    OVERRAN = "overran"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """One handler in one run.

    Attributes:
        name: as it was registered.
        outcome: how it ended.
        duration_s: seconds it took, or had taken when it was given up.
        detail: the error with its place, or why it was skipped or counts as overrun; mostly ``""`` else.
        freed_bytes: what it returned, when that was a whole number.
    """

    name: str
    outcome: HandlerOutcome
    duration_s: float = 0.0
    detail: str = ""
    freed_bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.outcome}: {self.detail}" if self.detail else f"{self.name} {self.outcome}"


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """One run of the handlers.

    Attributes:
        reason: why it was asked for, in words.
        occasion: which handlers were due.
        results: one for each, in the order in which they were called.
        duration_s: seconds for all.
        measured_bytes: by how much this process's private memory fell (less than 0: it grew meanwhile);
            ``None`` where it was not measured: only an emergency is.
    """

    reason: str
    occasion: Occasion
    results: tuple[HandlerResult, ...]
    duration_s: float
    measured_bytes: int | None = None

    @property
    def order(self) -> tuple[str, ...]:
        """The handlers' names, first called first."""
        return tuple(result.name for result in self.results)

    @property
    def freed_bytes(self) -> int:
        """What was measured, else the sum of what the handlers say they freed."""
        claimed = sum(result.freed_bytes or 0 for result in self.results)
        return claimed if self.measured_bytes is None else self.measured_bytes

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each handler that failed or overran."""
        bad = (HandlerOutcome.FAILED, HandlerOutcome.OVERRAN)
        return tuple(str(result) for result in self.results if result.outcome in bad)

    @property
    def ok(self) -> bool:
        """Whether there are no failures."""
        return not self.failures

    def raise_if_failed(self) -> None:
        """Turn failures into an error.

        Raises:
            CleanupFailed: with a line for each of them.
        """
        if failures := self.failures:
            counts = f"{len(failures)} of {len(self.results)}"
            raise CleanupFailed(
                f"cleanup ({self.reason}): {counts} handlers did not end well: {'; '.join(failures)}",
                failures=failures,
            )


def event_of(report: CleanupReport, job_id: str) -> Event:
    """Return the event that tells of a run."""
    fields = {
        "reason": report.reason,
        "occasion": report.occasion.value,
        "handlers": len(report.results),
        "failed": len(report.failures),
        "duration_s": report.duration_s,
        "freed_bytes": report.freed_bytes,
    }
    return Event("memguard.cleanup_finished", job_id=job_id, fields=fields)
