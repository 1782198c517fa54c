"""The words of a report: literal settings that can be pasted, and a death in seven parts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.report import (
    BudgetReport,
    CallerMemory,
    CapacityReport,
    CleanupSummary,
    Evidence,
    JobReport,
    Outcome,
    OuterBudget,
    PhaseReport,
    ProcessUse,
)
from memguard.story import (
    FAULT_RUNBOOKS,
    RUNBOOKS,
    events_of,
    suggested_budget,
    tell_death,
    tell_fault,
    tell_stray_signal,
    with_story,
)
from memguard.units import GIB, MIB, SMALLEST_BUDGET_BYTES, parse_bytes

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
    assert "after 1 min 1 s" in death.why_now
    assert death.why_this_one
    assert death.what_is_saved
    assert death.where.startswith("report r.json")
    assert (outcome in RUNBOOKS) == ("memguard runbook " in death.where) == outcome.is_memory_death
    assert bool(death.what_next) == (outcome is not Outcome.INTERRUPTED)


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


IN_A_GIB = BudgetReport(GIB, "all", "watch", (OuterBudget(GIB, "the budget of memguard", "budget"),))


@pytest.mark.parametrize(
    ("outer", "told"),
    [
        ((), 'run with memory="1.5GiB"'),
        ((OuterBudget(4 * GIB, "the budget of memguard", "budget"),), 'run with memory="1.5GiB"'),
        (
            (OuterBudget(GIB, "the budget of memguard", "budget"),),
            'run with memory="1.5GiB", and raise what encloses it: the budget of memguard (1 GiB) to budget="1.5GiB"',
        ),
        (
            (OuterBudget(GIB, "the budget of m", "budget"), OuterBudget(GIB, "`memguard run`", "--memory")),
            'run with memory="1.5GiB", and raise what encloses it: the budget of m (1 GiB) to budget="1.5GiB", '
            "`memguard run` (1 GiB) to --memory 1.5GiB",
        ),
        (
            (OuterBudget(GIB, "m", "budget"), OuterBudget(8 * GIB, "the budget of job x", "memory")),
            'run with memory="1.5GiB", and raise what encloses it: m (1 GiB) to budget="1.5GiB"',
        ),
    ],
)
def test_advice_names_what_would_refuse_it(outer: tuple[OuterBudget, ...], told: str) -> None:
    """A setting that a budget around the job would refuse comes with the setting of that budget."""
    made = report(Outcome.BUDGET_KILL, budget=BudgetReport(GIB, "memory 1GiB", "watch", outer))
    assert made.recommendations[0] == f"needs more than 1 GiB: {told}"


def test_a_job_in_the_fence_of_another_is_told_to_raise_that() -> None:
    """The capacity that a job sees inside a fence is the outer job's budget: no machine is too small there."""
    made = report(
        Outcome.BUDGET_KILL,
        budget=dataclasses.replace(IN_A_GIB, outer=(OuterBudget(GIB, "the budget of job x", "memory"),)),
        capacity=CapacityReport(GIB, GIB, "cgroup-v1", "/x"),
    )
    assert made.recommendations[0].endswith('the budget of job x (1 GiB) to memory="1.5GiB"')


def test_no_setting_is_advised_that_changes_nothing() -> None:
    """A job that filled all there is, or cannot be given less, is not told to set what is set."""
    assert report(peak_mib=8192, limit_mib=8192).recommendations == ()
    assert report(peak_mib=1, limit_mib=16).recommendations == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "no result; the memory of the process that asked for it is as it was"),
        ({"kind": "command"}, "whatever the command wrote itself"),
        ({"kind": "managed"}, "what the block had made so far: it ran in this process"),
        (
            {"evidence": (Evidence("job", "handed over: value"),)},
            "what it returned when it was asked to stop",
        ),
    ],
)
def test_what_is_saved_is_true_of_the_kind_of_job(changes: dict[str, Any], told: str) -> None:
    """A block ran in the caller's own memory; a function may have returned something all the same."""
    death = report(Outcome.TIMEOUT, **changes).death
    assert death is not None
    assert death.what_is_saved.startswith(told)


def test_events_follow_from_the_report() -> None:
    """What failed in the guard, a budget that was passed, and models that live on are told, in this order."""
    made = report(
        Outcome.BUDGET_KILL,
        guard_degraded=("no fence", "no sample"),
        notes={"models_alive_at_end": 2, "models_registered": 3},
    )
    events = events_of(made)
    assert [each.name for each in events] == [
        "memguard.guard_degraded",
        "memguard.guard_degraded",
        "memguard.budget_exceeded",
        "memguard.model_survived",
    ]
    assert {each.job_id for each in events} == {made.job_id}
    assert [dict(each.fields) for each in events] == [
        {"fault": "no fence"},
        {"fault": "no sample"},
        {"outcome": "budget_kill", "peak_bytes": 700 * MIB, "limit_bytes": GIB},
        {"alive": 2, "registered": 3},
    ]


