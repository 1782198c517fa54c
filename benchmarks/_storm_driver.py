"""Runs one storm the way of one contender; started inside the pen, it writes down how each job ended.

A pool is started and idle before the jobs come, so that its start is not counted; whoever starts a process a job is
counted with it.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import _storm_job
from _storm_mix import Job

__all__ = ["CONTENDERS", "OUTCOME"]

OUTCOME = "outcome.json"
_MIB = 2**20
Ends = Mapping[str, Mapping[str, Any]]


class Storm:
    """The jobs, where they write, and the clock that runs from the moment they are sent."""

    def __init__(self, jobs: tuple[Job, ...], folder: Path, capacity_bytes: int) -> None:
        self.jobs, self.folder, self.capacity_bytes = jobs, folder, capacity_bytes
        self.began_s = time.monotonic()

    def begin(self) -> None:
        """Start the clock: the jobs come now."""
        self.began_s = time.monotonic()

    def arguments(self, job: Job) -> tuple[str, int, float, str]:
        """Return what a job is called with."""
        return job.name, job.fill_bytes, job.cpu_s, str(self.folder)

    def words(self, job: Job) -> list[str]:
        """Return the command that is the job; without site packages, which would take longer than its start."""
        return [sys.executable, "-IS", _storm_job.__file__, *map(str, self.arguments(job))]

    def start(self, job: Job, *before: str) -> subprocess.Popen[bytes]:
        """Start a job as a process; what it says goes to a file."""
        with open(self.folder / f"{job.name}.err", "wb") as errors:
            return subprocess.Popen([*before, *self.words(job)], stdin=subprocess.DEVNULL, stderr=errors)


def plain(storm: Storm) -> Ends:
    """All at once, as a shell with ``&`` does it."""
    storm.begin()
    started = {job.name: storm.start(job) for job in storm.jobs}
    return {name: {"ending": status_told(process.wait())} for name, process in started.items()}


def status_told(status: int) -> str:
    """Return an exit status in words."""
    return "finished" if status == 0 else f"signal {-status}" if status < 0 else f"status {status}"


def solo(storm: Storm) -> Ends:
    """Run one after the other, alone, to know what each takes; the honest ones only."""
    storm.begin()
    return {job.name: _alone(storm, job) for job in storm.jobs if job.is_honest}


def _alone(storm: Storm, job: Job) -> Mapping[str, Any]:
    began_s = time.monotonic()
    process = storm.start(job)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "ending": status_told(process.returncode),
        "seconds": time.monotonic() - began_s,
        "peak_bytes": used.ru_maxrss * 1024,
    }


def memguard(storm: Storm) -> Ends:
    """Wrap each in `memguard run`, all at once; that they share the machine's ledger is all they know of each other."""
    storm.begin()
    started = {job.name: storm.start(job, *_wrapping(storm, job)) for job in storm.jobs}
    statuses = {name: process.wait() for name, process in started.items()}
    return {name: _reported(storm, name, status) for name, status in statuses.items()}


def _wrapping(storm: Storm, job: Job) -> list[str]:
    script = str(Path(sys.executable).with_name("memguard"))
    report = ["--name", job.name, "--report", str(storm.folder / f"{job.name}.json")]
    return [script, "run", "--ledger", "auto", "--memory", str(job.named_bytes), *report, "--"]


def _reported(storm: Storm, name: str, status: int) -> Mapping[str, Any]:
    try:
        report = json.loads((storm.folder / f"{name}.json").read_text())
    except FileNotFoundError:
        return {"ending": f"no report, {status_told(status)}"}
    ending = "finished" if status == 0 else report["outcome"]
    return {
        "ending": ending,
        "peak_bytes": report.get("peak_bytes"),
        "degraded": report.get("guard_degraded"),
    }


def loky(storm: Storm) -> Ends:
    """Four workers of loky's reusable executor."""
    executor = importlib.import_module("loky").get_reusable_executor(max_workers=4)
    list(executor.map(abs, range(16)))
    storm.begin()
    futures = {job.name: _submit(executor.submit, storm, job) for job in storm.jobs}
    ends = {name: {"ending": _settled(future)} for name, future in futures.items()}
    executor.shutdown(wait=True, kill_workers=True)
    return ends


def _submit(submit: Callable[..., Any], storm: Storm, job: Job, **options: Any) -> Any:
    return submit(_storm_job.work, *storm.arguments(job), **options)


def _settled(future: Any) -> str:
    """Wait for a future; returns how it ended. Whatever a peer raises is its answer."""
    try:
        future.result()
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
    return "finished"


def dask(storm: Storm) -> Ends:
    """Run four workers, all else as it comes. Its ``auto`` reads the root cgroup, and so sees the whole machine."""
    return _dask(storm, 4)


def dask_told(storm: Storm) -> Ends:
    """Run the same; ``auto`` is told of the capacity by a resource limit that it reads and the kernel does not keep."""
    resource.setrlimit(resource.RLIMIT_RSS, (storm.capacity_bytes, storm.capacity_bytes))
    return _dask(storm, 4)


def dask_tuned(storm: Storm) -> Ends:
    """Run two workers, with the limit that did best of 500 to 600 MiB.

    Below it the largest honest job is killed, since a worker is ended at 95 % and has some 75 MiB of its own; above it
    the kernel kills more often.
    """
    return _dask(storm, 2, memory_limit=540 * _MIB)


def dask_watched(storm: Storm) -> Ends:
    """Run the same, where a nanny looks at its worker each 10 ms instead of each 100."""
    importlib.import_module("dask").config.set({"distributed.worker.memory.monitor-interval": "10ms"})
    return dask_tuned(storm)


def _dask(storm: Storm, workers: int, **options: Any) -> Ends:
    distributed = importlib.import_module("distributed")
    local = {"dashboard_address": None, "local_directory": str(storm.folder), "silence_logs": "CRITICAL"}
    with (
        distributed.LocalCluster(n_workers=workers, **local, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
        storm.begin()
        futures = {job.name: _submit(client.submit, storm, job, pure=False) for job in storm.jobs}
        ends = {name: {"ending": _settled(future)} for name, future in futures.items()}
        _write(storm, ends)  # before the cluster is taken down, which may fail
    return ends


CONTENDERS: Mapping[str, Callable[[Storm], Ends]] = {
    "solo": solo,
    "plain": plain,
    "loky": loky,
    "dask": dask,
    "dask-told": dask_told,
    "dask-tuned": dask_tuned,
    "dask-watched": dask_watched,
    "memguard": memguard,
}


def _write(storm: Storm, ends: Ends) -> None:
    path = storm.folder / OUTCOME
    if path.exists():
        return
    document = {"makespan_s": time.monotonic() - storm.began_s, "ends": ends}
    path.with_suffix(".part").write_text(json.dumps(document))
    path.with_suffix(".part").rename(path)


def main(contender: str, folder: str, capacity: str, jobs: str) -> None:
    """Run the storm and write down its outcome."""
    storm = Storm(tuple(Job(*each) for each in json.loads(jobs)), Path(folder), int(capacity))
    _write(storm, CONTENDERS[contender](storm))


if __name__ == "__main__":
    main(*sys.argv[1:])
