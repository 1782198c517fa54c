"""What joblib leaves in /dev/shm when its processes are killed: semaphores and folders that nobody holds any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.shared import SHARED, entries_of

pytest.importorskip("joblib")

# Two workers that share an array, through a folder and eight semaphores named after the first process; they wait, or
# grow without end.
PROGRAM = """
import os, signal, sys, time
import joblib, numpy

def work(block, wish):
    open(f"ready-{os.getpid()}", "w").close()
    taken = []
    while wish == "grow":
        taken.append(bytearray(8 << 20))
        time.sleep(0.005)
    signal.pause()

print(os.getpid(), flush=True)
block = numpy.ones(1 << 18)
joblib.Parallel(n_jobs=2)(joblib.delayed(work)(block, sys.argv[1]) for _ in range(2))
"""


def start(kit: Any, *words: str, wish: str = "wait", **environment: str) -> tuple[Any, int]:
    """Start the program; returns memguard's process, and the pid of the program."""
    program = (sys.executable, "-c", PROGRAM, wish)
    # Else joblib puts arrays on the disk where /dev/shm has less than 2 GB to spare.
    environment["JOBLIB_TEMP_FOLDER"] = str(SHARED)
    process = kit.guard("-q", "--memory", "400MiB", *words, "--", *program, environment=environment)
    return process, int(kit.line(process.stdout))


def wait_for_workers(kit: Any) -> None:
    kit.wait_until(lambda: len(list(kit.folder.glob("ready-*"))) == 2, "both workers have their array")


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("fence", ["auto", "rlimit"])
def test_a_budget_kill_leaves_nothing_of_joblib(kit: Any, fence: str) -> None:
    """Workers past their budget: what joblib named is removed and told one by one, and only then it is verified."""
    done, report = kit.report(
        *("-q", "--memory", "400MiB", "--", sys.executable, "-c", PROGRAM, "grow"),
        environment={"MEMGUARD_FENCE": fence, "JOBLIB_TEMP_FOLDER": str(SHARED)},
    )
    pid = int(done.stdout)
    assert (done.returncode, report["outcome"]) == (137, "budget_kill")
    assert entries_of(pid) == []
    cleanup = report["cleanup"]
    assert cleanup["verified"]
    if fence == "rlimit":  # the kernel kills one worker first, and joblib may have time to clear up by itself
        told = [line for line in cleanup["leftovers"] if str(pid) in line and line.endswith("was removed")]
        assert sum(f"sem.loky-{pid}-" in line for line in told) >= 8
        assert sum(".pkl" in line for line in told) == 1


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("fence", ["auto", "rlimit"])
def test_memguard_killed_leaves_nothing_of_joblib(kit: Any, fence: str) -> None:
    """After kill -9 of memguard its janitor removes what joblib's dead processes had named."""
    process, pid = start(kit, MEMGUARD_FENCE=fence)
    wait_for_workers(kit)
    assert len(entries_of(pid)) >= 9
    process.kill()
    kit.finish(process)
    kit.wait_until(lambda: not entries_of(pid), "the janitor has removed all")


def noted_by(kit: Any, process: Any) -> bytes:
    """Return what the helpers of memguard know of the command."""
    links = (link for pid in kit.children_of(process.pid) for link in Path(f"/proc/{pid}/fd").iterdir())
    return b"".join(link.read_bytes() for link in links if "memfd:memguard-janitor" in os.readlink(link))


@pytest.mark.requirement("R1.4")
def test_what_was_made_just_before_the_kill_is_removed(kit: Any) -> None:
    """A guard that had no time to look knows the process by its pid: what that named since goes as well."""
    program = (
        "import os, sys\nprint(os.getpid(), flush=True); sys.stdin.readline()\n"
        "folder = f'/dev/shm/joblib_memmapping_folder_{os.getpid()}_0_0'\n"
        "os.mkdir(folder); open(f'{folder}/a.pkl', 'w').close()\n"
        "open(f'/dev/shm/sem.loky-{os.getpid()}-0', 'w').close()\n"
        "os.kill(os.getppid(), 9)\nsys.stdin.readline()"
    )
    process = kit.guard("--", sys.executable, "-I", "-S", "-c", program, stdin=subprocess.PIPE)
    pid = int(kit.line(process.stdout))
    kit.wait_until(lambda: f"[[{pid}, ".encode() in noted_by(kit, process), "the janitor knows the command")
    kit.finish(process, b"\n")
    assert process.returncode == -signal.SIGKILL
    kit.wait_until(lambda: not entries_of(pid), "the janitor has removed all")


@pytest.mark.requirement("R1.4")
def test_a_command_killed_from_elsewhere_leaves_nothing_of_joblib(kit: Any) -> None:
    """kill -9 of all processes of the command at once: memguard removes what they left."""
    process, pid = start(kit)
    wait_for_workers(kit)
    family = [each for each in kit.marked() if each != process.pid]
    janitor = next(each for each in kit.children_of(process.pid) if each != pid)
    for each in set(family) - {janitor}:
        os.kill(each, signal.SIGKILL)
    assert kit.finish(process).returncode == 137
    assert entries_of(pid) == []
