"""A worker of joblib or of Dask in which jobs leak is replaced, its report says so, and no result is lost."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from memguard.integrations.joblib import LeakRecycling
from memguard.leaks.records import Kind, LeakReport, Verdict
from memguard.leaks.recycling import RecycledWorker
from memguard_integrations.recycling import loky as door

JOBS = """
import os
KEPT = []
def leak(number):
    KEPT.append(bytes([number % 251]) * 200_000)
    return number, os.getpid()
def work(number):
    return number, os.getpid()
def note(number):
    with open("calls", "a") as calls:
        calls.write("one\\n")
    return number
"""
LOKY = """
import json, sys, warnings
import jobs
from {loky} import get_reusable_executor
from memguard.integrations.joblib import LeakRecycling
warnings.simplefilter("ignore")  # loky's own, that a worker was replaced
if __name__ == "__main__":
    executor = get_reusable_executor(max_workers=1)
    with LeakRecycling(share=100) as recycling:
        results = list(executor.map(recycling(getattr(jobs, sys.argv[1])), range(220), chunksize=10))
    executor.shutdown()
    print(json.dumps({{
        "numbers": [number for number, _ in results],
        "pids": list(dict.fromkeys(pid for _, pid in results)),
        "recycled": [[each.pid, each.jobs, each.report.to_json()] for each in recycling.recycled],
    }}))
"""
DASK = """
import json, os, time
import jobs
from distributed import Client, LocalCluster
from memguard.integrations.dask import TOPIC, LeakPlugin
if __name__ == "__main__":
    one = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
    with one, Client(one) as client:
        client.register_plugin(LeakPlugin(share=100))
        numbers, pids = [], []
        give_up_s = time.monotonic() + 90
        def call(count):
            some = range(len(numbers), len(numbers) + count)
            for number, pid in client.gather(client.map(jobs.leak, some, pure=False)):
                numbers.append(number)
                pids.append(pid)
        while not client.get_events(TOPIC):
            assert time.monotonic() < give_up_s, "nothing is told"
            call(20)
        told = [event for _, event in client.get_events(TOPIC)]
        # No task, so that there is no result which the only worker had to keep.
        while {*client.run(os.getpid, on_error="ignore").values()} <= {pids[0]}:
            assert time.monotonic() < give_up_s, "nobody is replaced"
        call(1)
    print(json.dumps({"numbers": numbers, "pids": list(dict.fromkeys(pids)), "recycled": told}))
"""
TWO_AT_ONCE = """
import json, os, time
import jobs
from distributed import Client, LocalCluster, wait
from memguard_integrations.recycling.dask import _replace
def replace(dask_worker):
    dask_worker.loop.add_callback(_replace, dask_worker)
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as two, Client(two) as client:
        futures = client.map(jobs.note, range(20))
        wait(futures)
        before = {*client.run(os.getpid).values()}
        client.run(replace)
        give_up_s = time.monotonic() + 90
        while before & {*client.run(os.getpid, on_error="ignore").values()}:
            assert time.monotonic() < give_up_s, "nobody is replaced"
        numbers = client.gather(futures)
    print(json.dumps({"numbers": numbers, "calls": len(open("calls").readlines())}))
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Run a program beside a module of jobs."""
    (tmp_path / "jobs.py").write_text(JOBS)

    def call(program: str, *words: str) -> dict[str, Any]:
        # A file, since workers import what they are sent from by its path.
        (tmp_path / "program.py").write_text(program)
        done = subprocess.run(
            [sys.executable, "program.py", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return call


@pytest.mark.parametrize("loky", ["joblib.externals.loky", pytest.param("loky", marks=pytest.mark.heavy)])
def test_a_worker_of_loky_is_replaced(run: Any, loky: str) -> None:
    """Where jobs leak another process goes on after the verdict; all results are there, and the report names the list."""
    pytest.importorskip(loky)
    found = run(LOKY.format(loky=loky), "leak")
    assert found["numbers"] == list(range(220))
    assert len(found["pids"]) > 1
    pid, jobs, report = found["recycled"][0]
    assert pid == found["pids"][0]
    assert report["verdict"] == "leaking"
    assert "jobs.KEPT" in report["culprits"][0]["holder"]
    assert report["evidence"][-1] == f"this worker, process {pid}, is recycled for it after {jobs} jobs"


@pytest.mark.heavy
def test_a_worker_that_does_not_leak_stays(run: Any) -> None:
    """Jobs that keep nothing are all done by one process, and nothing is told of it."""
    found = run(LOKY.format(loky="joblib.externals.loky"), "work")
    assert found["numbers"] == list(range(220))
    assert (len(found["pids"]), found["recycled"]) == (1, [])


@pytest.mark.heavy
def test_a_worker_of_dask_is_replaced_by_its_nanny(run: Any) -> None:
    """The plugin tells of the leak as an event of the cluster, and a new process does the next tasks; none is lost."""
    pytest.importorskip("distributed")
    found = run(DASK)
    assert found["numbers"] == list(range(len(found["numbers"])))
    told = found["recycled"][0]
    assert (told["pid"], told["recycled"], told["verdict"]) == (found["pids"][0], True, "leaking")
    assert "jobs.KEPT" in told["culprits"][0]["holder"]


@pytest.mark.heavy
def test_two_workers_of_dask_that_leak_at_once_lose_nothing(run: Any) -> None:
    """Each waits until somebody who stays has its results: no task is run again."""
    pytest.importorskip("distributed")
    found = run(TWO_AT_ONCE)
    assert (found["numbers"], found["calls"]) == (list(range(20)), 20)


def test_calls_outside_of_a_worker_are_only_made() -> None:
    """In the caller's own process a watched function is the function, and nobody is replaced."""
    with LeakRecycling() as recycling:
        assert recycling(divmod)(7, 2) == (3, 1)
    assert recycling.recycled == ()
    with pytest.raises(RuntimeError, match="with LeakRecycling"):
        recycling(divmod)


