"""Jobs that run joblib, and whoever is killed: what its processes had named in /dev/shm is gone in the end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memguard import JobProgress, Outcome, current_job
from tests.support.guarded import Guarded, by_value, eventually, guarded, start_python
from tests.support.shared import SHARED, entries_of

pytest.importorskip("joblib")
by_value(__name__)


@pytest.fixture(scope="module", params=["auto", "none"])
def jobs(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    with guarded(fence=request.param, grace="500ms") as manager:
        yield manager


def share(folder: str, grows: bool = False) -> None:
    """Give two workers of joblib an array; they wait, or grow without end.

    Tells when both have it: its pid and its keeper's.
    """
    import joblib
    import numpy as np

    def work(block: Any) -> None:
        with open(met, "wb") as opened:
            opened.write(b"x")
        taken = []
        while grows:
            taken.append(bytearray(8 << 20))
            time.sleep(0.005)
        signal.pause()

    def tell() -> None:
        # Open for writing too: else it would end when the first one has told.
        opened = os.open(met, os.O_RDWR)
        for _ in range(2):
            os.read(opened, 1)
        os.close(opened)
        job.phase("shared", f"{os.getpid()} {os.getppid()}")

    job, met = current_job(), str(Path(folder, "met"))
    assert job is not None
    os.mkfifo(met)
    # Else joblib puts arrays on the disk where /dev/shm has less than 2 GB to spare.
    os.environ["JOBLIB_TEMP_FOLDER"] = str(SHARED)
    threading.Thread(target=tell, daemon=True).start()
    joblib.Parallel(n_jobs=2)(joblib.delayed(work)(np.ones(1 << 18)) for _ in range(2))


class Witness:
    """Notes who a job and its keeper are, and what the job has in /dev/shm; may kill one of them then."""

    def __init__(self, victim: str = "") -> None:
        self.victim, self.pid, self.seen = victim, 0, [""]

    def __call__(self, progress: JobProgress) -> None:
        if progress.phase == "shared" and not self.pid:
            self.pid, keeper = map(int, progress.detail.split())
            self.seen = entries_of(self.pid)
            if self.victim:
                os.kill({"job": self.pid, "keeper": keeper}[self.victim], signal.SIGKILL)


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize(("victim", "outcome"), [("job", Outcome.SIGNAL), ("keeper", Outcome.LOST)])
def test_who_is_killed_leaves_nothing_of_joblib(
    jobs: Guarded, tmp_path: Path, victim: str, outcome: Outcome
) -> None:
    """`kill -9` of the job or of its keeper: semaphores and folders are gone when the result is there, and verified."""
    witness = Witness(victim)
    result = jobs.run(share, str(tmp_path), on_progress=witness)
    assert result.report.outcome is outcome
    assert len(witness.seen) >= 9
    assert entries_of(witness.pid) == []
    jobs.check_nothing_left(result)


@pytest.mark.requirement("R1.4")
def test_a_budget_kill_leaves_nothing_of_joblib(jobs: Guarded, tmp_path: Path) -> None:
    """Workers past the budget of their job: semaphores and folders are gone when the result is there."""
    witness = Witness()
    result = jobs.run(share, str(tmp_path), True, on_progress=witness, memory="400MiB")
    assert result.report.outcome is Outcome.BUDGET_KILL
    assert not any(
        f"loky-{process.pid}-" in name for process in result.report.processes for name in os.listdir(SHARED)
    )
    assert entries_of(witness.pid) == []
    jobs.check_nothing_left(result)


CALLER = """
import sys
from memguard import MemoryManager
from tests.faults.test_worker_joblib import share

def tell(progress):
    if progress.phase == "shared":
        print(progress.detail, flush=True)

MemoryManager("400MiB").run(share, sys.argv[1], memory="300MiB", on_progress=tell)
"""


@pytest.mark.requirement("R1.4")
def test_a_killed_caller_leaves_nothing_of_joblib(tmp_path: Path) -> None:
    """`kill -9` of the caller: the keeper, who outlives him, removes semaphores and folders."""
    program = CALLER.replace("sys.argv[1]", repr(str(tmp_path)))
    with start_python(program) as caller:
        assert caller.stdout is not None
        pid = int(caller.stdout.readline().split()[0])
        assert len(entries_of(pid)) >= 9
        caller.kill()
    assert eventually(lambda: not entries_of(pid)), entries_of(pid)
