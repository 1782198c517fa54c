"""What every choice of fence must hold: one suite, run with a cgroup, with RLIMIT_DATA, and with the watcher alone."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from memguard import JobProgress, MemoryLimitExceeded, Outcome, current_job
from memguard.host import probe
from memguard.testing import allocate
from tests.support.guarded import MIB, Guarded, by_value, error_of, guarded
from tests.support.looks import Looks, stay

by_value(__name__)

KINDS = {"cgroup": ("cgroup-v1", "cgroup-v2"), "rlimit": ("rlimit",), "none": ("watch",)}


@pytest.fixture(scope="module", params=KINDS)
def fenced(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    if request.param == "cgroup" and not probe().fence:
        pytest.skip(f"no writable memory cgroup: {probe().fence.reason}")
    with guarded("3GiB", fence=request.param, grace="1s") as manager:
        manager.fence = request.param  # type: ignore[attr-defined]
        yield manager


def hog(mib: int, gate: Path | None = None) -> int:
    taken = [allocate(MIB) for _ in range(mib)]
    if gate is not None:
        stay(gate)
    return len(taken)


@pytest.mark.requirement("R2.1")
def test_the_report_names_the_fence(fenced: Guarded) -> None:
    """What enforces the budget is what was asked for, and the report says so."""
    report = fenced.run(int).report
    assert report.budget.fence in KINDS[fenced.fence]  # type: ignore[attr-defined]
    assert report.guard_degraded == ()


@pytest.mark.requirement("R2.3", "R5.4")
def test_a_job_inside_its_budget_completes(fenced: Guarded, tmp_path: Path) -> None:
    """Half of the budget is no reason for anything: value, peak and cleanup are reported."""
    looks = Looks(tmp_path / "gate", lambda used: used[-1] >= 100 * MIB)
    result = fenced.run(hog, 100, looks.gate, on_progress=looks, timeout=30)
    report = result.report
    assert (result.value, report.outcome, report.death) == (100, Outcome.COMPLETED, None)
    assert 100 * MIB <= report.peak_bytes < 130 * MIB
    assert report.warnings == ()
    fenced.check_nothing_left(result)


@pytest.mark.requirement("R2.1", "R1.4")
def test_a_job_past_its_budget_is_killed(fenced: Guarded) -> None:
    """A job that goes on allocating is stopped near its budget, by its name, and nothing of it is left."""
    result = fenced.run(hog, 2000, memory="100MiB")
    report = result.report
    assert report.outcome is Outcome.BUDGET_KILL
    # The watcher looks before the next line can be reached at 6 GiB/s, but it must be given a processor to look.
    assert 100 * MIB <= report.peak_bytes < 400 * MIB
    assert report.death is not None
    assert "needs more than 100 MiB" in report.death.what_next[0]
    assert isinstance(error_of(result), MemoryLimitExceeded)
    fenced.check_nothing_left(result)


@pytest.mark.requirement("R2.2")
def test_a_slow_job_is_warned_of_before_it_is_killed(fenced: Guarded) -> None:
    """Use that nears the bound is told by an event and in the report before the bound is hit."""

    def creep() -> None:
        taken = []
        while True:
            taken.append(allocate(2 * MIB))
            time.sleep(0.01)

    fenced.events.clear()
    result = fenced.run(creep, memory="100MiB")
    assert result.report.outcome is Outcome.BUDGET_KILL
    names = [event.name for event in fenced.events if event.job_id == result.report.job_id]
    assert names.index("memguard.budget_neared") < names.index("memguard.job_ended")
    first = result.report.warnings[0]
    assert "of the budget of 100 MiB" in first.text
    assert first.at_s < result.report.duration_s
    neared = next(event for event in fenced.events if event.name == "memguard.budget_neared")
    assert 80 * MIB <= neared.fields["used_bytes"] <= 100 * MIB


@pytest.mark.requirement("R5.1")
def test_the_whole_tree_counts(fenced: Guarded) -> None:
    """Three processes that are each inside the budget, and together beyond it, are stopped."""

    def family() -> None:
        code = "from memguard.testing import allocate; import signal; a = allocate(60 << 20); signal.pause()"
        children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
        children[0].wait()

    result = fenced.run(family, memory="140MiB")
    assert result.report.outcome is Outcome.BUDGET_KILL
    assert len(result.report.processes) >= 2
    fenced.check_nothing_left(result)


@pytest.mark.requirement("R5.1", "R1.4")
def test_who_escapes_by_a_double_fork_counts(fenced: Guarded) -> None:
    """A grandchild in a session of its own whose parent is gone is measured and ended like the rest."""

    def escape() -> None:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                taken = allocate(150 * MIB)
                signal.pause()
                del taken
            os._exit(0)
        os.wait()
        signal.pause()

    result = fenced.run(escape, memory="100MiB")
    assert result.report.outcome is Outcome.BUDGET_KILL
    fenced.check_nothing_left(result)


@pytest.mark.requirement("R5.1")
def test_shared_memory_that_a_job_makes_counts(fenced: Guarded) -> None:
    """Pages in /dev/shm are the job's, whoever maps them; the file is gone afterwards."""
    name = f"memguard-test-{os.getpid()}"

    def share() -> None:
        file = os.open(f"/dev/shm/{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        for step in range(200):
            os.pwrite(file, b"x" * MIB, step * MIB)
            time.sleep(0.005)
        signal.pause()

    result = fenced.run(share, memory="100MiB")
    assert result.report.outcome is Outcome.BUDGET_KILL
    assert not Path("/dev/shm", name).exists()
    assert any(name in line for line in result.report.cleanup.leftovers)
    fenced.check_nothing_left(result)


@pytest.mark.requirement("R1.4", "R2.3")
def test_shared_memory_that_a_job_left_is_removed(fenced: Guarded) -> None:
    """A named segment that a job forgot is unlinked after it, and told; one that was there before is not touched."""
    there, forgotten = (
        Path("/dev/shm", f"memguard-test-{os.getpid()}-{word}") for word in ("there", "forgotten")
    )

    def forget() -> None:
        files = [os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for path in (there, forgotten)]
        for file in files:
            os.pwrite(file, b"x" * MIB, 0)
        forget.files = files  # type: ignore[attr-defined]

    there.touch()
    try:
        result = fenced.run(forget)
        assert not forgotten.exists()
        assert there.exists()
    finally:
        there.unlink()
    assert [str(forgotten) in line for line in result.report.cleanup.leftovers] == [True]
    fenced.check_nothing_left(result)


@pytest.mark.requirement("R2.4")
def test_arguments_and_results_are_not_the_jobs_memory(fenced: Guarded, tmp_path: Path) -> None:
    """An argument and a result, each larger than the budget, cross: their pages are the caller's."""
    given = np.ones(10 * MIB)  # 80 MiB

    def double(values: np.ndarray) -> tuple[float, np.ndarray]:
        total = float(values.sum())
        job = current_job()
        assert job is not None
        job.phase("mapped")
        stay(gate)
        return total, values

    gate = tmp_path / "gate"
    looks = Looks(gate, lambda used: len(used) > 3, phase="mapped")
    result = fenced.run(double, given, memory="50MiB", on_progress=looks)
    assert result.report.outcome is Outcome.COMPLETED, result.error
    total, back = result.value
    assert total == given.size
    np.testing.assert_array_equal(back, given)
    assert result.report.peak_bytes < 40 * MIB


@pytest.mark.heavy
def test_a_small_job_of_a_large_argument_can_allocate(fenced: Guarded) -> None:
    """An argument of 800 MiB leaves a job of 64 MiB all the room that its budget promises."""
    given = np.ones(100 * MIB)

    def little(values: np.ndarray) -> int:
        return len(allocate(30 * MIB)) + values.ndim

    assert fenced.value(little, given, memory="64MiB") == 30 * MIB + 1


@pytest.mark.requirement("R2.1")
def test_a_changed_argument_is_the_jobs_memory(fenced: Guarded) -> None:
    """Pages of an argument that the job writes to are copied, and the copies count against its budget."""
    given = np.ones(10 * MIB)

    def change(values: np.ndarray) -> None:
        values += 1
        signal.pause()

    result = fenced.run(change, given, memory="50MiB")
    assert result.report.outcome is Outcome.BUDGET_KILL
    assert given[0] == 1


@pytest.mark.requirement("R1.4")
def test_a_timeout_ends_who_ignores_it(fenced: Guarded) -> None:
    """A job that ignores SIGTERM, and its child that does too, are killed when the grace is over."""

    def stay() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "60"])
        signal.pause()

    result = fenced.run(stay, timeout=0.3)
    assert result.report.outcome is Outcome.TIMEOUT
    assert result.report.signal == "SIGKILL"
    assert result.report.duration_s < 20
    fenced.check_nothing_left(result)


