"""Managers and blocks inside one another: what refuses a setting is named, and an emergency reaches all of them."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import memguard
from memguard import CapacityExceeded, MemoryLimitExceeded, MemoryManager, Outcome
from memguard.config import load_settings
from memguard.errors import CleanupFailed
from memguard.story import suggested_budget
from memguard.units import format_setting
from tests.support.guarded import check_report


class Cache:
    """Notes that it was asked to give memory back."""

    def __init__(self) -> None:
        self.asked = 0

    def shed(self, target_bytes: int) -> int:
        self.asked += 1
        return 0


def orders() -> list[tuple[str, ...]]:
    """Return who was asked, for each manager outside of all others; other tests' managers have nobody to ask.

    Pools of the whole process, which other tests may have made, are asked by themselves.
    """
    own = ("within", "inner", "block", "outer")
    asked = [
        tuple(name for name in report.order if name in own) for report in memguard.emergency_memory_cleanup()
    ]
    return [each for each in asked if each]


def test_an_emergency_reaches_blocks_and_managers_inside_and_nobody_closed() -> None:
    """What is registered on a block is asked too, once, before its manager's; what has ended is not asked."""
    caches = [Cache() for _ in range(4)]
    with MemoryManager("200MiB") as outer:
        outer.cleanup.register_sheddable("outer", caches[0])
        with (
            outer.managed_processing("block", memory="50MiB") as job,
            MemoryManager("60MiB", name="inner") as inner,
            inner.managed_processing("within", memory="20MiB") as within,
        ):
            job.cleanup.register_sheddable("block", caches[1])
            inner.cleanup.register_sheddable("inner", caches[2])
            within.cleanup.register_sheddable("within", caches[3])
            assert orders() == [("within", "inner", "block", "outer")]
            assert [each.asked for each in caches] == [1, 1, 1, 1]
        assert orders() == [("outer",)]
    assert all("outer" not in order for order in orders())
    assert [each.asked for each in caches] == [2, 1, 1, 1]


def test_a_block_past_the_whole_budget_is_told_what_to_raise() -> None:
    """The advice names the budget that would refuse the setting; following it, the setting is taken."""
    with MemoryManager("100MiB", name="mine") as manager:
        with (
            pytest.raises(MemoryLimitExceeded) as caught,
            manager.managed_processing("fit") as job,
        ):
            held = np.ones(15 << 20)  # 120 MiB
            job.checkpoint()
        del held
        report = caught.value.report
        assert report is not None
        check_report(report)
        size = format_setting(suggested_budget(report))
        assert report.recommendations[0] == (
            f'needs more than 100 MiB: run with memory="{size}", and raise what encloses it: '
            f'the budget of mine (100 MiB) to budget="{size}"'
        )
        assert "it ran in this process" in str(caught.value)
    with MemoryManager(size, name="mine") as manager, manager.managed_processing("fit", memory=size):
        pass


def test_a_job_in_a_job_knows_all_budgets_around_it() -> None:
    """The manager in a job lists its own budget first, then that of the job."""

    def within() -> Any:
        with MemoryManager("50MiB", name="inner") as manager:
            return manager.run(int, memory="40MiB").report.budget.outer

    with MemoryManager("200MiB") as manager:
        result = manager.run(within, memory="100MiB", name="whole")
    assert [(each.limit_bytes >> 20, each.name, each.setting) for each in result.value] == [
        (50, "the budget of inner", "budget"),
        (100, "the budget of job whole", "memory"),
    ]
    assert [each.name for each in result.report.budget.outer] == ["the budget of memguard"]


def test_what_follows_from_an_end_is_published() -> None:
    """A budget that was passed and models that live on are events, beside those of the job itself."""
    model = Cache()
    with MemoryManager("100MiB") as manager:
        names: list[str] = []
        manager.events.subscribe(lambda event: names.append(event.name))
        with manager.managed_processing("quiet", memory="50MiB") as job:
            job.register_model(model)
            job.note("rows", np.int64(3))
        assert manager.reports[-1].notes["rows"] == 3
        check_report(manager.reports[-1])
        assert "memguard.model_survived" in names
        assert "memguard.budget_exceeded" not in names
        with pytest.raises(MemoryLimitExceeded), manager.managed_processing("full", memory="20MiB") as job:
            held = np.ones(5 << 20)
            job.checkpoint()
        del held
        assert "memguard.budget_exceeded" in names


def test_the_settings_of_cleanup_hold() -> None:
    """The deadline is that of handlers without one of their own, in a manager and in its blocks."""
    settings = load_settings({"cleanup_deadline": "20ms", "cleanup_interval": "7s"})
    manager = MemoryManager("100MiB", settings=settings)
    release = threading.Event()
    manager.cleanup.register("stuck", lambda: release.wait(30))
    with manager.managed_processing("block", memory="50MiB") as job:
        job.cleanup.register("stuck too", lambda: release.wait(30))
    assert "stuck too overran" in manager.reports[-1].cleanup.leftovers[0]
    with pytest.raises(CleanupFailed, match="stuck overran"):
        manager.close()
    release.set()


def test_memguards_own_errors_are_no_failed_allocation() -> None:
    """A job that asks for too much, or whose own inner job dies of its budget, raised: its memory was enough."""

    def ask() -> None:
        MemoryManager().run(int, memory="1GiB")

    def hog() -> None:
        held = []
        while True:
            held.append(bytearray(4 << 20))

    def outer() -> None:
        MemoryManager().run(hog, memory="64MiB", name="hog")

    with MemoryManager("300MiB") as manager:
        asked = manager.run(ask, memory="100MiB", check=False)
        assert (asked.report.outcome, type(asked.error)) == (Outcome.RAISED, CapacityExceeded)
        nested = manager.run(outer, check=False)
        assert nested.report.outcome is Outcome.RAISED
        assert isinstance(nested.error, MemoryLimitExceeded)
        assert nested.error.report is not None
        assert nested.error.report.name == "hog"


def test_what_a_job_starts_shares_its_budget() -> None:
    """A program that a job starts, memguard's own commands among them, can ask for no more than the job has."""

    def start() -> str:
        words = [sys.executable, "-m", "memguard", "run", "--memory", "200MiB", "--", "true"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return f"{done.returncode} {done.stderr}"

    with MemoryManager("300MiB") as manager:
        told = manager.run(start, memory="100MiB").value
        assert told is not None
        assert told.startswith("2 memguard: --memory 200MiB is more than there is: 200 MiB of 100 MiB")
        assert "the enclosing `memguard run` or job" in told
