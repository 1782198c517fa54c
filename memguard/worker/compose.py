"""From what was seen to the report: joins the keeper's record, the job's messages, the caller's figures. Pure."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Final

from memguard.report import (
    Attempt,
    BudgetReport,
    CallerMemory,
    CapacityReport,
    EstimateSummary,
    JobReport,
    Outcome,
    OuterBudget,
    ReportWarning,
)
from memguard.sizing import Sizing
from memguard.story import with_story
from memguard.version import __version__
from memguard.worker.recorder import JobRecorder
from memguard.worker.spec import EndRecord
from memguard.worker.verdict import StopReason, judge, signal_name

__all__ = ["JobFrame", "compose_report", "is_back"]

# R1.1's own figures: memory counts as given back within 5 MiB or 2 %, whichever is larger.
_BACK_BYTES: Final = 5 * 1024 * 1024
_BACK_FRACTION: Final = 0.02


@dataclass(frozen=True, slots=True)
class JobFrame:
    """What is known of a job before it starts; fields as in `memguard.report.JobReport` and `BudgetReport`."""

    job_id: str
    name: str
    kind: str
    what: str
    started_at: str
    limit_bytes: int
    budget_source: str
    capacity: CapacityReport
    estimate: EstimateSummary | None
    arguments: tuple[str, ...]
    environment: dict[str, str]
    report_path: str = ""
    outer: tuple[OuterBudget, ...] = ()
    timeout_s: float | None = None
    attempts: tuple[Attempt, ...] = ()
    sizing: Sizing | None = None


def is_back(before_bytes: int, now_bytes: int) -> bool:
    """Whether memory is back at its level from before: within 5 MiB or 2 %, whichever is larger."""
    return now_bytes <= before_bytes + max(_BACK_BYTES, int(before_bytes * _BACK_FRACTION))


def compose_report(
    frame: JobFrame,
    recorder: JobRecorder,
    record: EndRecord,
    caller: CallerMemory,
    *,
    error: str | None = None,
    exit_status: int | None = None,
    pressure: str = "",
) -> JobReport:
    """Build the report of a job that has ended.

    Args:
        frame: what was known before.
        recorder: what the job told.
        record: what its keeper, or the wrapper of a command, saw.
        caller: memory of the calling process.
        error: one line of what it raised.
        exit_status: what the wrapper of a command exits with.
        pressure: why the sentinel chose it, if it did.
    """
    verdict = judge(record.ending)
    ending = record.ending
    recorder.close_throttle(record.duration_s)
    report = JobReport(
        job_id=frame.job_id,
        name=frame.name,
        kind=frame.kind,
        what=frame.what,
        started_at=frame.started_at,
        duration_s=round(record.duration_s, 4),
        outcome=verdict.outcome,
        exit_status=exit_status,
        signal=signal_name(-ending.exit_code)
        if ending.exit_code is not None and ending.exit_code < 0
        else None,
        evidence=verdict.evidence,
        budget=BudgetReport(frame.limit_bytes, frame.budget_source, ending.fence_kind, frame.outer),
        capacity=frame.capacity,
        estimate=frame.estimate,
        peak_bytes=_peak(record, verdict.outcome),
        kernel_peak_bytes=ending.fence_high_water_bytes,
        kernel_cache_bytes=ending.fence_most_cache_bytes,
        baseline_bytes=record.baseline_bytes,
        caller=caller,
        cleanup=record.cleanup,
        batches=recorder.batches,
        throttles=recorder.throttles,
        throttled_s=round(recorder.throttled_s, 3),
        phases=recorder.phases(record.duration_s),
        processes=record.processes,
        warnings=_warnings(recorder, record, verdict.outcome),
        error=error,
        guard_degraded=record.degraded,
        arguments=frame.arguments,
        environment=frame.environment,
        notes=dict(recorder.notes),
        timeout_s=frame.timeout_s,
        versions=_versions(),
        pressure=_pressure(record, pressure),
        attempts=frame.attempts,
        sizing=frame.sizing,
    )
    return with_story(report, where=frame.report_path)


def _pressure(record: EndRecord, why: str) -> str:
    if record.ending.stop_reason is not StopReason.PRESSURE:
        return ""
    return why or "the sentinel chose it; what it wrote down of that could not be read"


def _peak(record: EndRecord, outcome: Outcome) -> int:
    """Return the sampled peak; a job that the fence's limit killed has been there, whatever the last sample said."""
    ending = record.ending
    if outcome is Outcome.BUDGET_KILL and ending.fence_oom_kills:
        return max(ending.peak_bytes, ending.limit_bytes)
    return ending.peak_bytes


def _warnings(recorder: JobRecorder, record: EndRecord, outcome: Outcome) -> tuple[ReportWarning, ...]:
    peak, limit = _peak(record, outcome), recorder.budget_bytes
    # Between two looks a job can cross the warning line and end; what was missed then is told now.
    if not recorder.nearing_was_told and limit and peak >= limit * recorder.warn_fraction:
        recorder.warn_of_nearing(peak, record.duration_s)
    for line in record.cleanup.leftovers:
        recorder.warnings.append(ReportWarning(record.duration_s, line))
    return tuple(recorder.warnings)


def _versions() -> dict[str, str]:
    return {"memguard": __version__, "python": platform.python_version(), "kernel": platform.release()}