def test_what_a_job_left_running_is_ended(fenced: Guarded) -> None:
    """Helpers that outlive the job are asked to end, then killed; the value arrives all the same."""

    def leave() -> str:
        subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60"], start_new_session=True)
        subprocess.Popen(["sh", "-c", "(sleep 60 & sleep 60) & sleep 60"])
        return "done"

    result = fenced.run(leave)
    assert (result.value, result.report.outcome) == ("done", Outcome.COMPLETED)
    assert any("outlived the job" in line for line in result.report.cleanup.leftovers)
    fenced.check_nothing_left(result)


def test_a_segfault_is_told_from_a_budget(fenced: Guarded) -> None:
    """A crash near no line at all is a signal, whatever enforces the budget."""
    result = fenced.run(ctypes.string_at, 0)
    assert (result.report.outcome, result.report.signal) == (Outcome.SIGNAL, "SIGSEGV")
    fenced.check_nothing_left(result)


def test_a_shared_mapping_of_the_job_counts(fenced: Guarded, tmp_path: Path) -> None:
    """Anonymous shared memory, as forked workers use it, is measured."""

    def share() -> int:
        block = mmap.mmap(-1, 60 * MIB)
        block.write(b"x" * (60 * MIB))
        stay(gate)
        return len(block)

    gate = tmp_path / "gate"
    result = fenced.run(share, on_progress=Looks(gate, lambda used: used[-1] >= 60 * MIB), timeout=30)
    assert result.value == 60 * MIB
    assert 60 * MIB <= result.report.peak_bytes < 90 * MIB + 60 * MIB


