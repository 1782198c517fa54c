"""The job report: what one guarded job was given, what it used, how it ended and what to do next.

Comes in: figures from the worker room. Goes out: a `JobReport`, and the JSON document
``memguard.report/1`` (memguard/schemas/report-1.json). Deciding how a job ended is `memguard.worker.verdict`;
telling it to people is `memguard.story`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from memguard.errors import DataError
from memguard.events import JsonScalar
from memguard.rebuild import rebuild, shown
from memguard.sizing import Sizing

__all__ = [
    "REPORT_SCHEMA",
    "Attempt",
    "BatchSummary",
    "BudgetReport",
    "CallerMemory",
    "CapacityReport",
    "CleanupSummary",
    "Death",
    "EstimateSummary",
    "Evidence",
    "JobReport",
    "Outcome",
    "OuterBudget",
    "PhaseReport",
    "ProcessUse",
    "ReportWarning",
    "report_from_json",
    "report_to_json",
]

REPORT_SCHEMA: Final = "memguard.report/1"
_REACHED: Final = 0.97


class Outcome(StrEnum):
    """How a job ended.

    ``completed``: it returned, or the command exited with 0. ``raised``: it raised, or the command exited with
    another status. ``memory_error``: an allocation failed inside it. ``budget_kill``: it passed its own budget and
    was killed for it, by memguard or by the fence that memguard set. ``budget_soft_stop``: it was asked to stop at its
    budget and kept a partial result. ``kernel_oom``: the kernel killed it for a limit that is not its budget.
    ``signal``: a signal that memguard did not send. ``timeout``: its time was up. ``lost``: its supervisor
    vanished. ``interrupted``: Ctrl-C or a request to stop.
    """

    COMPLETED = "completed"
    RAISED = "raised"
    MEMORY_ERROR = "memory_error"
    BUDGET_KILL = "budget_kill"
    BUDGET_SOFT_STOP = "budget_soft_stop"
    KERNEL_OOM = "kernel_oom"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    LOST = "lost"
    INTERRUPTED = "interrupted"

    @property
    def is_memory_death(self) -> bool:
        """Whether the job ended for want of memory."""
        return self in _MEMORY_DEATHS


_MEMORY_DEATHS: Final = frozenset(
    {Outcome.MEMORY_ERROR, Outcome.BUDGET_KILL, Outcome.BUDGET_SOFT_STOP, Outcome.KERNEL_OOM}
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact that the outcome rests on: where it was read, and what it said."""

    source: str
    fact: str


@dataclass(frozen=True, slots=True)
class OuterBudget:
    """A budget that encloses the job's: asking for more than it is refused.

    Attributes:
        limit_bytes: how large it is.
        name: what messages call it.
        setting: what raises it: ``budget`` and ``memory`` are arguments, ``--memory`` is a flag.
    """

    limit_bytes: int
    name: str
    setting: str


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """The bound the job ran under.

    Attributes:
        limit_bytes: the bound on private plus created shared memory of the whole tree.
        source: where it came from: a flag, an argument, the default share.
        fence: what enforced it: ``cgroup-v1``, ``cgroup-v2``, ``rlimit`` (with the watcher), ``watch`` or
            ``cooperative``.
        outer: the budgets around it, the nearest first; none for a job that only the machine bounds.
    """

    limit_bytes: int
    source: str
    fence: str
    outer: tuple[OuterBudget, ...] = ()


@dataclass(frozen=True, slots=True)
class CapacityReport:
    """What the machine offered when the job started."""

    capacity_bytes: int
    available_bytes: int
    limited_by: str
    path: str


@dataclass(frozen=True, slots=True)
class EstimateSummary:
    """What was predicted before the start, and why.

    Attributes:
        expected_bytes: the best single guess of the peak.
        high_bytes: rarely more.
        reasons: how it came about, one sentence each.
        plan: how the work was to be done: ``in memory``, ``spilling``, ``light``; ``""`` where nothing was planned.
        phases: the expected peak inside each part of the job, by its name; empty where only the whole was predicted.
    """

    expected_bytes: int
    high_bytes: int
    reasons: tuple[str, ...]
    plan: str = ""
    phases: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """A named part of the job, from its start for ``duration_s``, and the peak inside it."""

    name: str
    started_s: float
    duration_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """A process of the tree when the tree was at its largest sampled size."""

    pid: int
    name: str
    private_bytes: int


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """Batches the job worked in; all zero where it did not."""

    count: int = 0
    rows: int = 0
    smallest_rows: int = 0
    largest_rows: int = 0


@dataclass(frozen=True, slots=True)
class CleanupSummary:
    """What happened after the end.

    Attributes:
        duration_s: from the end of the job's first process to the verified release.
        verified: whether processes, fence and shared memory were seen to be gone.
        leftovers: what had to be removed or could not be, one line each.
    """

    duration_s: float = 0.0
    verified: bool = False
    leftovers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallerMemory:
    """Private memory of the process that asked for the job.

    Attributes:
        before_bytes: before the job.
        after_bytes: right after it.
        after_5s_bytes: five seconds later, or ``after_bytes`` where that was already back at the level from
            before (within 5 MiB or 2 %); ``None`` where five seconds have not passed yet.
    """

    before_bytes: int
    after_bytes: int
    after_5s_bytes: int | None


