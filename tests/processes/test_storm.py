"""The benchmark's storm runs in a real cgroup, counts what the kernel does there, and leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from memguard.host import probe, processes_with_environment

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MIB = 2**20
# Runs one storm and prints it: contender, jobs, capacity, patience. argv[5] is the folder for temporary files.
PROGRAM = """
import json, sys
from _storm_mix import Job
from _storm_pen import run_storm
from _storm_tally import told
contender, jobs, capacity, patience = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
print(json.dumps(told(run_storm(contender, tuple(Job(*each) for each in jobs), capacity, patience))))
"""
WITHOUT = """
import sys
import types
import storm
from memguard.testing import pen
pen.choose_place = lambda: types.SimpleNamespace(reason="this is a test")
sys.argv = ["storm.py", "--only", "plain"]
sys.exit(storm.main())
"""
# Makes a semaphore whose name another process is told, as pools do, and is ended while it is there.
LEAVES = """
import subprocess, sys
from pathlib import Path
from _storm_pen import end_all
from memguard.host import open_fence
TELLS = "import multiprocessing as m; a = m.get_context('spawn').Lock(); print(a._semlock.name, flush=True); input()"
with open_fence("storm", 1 << 30) as pen:
    process = subprocess.Popen(
        [sys.executable, "-c", TELLS], preexec_fn=pen.enter, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    path = Path("/dev/shm", "sem." + process.stdout.readline().strip().lstrip("/"))
    print(path.exists())
    end_all(pen)
    print(path.exists(), process.wait())
"""
# Is told to stop in the second storm; no cgroup is needed to show what becomes of the first.
STOPPED = """
import os, signal, sys
import storm
from _storm_pen import Trial
from _storm_mix import basic
def run_storm(name, jobs, capacity, patience, seen=[]):
    if seen:
        os.kill(os.getpid(), signal.SIGTERM)
    seen.append(name)
    return Trial(name, jobs, {}, frozenset(), 1.0, 0, 0, None)
storm.run_storm = run_storm
sys.argv = ["storm.py", "--only", "plain"]
sys.exit(storm.main())
"""
HONEST = ["honest", 20 * MIB, 44 * MIB, 0.0]
LIAR = ["liar", 300 * MIB, 60 * MIB, 0.0]

needs_fence = pytest.mark.skipif(
    not probe().fence, reason=f"no fence can be made here: {probe().fence.reason}"
)


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def storm(contender: str, *jobs: Any, capacity: int = 192 * MIB, patience: float = 60.0) -> Any:
    """Run a storm; checks that no file, process or cgroup of it is left."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (contender, json.dumps(jobs), str(capacity), str(patience))
        done = run(PROGRAM, *arguments, TMPDIR=folder, STORM_TEST=folder)
        assert done.returncode == 0, done.stderr
        assert os.listdir(folder) == []
        assert processes_with_environment("STORM_TEST", folder) == ()
    return json.loads(done.stdout)


@needs_fence
def test_the_kernels_kills_are_counted() -> None:
    """Bare processes: the one that outgrows the cgroup is killed, once, and is seen to be; the other finishes."""
    trial = storm("plain", HONEST, LIAR)
    assert {name: end["ending"] for name, end in trial["ends"].items()} == {
        "honest": "finished",
        "liar": "signal 9",
    }
    assert (trial["kernel_kills"], trial["false_kills"]) == (1, [])
    assert trial["times_full"] is None or trial["times_full"] >= 1


@needs_fence
def test_memguard_leaves_the_kernel_nothing_to_do() -> None:
    """Wrapped: who lies ends of his own budget, and the cgroup around all is never full."""
    trial = storm("memguard", HONEST, LIAR)
    assert {name: end["ending"] for name, end in trial["ends"].items()} == {
        "honest": "finished",
        "liar": "budget_kill",
    }, trial
    assert (trial["kernel_kills"], trial["false_kills"]) == (0, [])
    assert not trial["times_full"]


@needs_fence
def test_what_takes_too_long_is_ended() -> None:
    """A storm beyond its time is ended with all its processes, and its jobs are lost."""
    trial = storm("plain", ["honest", MIB, 25 * MIB, 1000.0], patience=0.3)
    assert (trial["lost"], trial["false_kills"]) == ("not over after 0.3 s", ["honest"])


@needs_fence
def test_semaphores_without_an_owner_are_removed() -> None:
    """Who would remove the semaphores of a killed pool is killed after it has."""
    assert run(LEAVES).stdout.split() == ["True", "False", "-9"]


def test_who_stops_it_gets_what_was_measured() -> None:
    """SIGTERM ends it with 130, after the table of the storms that were over."""
    done = run(STOPPED)
    assert done.returncode == 130
    assert "plain, 1 storms" in done.stdout
    assert done.stderr.splitlines()[-1] == "storm: stopped; this is what was measured until then"


def test_without_a_cgroup_it_says_so() -> None:
    """Where no memory cgroup can be had the benchmark ends with 3 and one line that says why."""
    done = run(WITHOUT)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("storm: no memory cgroup can be made here: ")