@pytest.mark.parametrize("outcome", Outcome)
def test_a_quiet_end_has_no_events(outcome: Outcome) -> None:
    """Only a budget that was passed is told as such; no models left, or another's note, is no event."""
    notes = {"models_alive_at_end": 0, "models_registered": 3}
    names = [each.name for each in events_of(report(outcome, notes=notes))]
    exceeded = outcome in (Outcome.BUDGET_KILL, Outcome.BUDGET_SOFT_STOP)
    assert names == (["memguard.budget_exceeded"] if exceeded else [])
    assert events_of(report(notes={"models_alive_at_end": "many"})) == ()


@pytest.mark.parametrize(
    ("timeout_s", "duration_s", "signal", "told"),
    [
        (25.0, 25.01, None, "its time of 25.0 s was up in phase select"),
        (
            25.0,
            12.9,
            None,
            "its time of 25.0 s was up in phase select; 12.1 s of it were gone before it began",
        ),
        (
            1.0,
            2.0,
            "SIGKILL",
            "its time of 1.0 s was up in phase select; it did not stop when asked, and was killed 1.0 s later",
        ),
        (1.0, 1.5, None, "its time of 1.0 s was up in phase select; asked to stop, it took 500 ms more"),
        (None, 1.5, None, "its time was up after 1.5 s in phase select"),
    ],
)
def test_a_time_that_is_up_is_told_as_it_was_given(
    timeout_s: float | None, duration_s: float, signal: str | None, told: str
) -> None:
    """The limit is what was set; what was gone before and what the grace took are told beside it, not as the limit."""
    phases = (PhaseReport("select", 0, 1, 2),)
    made = report(
        Outcome.TIMEOUT, timeout_s=timeout_s, duration_s=duration_s, signal=signal, phases=phases
    ).death
    assert made is not None
    assert made.why_now == told


@pytest.mark.parametrize(
    ("kind", "timeout_s", "told"),
    [
        ("function", 0.25, 'timeout="1s"'),
        ("function", 25.0, 'timeout="50s"'),
        ("command", 25.2, "--timeout 51s"),
        ("command", None, "more time"),
    ],
)
def test_more_time_is_a_literal_setting(kind: str, timeout_s: float | None, told: str) -> None:
    """Who ran out of time is told what to raise, as he would write it."""
    (advice,) = report(Outcome.TIMEOUT, timeout_s=timeout_s, kind=kind).recommendations
    assert told in advice


@pytest.mark.parametrize(
    ("name", "told"), [("SIGSEGV", "PYTHONFAULTHANDLER"), ("SIGKILL", "somebody else sent it")]
)
def test_a_signal_of_others_is_told_in_order_and_with_advice(name: str, told: str) -> None:
    """What it died of, when, and who it was not; then where to look."""
    made = report(Outcome.SIGNAL, signal=name, duration_s=0.009, kind="command")
    assert made.death is not None
    assert made.death.why_now == f"it died of {name} after 9 ms; memguard did not send it"
    assert told in made.recommendations[0]


def test_a_command_is_not_told_of_what_only_python_has() -> None:
    """A command, in whatever language, is not sent to a function of this library."""
    made = report(Outcome.BUDGET_KILL, kind="command")
    assert [line for line in made.recommendations if "job.batches" in line] == []
    assert [line for line in report(Outcome.BUDGET_KILL).recommendations if "job.batches" in line] != []


@pytest.mark.parametrize(
    ("name", "is_told"),
    [
        *((each, True) for each in ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGXCPU")),
        *(
            (each, False)
            for each in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGQUIT", "SIGUSR1", "signal 40", None)
        ),
    ],
)
def test_only_an_unusual_signal_is_worth_a_line(name: str | None, is_told: bool) -> None:
    """A death that the shell or a reader's end explains is not spoken of; any other names its signal and the peak."""
    line = tell_stray_signal(report(Outcome.SIGNAL, signal=name, kind="command"))
    told = f"fit: killed by {name}, which memguard did not send; peak 700 MiB of its budget of 1 GiB"
    assert line == (told if is_told else "")
    assert tell_stray_signal(report(Outcome.BUDGET_KILL, signal="SIGKILL", kind="command")) == ""


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


def test_a_fault_names_its_page() -> None:
    """What failed of the ledger or the sentinel says where to read on; what has no page is told as it is."""
    fault = "the job runs without a reservation: the ledger could not be used"
    assert tell_fault(fault) == f"{fault} (memguard runbook LedgerDamaged)"
    assert tell_fault("use could not be read: gone") == "use could not be read: gone"


def test_every_runbook_that_is_named_exists(project_root: Path) -> None:
    """A death, or a fault of the guard, sends nobody to a page that is not there."""
    named = [*RUNBOOKS.values(), *FAULT_RUNBOOKS.values()]
    assert [name for name in named if not (project_root / "runbooks" / f"{name}.md").is_file()] == []