@dataclass(frozen=True, slots=True)
class ReportWarning:
    """Something to heed that did not end the job; ``at_s`` counts from its start."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Death:
    """A death in seven parts."""

    who: str
    how_much: str
    why_now: str
    why_this_one: str
    what_is_saved: str
    what_next: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier try of the same job, which ran out of memory and was allowed another one."""

    outcome: Outcome
    limit_bytes: int
    peak_bytes: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class JobReport:
    """All that is known of one job. Bytes are bytes, ``_s`` are seconds, fractions are 0 to 1 and above.

    Attributes:
        job_id: unique per job.
        name: given or made from the function or command.
        kind: ``function`` (own process), ``command`` (wrapped) or ``managed`` (in the caller's process).
        what: the function's qualified name, or the command line; secrets removed.
        outcome: how it ended.
        timeout_s: the time it was given, what was gone of it before its start included; ``None`` for no end.
        exit_status: the status that the wrapped command's caller sees; ``None`` for functions.
        signal: name of the signal that ended the job's first process, or ``None``.
        peak_bytes: highest sampled use of the whole tree. Sampling can miss a spike; ``kernel_peak_bytes`` cannot.
        kernel_peak_bytes: the kernel's own high-water mark of the fence, reclaimable file cache included.
        kernel_cache_bytes: the most of that that was seen to be file cache; ``None`` where nobody counts it.
        baseline_bytes: memory inherited from the preloaded template, shared and not counted in use.
        throttles: how often it was made to wait to let memory come back.
        throttled_s: for how long in all.
        pressure: why it was ended when the machine's memory ran short, and it and not another; ``""`` if it was not.
        attempts: the tries before this one, oldest first.
        guard_degraded: parts of the guard that failed while the job ran, one line each.
        sizing: what past jobs said of it; ``None`` where they were not asked.
    """

    job_id: str
    name: str
    kind: str
    what: str
    started_at: str
    duration_s: float
    outcome: Outcome
    exit_status: int | None
    signal: str | None
    evidence: tuple[Evidence, ...]
    budget: BudgetReport
    capacity: CapacityReport
    estimate: EstimateSummary | None
    peak_bytes: int
    kernel_peak_bytes: int | None
    baseline_bytes: int
    caller: CallerMemory
    cleanup: CleanupSummary
    batches: BatchSummary = BatchSummary()
    throttles: int = 0
    throttled_s: float = 0.0
    phases: tuple[PhaseReport, ...] = ()
    processes: tuple[ProcessUse, ...] = ()
    warnings: tuple[ReportWarning, ...] = ()
    recommendations: tuple[str, ...] = ()
    death: Death | None = None
    error: str | None = None
    guard_degraded: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, JsonScalar] = field(default_factory=dict)
    timeout_s: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    pressure: str = ""
    attempts: tuple[Attempt, ...] = ()
    sizing: Sizing | None = None
    kernel_cache_bytes: int | None = None

    @property
    def proven_peak_bytes(self) -> int:
        """The most that the job is known to have used: what was sampled, or more by the kernel's own mark.

        Between two samples a short job comes and goes. What the mark shows beyond the file cache was used for certain,
        unless its limit was reached: then cache was dropped that nobody saw.
        """
        if self.kernel_peak_bytes is None or self.kernel_cache_bytes is None:
            return self.peak_bytes
        if self.kernel_peak_bytes > _REACHED * self.budget.limit_bytes:
            return self.peak_bytes
        return max(self.peak_bytes, self.kernel_peak_bytes - self.kernel_cache_bytes)

    @property
    def reason(self) -> str:
        """The outcome, or ``machine_pressure`` where that was the cause of a kill."""
        return "machine_pressure" if self.pressure else self.outcome.value

    @property
    def utilisation(self) -> float:
        """Peak over budget."""
        return self.peak_bytes / self.budget.limit_bytes if self.budget.limit_bytes else 0.0

    def with_exit_status(self, exit_status: int) -> JobReport:
        """Return the report with the status that the wrapped command's caller sees."""
        return dataclasses.replace(self, exit_status=exit_status)


def report_to_json(report: JobReport) -> dict[str, Any]:
    """Return the report as the document ``memguard.report/1``.

    Raises:
        ValueError: for a figure that JSON has no word for, which no report of memguard's own has.
    """
    document: dict[str, Any] = {"schema": REPORT_SCHEMA, **dataclasses.asdict(report)}
    document["outcome"], document["reason"] = report.outcome.value, report.reason
    for attempt in document["attempts"]:
        attempt["outcome"] = attempt["outcome"].value
    document["utilisation"] = round(report.utilisation, 4)
    return dict(json.loads(json.dumps(document, allow_nan=False)))


def report_from_json(document: Mapping[str, Any], *, subject: str = "report") -> JobReport:
    """Read a document back.

    Args:
        document: what `report_to_json` made; keys it does not know are ignored, so that a newer writer can add some.
        subject: what to call it in an error, a file's name.

    Raises:
        DataError: if it is no such document.
    """
    if document.get("schema") != REPORT_SCHEMA:
        raise DataError(
            f"is not a job report (schema {shown(document.get('schema'))})",
            subject=subject,
            remedy=f"give a file that says {REPORT_SCHEMA!r}, as `memguard run --report FILE` writes",
        )
    try:
        report = rebuild(JobReport, document)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"is a damaged job report ({error})", subject=subject, remedy="run the job again with --report"
        ) from error
    assert isinstance(report, JobReport)
    return report
