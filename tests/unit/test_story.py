"""The words of a report: literal settings that can be pasted, and a death in seven parts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.budget import SMALLEST_BUDGET_BYTES
from memguard.report import (
    BudgetReport,
    CallerMemory,
    CapacityReport,
    CleanupSummary,
    JobReport,
    Outcome,
    PhaseReport,
    ProcessUse,
)
from memguard.story import RUNBOOKS, suggested_budget, tell_death, with_story
from memguard.units import GIB, MIB, parse_bytes

DEATHS = [each for each in Outcome if each not in (Outcome.COMPLETED, Outcome.RAISED)]


def report(
    outcome: Outcome = Outcome.COMPLETED, peak_mib: int = 700, limit_mib: int = 1024, **changes: Any
) -> JobReport:
    plain = JobReport(
        job_id="1",
        name="fit",
        kind="function",
        what="mine.fit",
        started_at="now",
        duration_s=61.0,
        outcome=outcome,
        exit_status=None,
        signal=None,
        evidence=(),
        budget=BudgetReport(limit_mib * MIB, "memory 1GiB", "watch"),
        capacity=CapacityReport(8 * GIB, 6 * GIB, "physical", "/proc/meminfo"),
        estimate=None,
        peak_bytes=peak_mib * MIB,
        kernel_peak_bytes=None,
        baseline_bytes=0,
        caller=CallerMemory(1, 2, None),
        cleanup=CleanupSummary(),
    )
    return with_story(dataclasses.replace(plain, **changes), where="r.json")


@pytest.mark.requirement("R6.4")
@pytest.mark.parametrize("outcome", DEATHS)
def test_a_death_is_told_in_seven_parts(outcome: Outcome) -> None:
    """Who, how much, why now, why this one, what is saved, what next, where: none is empty."""
    death = report(outcome).death
    assert death is not None
    assert death.who == "fit (mine.fit)"
    assert death.how_much == (
        "peak 700 MiB of a budget of 1 GiB (memory 1GiB); 6 GiB of 8 GiB were free at the start (bound: physical)"
    )
    assert death.why_now.endswith("after 1m 1s") or "after" in death.why_now
    assert death.why_this_one
    assert death.what_is_saved
    assert death.where.startswith("report r.json")
    assert (outcome in RUNBOOKS) == ("runbook" in death.where) == outcome.is_memory_death
    assert bool(death.what_next) == outcome.is_memory_death


def test_who_lives_has_no_death() -> None:
    """A job that returned, or raised by itself, is not told as one that died; nor is a command that was interrupted."""
    assert report(Outcome.COMPLETED).death is None
    assert report(Outcome.RAISED).death is None
    assert tell_death(report(Outcome.RAISED)) == ""
    assert report(Outcome.INTERRUPTED, kind="command").death is None


def test_the_text_has_a_line_for_each_part() -> None:
    """What goes to stderr and into the exception: the cause first, each part under its name."""
    text = tell_death(report(Outcome.BUDGET_KILL, phases=(PhaseReport("fitting", 1, 2, 3),))).splitlines()
    assert re.fullmatch(
        r"fit \(mine\.fit\): its memory reached its budget after \S.* in phase fitting", text[0]
    )
    labels = [line.strip().partition(":")[0] for line in text[1:]]
    assert labels == ["how much", "why this one", "what is saved", "what next", "what next", "where"]


@pytest.mark.requirement("R6.4")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"outcome": Outcome.BUDGET_KILL}, 'needs more than 1 GiB: run with memory="1.5GiB"'),
        (
            {"outcome": Outcome.BUDGET_KILL, "kind": "command"},
            "needs more than 1 GiB: run with --memory 1.5GiB",
        ),
        ({"outcome": Outcome.BUDGET_KILL, "peak_mib": 2048}, 'run with memory="3GiB"'),
        ({"outcome": Outcome.BUDGET_KILL, "limit_mib": 8192}, "already all that physical allows (8 GiB)"),
        ({"outcome": Outcome.MEMORY_ERROR, "peak_mib": 100}, "one request was refused when 100 MiB"),
        ({"outcome": Outcome.MEMORY_ERROR, "peak_mib": 1000}, 'run with memory="1.5GiB"'),
        ({"outcome": Outcome.KERNEL_OOM}, "run `memguard status`"),
        ({"peak_mib": 1000}, 'needs 1000 MiB: run with memory="1.3GiB" for some headroom'),
        ({"peak_mib": 100}, 'needs 100 MiB: memory="125MiB" would do, and leave more to others'),
    ],
)
def test_advice_is_a_literal_setting(changes: dict[str, Any], told: str) -> None:
    """What to set next time is given so that it can be pasted."""
    assert told in report(**changes).recommendations[0]


def test_advice_counts_workers() -> None:
    """Where several processes shared the budget at the peak, fewer of them are an answer."""
    several = tuple(ProcessUse(number, "python", MIB) for number in range(1, 5))
    assert (
        report(Outcome.BUDGET_KILL, processes=several).recommendations[-1].startswith("run fewer workers: 4")
    )


def test_no_advice_without_a_reason() -> None:
    """A job that used its budget well, raised by itself or did nothing is left alone."""
    assert report(peak_mib=700).recommendations == ()
    assert report(peak_mib=0).recommendations == ()
    assert report(Outcome.RAISED, peak_mib=10).recommendations == ()
    assert report(Outcome.TIMEOUT).recommendations == ()


@given(
    st.sampled_from(Outcome),
    st.integers(0, 20_000),
    st.integers(16, 16_000),
    st.sampled_from(["function", "command", "managed"]),
)
def test_every_suggested_setting_would_be_accepted(
    outcome: Outcome, peak_mib: int, limit_mib: int, kind: str
) -> None:
    """A pasted setting is a size that parses, is not too small, and not more than the machine has."""
    made = report(outcome, peak_mib=peak_mib, limit_mib=limit_mib, kind=kind)
    assert SMALLEST_BUDGET_BYTES <= suggested_budget(made) <= made.capacity.capacity_bytes
    for line in made.recommendations:
        for size in re.findall(r'memory="([^"]+)"|--memory (\S+)', line):
            suggested = parse_bytes(size[0] or size[1])
            assert SMALLEST_BUDGET_BYTES <= suggested <= made.capacity.capacity_bytes * 1.001
            if outcome.is_memory_death:
                assert suggested > made.budget.limit_bytes


def test_every_runbook_that_is_named_exists(project_root: Path) -> None:
    """A death sends nobody to a page that is not there."""
    assert [
        name for name in RUNBOOKS.values() if not (project_root / "runbooks" / f"{name}.md").is_file()
    ] == []
