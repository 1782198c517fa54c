"""What a job tells while it runs, and what it is given."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from memguard import (
    Outcome,
    current_job,
)
from memguard.testing import allocate
from tests.support.guarded import (
    MIB,
    Guarded,
    by_value,
    descriptors,
    eventually,
    guarded,
    unchanged_caller,
)

by_value(__name__)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("1GiB", grace="1s") as manager:
        yield manager


def sleep_on() -> None:
    subprocess.Popen(["sleep", "60"])
    time.sleep(60)


def test_progress_arrives_while_a_job_runs(jobs: Guarded) -> None:
    """Phases, fractions and use are told in the caller's thread, and the phases stand in the report."""
    seen = []

    def work() -> None:
        job = current_job()
        assert job is not None
        job.phase("first", "rows")
        job.progress(0.5)
        taken = allocate(30 * MIB)
        time.sleep(0.3)
        job.phase("second")
        job.warn("odd data")
        job.note("columns", 12)
        del taken

    report = jobs.run(work, on_progress=seen.append).report
    assert {each.phase for each in seen} == {"", "first", "second"}
    assert 0.5 in {each.fraction for each in seen}
    assert max(each.used_bytes for each in seen) >= 30 * MIB
    assert [phase.name for phase in report.phases] == ["first", "second"]
    assert report.phases[0].peak_bytes >= 30 * MIB
    assert report.notes["columns"] == 12
    assert [warning.text for warning in report.warnings] == ["odd data"]


def test_a_callback_that_raises_stops_the_job(jobs: Guarded) -> None:
    """An error in the caller's own callback comes out, and leaves no job behind."""

    def fail(progress: Any) -> None:
        raise ZeroDivisionError("in the caller")

    with unchanged_caller(), pytest.raises(ZeroDivisionError, match="in the caller"):
        jobs.run(sleep_on, on_progress=fail)
    assert eventually(jobs.is_idle)
    assert jobs.manager.reports[-1].outcome is Outcome.INTERRUPTED


def test_nothing_is_open_in_a_job_but_what_it_needs(jobs: Guarded) -> None:
    """A job starts with its three streams and one channel: nothing of the caller, the template or other jobs."""

    def mine() -> list[str]:
        return sorted(descriptors().values())

    caller_file = os.open("/dev/zero", os.O_RDONLY)
    try:
        found = jobs.value(mine)
    finally:
        os.close(caller_file)
    assert [each for each in found if each.startswith("socket:")] == [found[-1]]
    assert not any("memfd" in each or "zero" in each or "cgroup" in each for each in found)
    assert len(found) <= 6
