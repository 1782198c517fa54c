"""From records to the report: each figure lands where it belongs, and what was missed while sampling is told."""

from __future__ import annotations

from typing import Any

import pytest

from memguard.report import CallerMemory, CapacityReport, CleanupSummary, JobReport, Outcome, ProcessUse
from memguard.units import GIB, MIB
from memguard.worker.compose import JobFrame, compose_report, is_back
from memguard.worker.recorder import JobRecorder
from memguard.worker.spec import EndRecord
from memguard.worker.verdict import Delivery, Ending

LIMIT = 100 * MIB
CAPACITY = CapacityReport(8 * GIB, 6 * GIB, "physical", "/proc/meminfo")


def frame(**changes: Any) -> JobFrame:
    plain: dict[str, Any] = {
        "job_id": "1",
        "name": "fit",
        "kind": "function",
        "what": "mine.fit",
        "started_at": "2024-01-01T00:00:00+0000",
        "limit_bytes": LIMIT,
        "budget_source": "memory 100MiB",
        "capacity": CAPACITY,
        "estimate": None,
        "arguments": (),
        "environment": {},
    }
    return JobFrame(**{**plain, **changes})


def record(peak_mib: int = 50, cleanup: CleanupSummary | None = None, **ending: Any) -> EndRecord:
    plain: dict[str, Any] = {
        "exit_code": 0,
        "delivery": Delivery.VALUE,
        "stop_reason": None,
        "limit_bytes": LIMIT,
        "peak_bytes": peak_mib * MIB,
        "fence_kind": "cgroup-v2",
    }
    return EndRecord(
        Ending(**{**plain, **ending}),
        2.0,
        cleanup or CleanupSummary(0.1, True),
        7 * MIB,
        (ProcessUse(12, "python", 40 * MIB),),
        ("something",),
    )


def report(recorder: JobRecorder | None = None, **options: Any) -> JobReport:
    caller = CallerMemory(GIB, GIB, GIB)
    return compose_report(frame(), recorder or JobRecorder(LIMIT, 0.8), record(**options), caller)


KILLED = {
    "exit_code": -9,
    "delivery": Delivery.NOTHING,
    "fence_oom_kills": 1,
    "fence_limit_hits": 1,
    "fence_high_water_bytes": LIMIT,
}


def test_every_part_lands_in_the_report() -> None:
    """Figures of the keeper, words of the job and the frame are joined; nothing is made up."""
    recorder = JobRecorder(LIMIT, 0.8)
    recorder.take({"kind": "phase", "name": "load", "detail": ""}, 0.5)
    recorder.take({"kind": "note", "key": "rows", "value": 3}, 0.6)
    made = report(recorder, fence_high_water_bytes=60 * MIB)
    assert (made.outcome, made.duration_s, made.peak_bytes) == (Outcome.COMPLETED, 2.0, 50 * MIB)
    assert (made.kernel_peak_bytes, made.baseline_bytes) == (60 * MIB, 7 * MIB)
    assert made.processes[0].name == "python"
    assert made.guard_degraded == ("something",)
    assert (made.phases[0].started_s, made.phases[0].duration_s) == (0.5, 1.5)
    assert made.notes == {"rows": 3}
    assert (made.budget.limit_bytes, made.budget.fence) == (LIMIT, "cgroup-v2")
    assert made.utilisation == 0.5
    assert set(made.versions) == {"memguard", "python", "kernel"}
    assert made.warnings == ()


def test_a_line_that_was_crossed_between_two_looks_is_told_late() -> None:
    """A peak past the warning line without a warning gets one at the end; one that was told is not told twice."""
    late = report(peak_mib=90)
    assert [(each.at_s, each.text) for each in late.warnings] == [
        (2.0, "use reached 90 MiB, 90% of the budget of 100 MiB")
    ]
    recorder = JobRecorder(LIMIT, 0.8)
    recorder.take({"kind": "neared", "used_bytes": 85 * MIB, "peak_bytes": 85 * MIB}, 1.0)
    assert [each.at_s for each in report(recorder, peak_mib=90).warnings] == [1.0]


def test_a_kill_at_the_limit_was_at_the_limit() -> None:
    """When the kernel killed for the budget, the peak is at least the budget, whatever the last sample said."""
    made = report(peak_mib=20, **KILLED)
    assert (made.outcome, made.peak_bytes, made.signal) == (Outcome.BUDGET_KILL, LIMIT, "SIGKILL")
    assert made.death is not None
    assert made.warnings[0].text.startswith("use reached 100 MiB")
    above = report(peak_mib=20, **{**KILLED, "fence_limit_hits": 0})
    assert (above.outcome, above.peak_bytes) == (Outcome.KERNEL_OOM, 20 * MIB)


def test_what_had_to_be_removed_is_a_warning() -> None:
    """Each leftover of the cleanup stands among the warnings, at the job's end."""
    made = report(cleanup=CleanupSummary(0.1, True, ("process 7 outlived the job and was killed",)))
    assert [each.text for each in made.warnings] == ["process 7 outlived the job and was killed"]


@pytest.mark.parametrize(
    ("before", "now", "back"),
    [
        (100 * MIB, 100 * MIB, True),
        (100 * MIB, 105 * MIB, True),
        (100 * MIB, 105 * MIB + 1, False),
        (10 * GIB, 10 * GIB + 204 * MIB, True),
        (10 * GIB, 10 * GIB + 205 * MIB, False),
        (100 * MIB, 1, True),
    ],
)
def test_back_means_within_five_mebibytes_or_two_percent(before: int, now: int, back: bool) -> None:
    """The larger of both figures counts, and less than before is back too."""
    assert is_back(before, now) is back
