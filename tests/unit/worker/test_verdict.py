"""How a job ended, decided from facts alone: one table of what can be seen, in the order of its weight."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import pytest

from memguard.report import Outcome
from memguard.units import MIB
from memguard.worker.verdict import Delivery, Ending, StopReason, judge, signal_name

LIMIT = 100 * MIB
CGROUP = {"fence_kind": "cgroup-v1"}
FULL = {**CGROUP, "fence_oom_kills": 1, "fence_limit_hits": 5, "fence_high_water_bytes": LIMIT}


def ending(**facts: Any) -> Ending:
    plain: dict[str, Any] = {
        "exit_code": 0,
        "delivery": Delivery.NOTHING,
        "stop_reason": None,
        "limit_bytes": LIMIT,
        "peak_bytes": 10 * MIB,
        "fence_kind": "watch",
        "owes_value": True,
    }
    return Ending(**{**plain, **facts})


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        # What it handed over.
        ({"delivery": Delivery.VALUE}, Outcome.COMPLETED),
        ({"delivery": Delivery.VALUE, "exit_code": -signal.SIGSEGV}, Outcome.COMPLETED),
        ({"delivery": Delivery.EXCEPTION, "exit_code": 1}, Outcome.RAISED),
        ({"delivery": Delivery.MEMORY_ERROR, "exit_code": 1}, Outcome.MEMORY_ERROR),
        ({"delivery": Delivery.INTERRUPTED, "exit_code": 1}, Outcome.INTERRUPTED),
        # The bare exit status, of a function and of a command.
        ({"exit_code": 0}, Outcome.RAISED),
        ({"exit_code": 0, "owes_value": False}, Outcome.COMPLETED),
        ({"exit_code": 3}, Outcome.RAISED),
        ({"exit_code": 3, "owes_value": False}, Outcome.RAISED),
        ({"exit_code": -signal.SIGSEGV}, Outcome.SIGNAL),
        ({"exit_code": -signal.SIGKILL}, Outcome.SIGNAL),
        ({"exit_code": -signal.SIGINT}, Outcome.INTERRUPTED),
        ({"exit_code": None}, Outcome.LOST),
        # What memguard did goes before what the job made of it.
        ({"exit_code": -signal.SIGKILL, "stop_reason": StopReason.BUDGET}, Outcome.BUDGET_KILL),
        ({"exit_code": -signal.SIGTERM, "stop_reason": StopReason.TIMEOUT}, Outcome.TIMEOUT),
        ({"delivery": Delivery.VALUE, "stop_reason": StopReason.TIMEOUT}, Outcome.TIMEOUT),
        ({"delivery": Delivery.INTERRUPTED, "stop_reason": StopReason.INTERRUPT}, Outcome.INTERRUPTED),
        ({"exit_code": -signal.SIGKILL, "stop_reason": StopReason.OWNER_GONE}, Outcome.INTERRUPTED),
        # What the kernel counted goes before all.
        ({"exit_code": -signal.SIGKILL, **FULL}, Outcome.BUDGET_KILL),
        ({"exit_code": -signal.SIGKILL, **FULL, "stop_reason": StopReason.TIMEOUT}, Outcome.BUDGET_KILL),
        ({"delivery": Delivery.VALUE, **FULL}, Outcome.BUDGET_KILL),
        # A kill inside a fence that was not full came from a limit above it.
        ({"exit_code": -9, **CGROUP, "fence_oom_kills": 1}, Outcome.KERNEL_OOM),
        ({"exit_code": -9, **FULL, "fence_high_water_bytes": 90 * MIB}, Outcome.KERNEL_OOM),
        ({"exit_code": -9, **FULL, "fence_high_water_bytes": LIMIT - MIB}, Outcome.BUDGET_KILL),
        ({"exit_code": -9, **FULL, "fence_high_water_bytes": None}, Outcome.BUDGET_KILL),
        # Reaching the limit without a kill is no death: file cache does it all the time.
        ({"delivery": Delivery.VALUE, **FULL, "fence_oom_kills": 0}, Outcome.COMPLETED),
        # Machine-wide kills tell something only of a job without a fence of its own that died of SIGKILL.
        ({"exit_code": -signal.SIGKILL, "machine_oom_kills": 1}, Outcome.KERNEL_OOM),
        ({"exit_code": -signal.SIGKILL, "machine_oom_kills": 1, **CGROUP}, Outcome.SIGNAL),
        ({"exit_code": -signal.SIGSEGV, "machine_oom_kills": 1}, Outcome.SIGNAL),
        ({"delivery": Delivery.VALUE, "machine_oom_kills": 1}, Outcome.COMPLETED),
    ],
)
def test_what_was_seen_decides(facts: dict[str, Any], outcome: Outcome) -> None:
    """Each combination of facts that a real ending leaves has its outcome."""
    assert judge(ending(**facts)).outcome is outcome


def test_every_combination_has_an_outcome_and_evidence() -> None:
    """No combination of exit status, delivery, stop and counters is without an answer or a reason."""
    for exit_code, delivery, reason, kills, hits in itertools.product(
        (None, -11, -9, -2, 0, 1), Delivery, (None, *StopReason), (0, 2), (0, 2)
    ):
        verdict = judge(
            ending(
                exit_code=exit_code,
                delivery=delivery,
                stop_reason=reason,
                fence_oom_kills=kills,
                fence_limit_hits=hits,
            )
        )
        assert verdict.outcome in Outcome
        assert verdict.evidence[0].source == "exit status"
        assert all(each.fact for each in verdict.evidence)


def test_the_evidence_names_its_sources() -> None:
    """Each fact is told with the place it was read from, the kernel's with figures."""
    killed = judge(ending(exit_code=-9, stop_reason=StopReason.BUDGET, **FULL)).evidence
    assert {each.source: each.fact for each in killed} == {
        "exit status": "killed by SIGKILL",
        "memguard": "ended what the kernel's kill had left of the job",
        "cgroup-v1": "processes killed by the kernel: 1, limit 100 MiB, times it was hit: 5, high-water mark 100 MiB",
    }
    machine = judge(ending(exit_code=-9, machine_oom_kills=2)).evidence
    assert [each.source for each in machine] == ["exit status", "kernel"]
    left = judge(ending(exit_code=0)).evidence
    assert [each.fact for each in left] == ["exited with 0", "ended its process before it returned"]
    failed = judge(ending(exit_code=1, delivery=Delivery.MEMORY_ERROR)).evidence
    assert failed[1].fact == "handed over: memory error"


def test_signals_have_names() -> None:
    """A signal is told by its name, one that has none by its number."""
    assert signal_name(11) == "SIGSEGV"
    assert signal_name(40) == "signal 40"