def test_shared_memory_does_not_flicker(fenced: Guarded, tmp_path: Path) -> None:
    """While a job keeps its shared memory, each sample has it."""

    def share() -> None:
        file = os.memfd_create("x")
        os.posix_fallocate(file, 0, 60 * MIB)
        job = current_job()
        assert job is not None
        stay(looked.gate)
        job.phase("full")
        stay(full.gate)

    looked = Looks(tmp_path / "looked", lambda used: used[-1] >= 60 * MIB)
    full = Looks(tmp_path / "full", lambda used: len(used) > 8, phase="full")

    def hear(progress: JobProgress) -> None:
        looked(progress)
        full(progress)

    result = fenced.run(share, on_progress=hear, timeout=30)
    assert len(full.used) > 8
    # The last one may be of a process that has freed its own memory, or all, already.
    assert all(each >= 60 * MIB for each in full.used[:-1]), full.used
    assert 60 * MIB <= result.report.peak_bytes < 120 * MIB


@pytest.mark.requirement("R2.3")
def test_growing_shared_memory_is_stopped_at_the_budget(fenced: Guarded) -> None:
    """A memfd that is filled at half a gigabyte a second never stands far above the budget."""

    def fill() -> None:
        file, block = os.memfd_create("x"), b"x" * (2 * MIB)
        for _ in range(500):
            os.write(file, block)
            time.sleep(0.004)

    result = fenced.run(fill, memory="300MiB")
    assert result.report.outcome is Outcome.BUDGET_KILL
    # A look is due each 10 ms near the line; the rest is for a busy machine.
    assert result.report.peak_bytes < 325 * MIB
    fenced.check_nothing_left(result)


def test_the_job_knows_its_budget(fenced: Guarded) -> None:
    """Inside a job its context gives the budget in bytes, and its process cannot be mistaken for the caller's."""

    def ask() -> tuple[int, int]:
        job = current_job()
        assert job is not None
        return job.budget_bytes, os.getpid()

    budget, pid = fenced.value(ask, memory="64MiB")
    assert budget == 64 * MIB
    assert pid != os.getpid()
