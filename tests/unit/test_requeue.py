"""Another try after running out of memory: how much more, and when it is of no use."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from memguard.errors import ConfigError
from memguard.report import Attempt, BudgetReport, JobReport, Outcome, OuterBudget
from memguard.requeue import next_frame, next_limit, tell_requeue, tries
from memguard.story import with_story
from memguard.units import GIB, MIB
from memguard.worker.compose import JobFrame
from tests.unit.test_story import report

PRESSURE = "it uses 90 MiB beyond the 10 MiB reserved; nobody else does"


def within(limit_mib: int, outer_mib: int, **changes: object) -> JobReport:
    """Return the report of a job that was killed for its budget inside another one."""
    outer = (OuterBudget(outer_mib * MIB, "the budget of all", "budget"),)
    budget = BudgetReport(limit_mib * MIB, "memory", "watch", outer)
    return report(Outcome.BUDGET_KILL, limit_mib, limit_mib, budget=budget, **changes)


@pytest.mark.requirement("R6.2")
def test_half_as_much_again_is_given_up_to_what_there_is() -> None:
    """The next budget is half as much again, capped by the machine and by what is around the job."""
    assert next_limit(report(Outcome.BUDGET_KILL, 1000, 1000), 1) == 1500 * MIB
    assert next_limit(report(Outcome.BUDGET_KILL, 7000, 7000), 1) == 8 * GIB
    assert next_limit(within(1000, 1200), 1) == 1200 * MIB


@pytest.mark.parametrize("outcome", [each for each in Outcome if not each.is_memory_death])
def test_only_those_that_ran_out_of_memory_are_run_again(outcome: Outcome) -> None:
    """What failed for another reason would fail again."""
    assert next_limit(report(outcome), 5) is None


def test_no_try_is_wasted() -> None:
    """Without a try left, or with no more to give, a job is not run again."""
    assert next_limit(report(Outcome.BUDGET_KILL, 1000, 1000), 0) is None
    assert next_limit(within(1200, 1200), 3) is None
    assert next_limit(report(Outcome.KERNEL_OOM, 8192, 8192), 3) is None


@pytest.mark.requirement("R6.4")
def test_one_that_was_ended_for_the_machine_is_run_again_with_what_it_needs() -> None:
    """Its budget may be all there is: what counts is that all of it is reserved before it starts."""
    ended = within(1200, 1200, pressure=PRESSURE)
    assert next_limit(ended, 1) == 1200 * MIB
    assert tell_requeue(ended, 1200 * MIB) == f"fit: {PRESSURE}; it is run again with 1.2 GiB"


def test_the_next_try_knows_of_those_before() -> None:
    """It has an id of its own, the new budget, and what became of each try."""
    first = within(1000, 4000)
    frame = JobFrame("1", "fit", "function", "mine.fit", "now", 1, "memory", first.capacity, None, (), {})
    second = next_frame(frame, first, 1500 * MIB, "2")
    assert (second.job_id, second.limit_bytes, second.budget_source) == (
        "2", 1500 * MIB, "memory, raised for another try",
    )  # fmt: skip
    assert second.attempts == (Attempt(Outcome.BUDGET_KILL, 1000 * MIB, 1000 * MIB, 61.0),)
    later = dataclasses.replace(first, budget=BudgetReport(1500 * MIB, second.budget_source, "watch"))
    third = next_frame(second, later, 2250 * MIB, "3")
    assert third.budget_source == "memory, raised for another try"
    assert [each.limit_bytes // MIB for each in third.attempts] == [1000, 1500]


@pytest.mark.requirement("R6.4")
@pytest.mark.parametrize("kind", ["function", "command", "managed"])
def test_a_death_for_the_machines_sake_tells_why_this_job(kind: str) -> None:
    """Not its budget was the cause: the story says so, names the rule by which it was chosen, and what to set."""
    told = with_story(report(Outcome.BUDGET_KILL, 700, 4000, pressure=PRESSURE, kind=kind))
    assert told.reason == "machine_pressure"
    assert told.death is not None
    assert told.death.why_this_one == PRESSURE
    assert "the machine's memory ran short" in told.death.why_now
    assert told.death.where == "memguard runbook MachineShortOfMemory"
    setting = "--memory 1.1GiB" if kind == "command" else 'memory="1.1GiB"'
    assert setting in told.recommendations[0]


@pytest.mark.parametrize("retries", [-1, 1.5, "2", True, None])
def test_what_is_no_number_of_retries_is_refused(retries: Any) -> None:
    """It is told at once, and the job is not run."""
    with pytest.raises(ConfigError, match="no number of retries"):
        tries(retries)
    assert list(tries(2)) == [2, 1, 0]
