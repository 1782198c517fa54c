"""Memory is back after a job, whatever it did, and does not creep up over many of them."""

from __future__ import annotations

import json
import mmap
import os
import statistics
from collections.abc import Iterator

import numpy as np
import pytest

from memguard import Outcome
from memguard.host import read_process_memory
from memguard.testing import leak
from tests.support.guarded import MIB, Guarded, by_value, eventually, guarded, run_python, unchanged_caller

by_value(__name__)

FIFTY_JOBS = """
import json
import mmap
import numpy as np
from memguard import MemoryManager
from memguard.host import read_process_memory
from memguard.testing import allocate, leak

def trivial():
    return 1

def allocating(mib):
    leak(mib << 20)
    return np.ones(mib << 17), len(allocate(mib << 20))

def failing(mib):
    leak(mib << 20)
    raise ValueError(allocate(1 << 20))

def run_one(manager, number):
    if number % 3 == 0:
        manager.run(trivial, memory="100MiB")
    elif number % 3 == 1:
        manager.run(allocating, 4, memory="100MiB")
    else:
        manager.run(failing, 4, memory="100MiB", check=False)

with MemoryManager("300MiB") as manager:
    for number in range(6):
        run_one(manager, number)
    samples = []
    for number in range(50):
        run_one(manager, number)
        samples.append(read_process_memory().private_bytes)
print(json.dumps(samples))
"""


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("2GiB", grace="1s") as manager:
        manager.value(np.zeros, 1)
        yield manager


@pytest.mark.requirement("R1.2", "T7.1")
def test_fifty_jobs_leave_the_caller_as_it_was(record_property: pytest.RecordProperty) -> None:
    """Over 50 jobs that leak, fail and return arrays the caller grows by less than 5 MiB, without a slope."""
    samples = json.loads(run_python(FIFTY_JOBS).stdout)
    growth, slope = samples[-1] - samples[0], statistics.linear_regression(range(50), samples).slope
    record_property("growth_bytes", growth)
    record_property("slope_bytes_per_job", slope)
    assert growth < 5 * MIB
    # A job that left one page table, buffer or record of itself behind would show; reports are kept, some KiB each.
    assert slope < 16 * 1024


@pytest.mark.requirement("R1.1", "R2.3")
@pytest.mark.parametrize("ending", ["returns", "raises", "is killed"])
def test_the_callers_memory_is_back(jobs: Guarded, ending: str) -> None:
    """A job that leaks 150 MiB leaves the caller's private memory within 5 MiB, at once, and the report says so."""

    def work() -> np.ndarray:
        leak(150 * MIB)
        if ending == "raises":
            raise ValueError
        if ending == "is killed":
            leak(500 * MIB)
        return np.ones(MIB)

    jobs.run(work, memory="300MiB")
    before = read_process_memory().private_bytes
    with unchanged_caller():
        report = jobs.run(work, memory="300MiB").report
    assert read_process_memory().private_bytes - before < 5 * MIB
    assert report.caller.after_bytes - report.caller.before_bytes < 5 * MIB
    assert report.caller.after_5s_bytes == report.caller.after_bytes
    assert report.peak_bytes >= 150 * MIB


@pytest.mark.requirement("R1.1")
def test_what_the_caller_keeps_is_not_hidden(jobs: Guarded) -> None:
    """A caller that grew itself meanwhile sees that in the report: the figure is measured, not assumed."""
    kept: list[mmap.mmap] = []
    # Long enough for what the caller lets go of below to be gone, also on a busy machine.
    jobs.manager._settler._delay_s = 2.0

    def grow(progress: object) -> None:
        if not kept:
            # Of its own, not malloc's: that may serve it from its heap, and keep it there.
            kept.append(mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE))
            for page in range(0, 64 * MIB, mmap.PAGESIZE):
                kept[0][page] = 1

    report = jobs.run(int, on_progress=grow).report
    assert report.caller.after_bytes - report.caller.before_bytes >= 63 * MIB
    assert report.caller.after_5s_bytes is None
    kept.pop().close()
    # Looked at again some time after the job, five seconds where nobody tests it.
    settled = eventually(lambda: jobs.manager.reports[-1].caller.after_5s_bytes)
    assert settled is not None
    assert settled - report.caller.before_bytes < 5 * MIB


@pytest.mark.requirement("R4.2", "R4.4")
def test_a_jobs_template_does_not_grow(jobs: Guarded) -> None:
    """Jobs that leak leave their template, which later jobs are forked from, as it was."""

    def spoil() -> int:
        os.environ["SPOILT"] = "yes"
        np.spoilt = leak(30 * MIB)  # type: ignore[attr-defined]
        return os.getppid()

    jobs.run(spoil)
    before = read_process_memory(jobs.template_pid).private_bytes
    for _ in range(5):
        jobs.run(spoil)
    assert read_process_memory(jobs.template_pid).private_bytes - before < MIB
    assert jobs.value(lambda: (hasattr(np, "spoilt"), os.environ.get("SPOILT"))) == (False, None)


@pytest.mark.requirement("R5.4")
def test_every_job_has_a_report(jobs: Guarded) -> None:
    """Completed or not, each job's report is kept by the manager, oldest first, the last hundred of them."""
    for number in range(4):
        jobs.run(int, str(number) if number != 2 else "no number", name=f"job {number}")
    reports = jobs.manager.reports[-4:]
    assert [report.name for report in reports] == [f"job {number}" for number in range(4)]
    completed, raised = Outcome.COMPLETED, Outcome.RAISED
    assert [report.outcome for report in reports] == [completed, completed, raised, completed]
    assert jobs.manager._slots.maxlen == 100