class Leaking:
    """A watch that finds a leak at each job, since to make one takes minutes."""

    def __init__(self, share: float) -> None:
        self.is_closed = False

    def job_ended(self) -> RecycledWorker:
        """Find out."""
        return RecycledWorker(7, 80, LeakReport(Verdict.LEAKING, 1e6, (1e6, 1e6), Kind.PYTHON, (), 80, 20))

    def close(self) -> None:
        """Be ended."""
        self.is_closed = True


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Be a worker of loky's in which jobs leak."""
    loky = SimpleNamespace(_MEMORY_LEAK_CHECK_DELAY=1.0, _MAX_MEMORY_LEAK_SIZE=1, _USE_PSUTIL=True)
    monkeypatch.setattr(door, "_loky_of_this_worker", lambda: loky)
    monkeypatch.setattr(door, "WorkerWatch", Leaking)
    monkeypatch.setattr(door, "_watches", {})
    return loky


def test_a_full_disk_costs_no_job_its_result(
    worker: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The note that cannot be written is logged, nothing of it stays, and results and errors of jobs come through."""

    def half_written(path: Path, _: bytes) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half_written)
    with LeakRecycling() as recycling, caplog.at_level(logging.WARNING, "memguard.leaks"):
        watched = recycling(divmod)
        assert watched(7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            watched(7, 0)
        assert list(Path(watched._folder).iterdir()) == []
    assert len(caplog.records) == 2


def test_a_worker_that_nobody_replaces_is_not_called_recycled(worker: SimpleNamespace) -> None:
    """Where loky lacks the variables the leak is told, by a warning too, and no replacement that there is not."""
    del worker._MAX_MEMORY_LEAK_SIZE
    with LeakRecycling() as recycling, pytest.warns(UserWarning, match="cannot be told to replace"):
        recycling(divmod)(7, 2)
    assert recycling.recycled == ()
    (found,) = recycling.leaking
    assert not any("recycled" in each for each in found.report.evidence)


def test_a_worker_that_is_replaced_says_so(worker: SimpleNamespace) -> None:
    """With the variables it is told in both lists, and its evidence names the process."""
    with LeakRecycling() as recycling:
        recycling(divmod)(7, 2)
    assert recycling.recycled == recycling.leaking
    assert "process 7, is recycled for it" in recycling.recycled[0].report.evidence[-1]


def test_a_former_watch_is_ended(worker: SimpleNamespace) -> None:
    """A worker that serves another block begins anew, and leaves nothing registered for the former one."""
    with LeakRecycling() as former:
        former(divmod)(7, 2)
        (watch,) = door._watches.values()
        with LeakRecycling() as later:
            later(divmod)(7, 2)
    assert watch.is_closed  # type: ignore[attr-defined]
    assert len(door._watches) == 1
