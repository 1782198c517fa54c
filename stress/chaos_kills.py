"""Kill -9 at random: jobs, their keepers, the template; a wrapped command, its wrapper, its janitor.

Invariant: every job and command comes to an end with an outcome that fits what was killed; jobs that were not hit
return their values; the manager goes on with new jobs; and in the end no process, fence or file is left. Everybody has
entries in /dev/shm as joblib makes them, which nobody holds: they are gone when the ending is told.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import _common

from memguard import JobReport, JobResult, MemoryManager, Outcome
from memguard.host import children_of, kill_processes, start_ticks, wait_all_gone
from memguard.testing import allocate, fork_tree
from memguard.units import MIB

REQUIREMENTS = ("R1.4", "R2.4", "T7.3", "U2")

T = TypeVar("T")

_PARALLEL = 3
_JOB_BYTES = 24 * MIB
# Until a process that is to be killed has come to life; on a busy machine a template takes some seconds.
_WAIT_S = 30.0
# A keeper looks every half second at the shared memory of its job; a file that it never saw, it cannot remove.
_SEEN_AFTER_S = 1.0
_SHARED = Path("/dev/shm")
# What joblib makes: a semaphore that is mapped by nobody any more, and a folder; {} is the pid of who made it.
_NAMES = ("sem.loky-{}-", "joblib_memmapping_folder_{}_")
_ALIVE_AND_WELL = Outcome.COMPLETED
# The keeper's death kills its job at once; the template's death leaves keepers and their jobs to end by themselves.
_FITTING: dict[str, frozenset[Outcome]] = {
    "job": frozenset({Outcome.SIGNAL}),
    "child of a job": frozenset({_ALIVE_AND_WELL}),
    "keeper": frozenset({Outcome.LOST}),
    "waiting keeper": frozenset({_ALIVE_AND_WELL}),
    "template": frozenset({_ALIVE_AND_WELL, Outcome.LOST}),
}


def work(size_bytes: int, gate: str) -> int:
    """Hold memory and a child in a session of its own until somebody writes to the gate, then return the size."""
    taken = allocate(size_bytes)
    fork_tree(1, bytes_each=MIB, hold_s=120.0, new_sessions=True)
    name = f"/dev/shm/{_common.run_id()}-{os.getpid()}"
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    semaphore, folder = (_SHARED / f"{each.format(os.getpid())}{_common.run_id()}" for each in _NAMES)
    semaphore.touch()
    folder.mkdir()
    (folder / "array.pkl").write_bytes(bytes(MIB))
    os.posix_fallocate(descriptor, 0, MIB)
    Path(f"{gate}.{os.getpid()}.ready").touch()
    with open(gate, "rb") as waiting:  # opens when the other side does
        waiting.read()
    os.unlink(name)
    return len(taken)


def chaos(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Kill one thing a round until the time is over."""
    chance, clock, seen = random.Random(parsed.seed), _common.Clock(parsed.duration), Counter[str]()
    with MemoryManager("70%") as manager, ThreadPoolExecutor(_PARALLEL) as threads:
        rounds: list[Callable[[], str]] = [
            *(
                lambda victim=victim: job_round(manager, threads, victim, chance, checks)
                for victim in _FITTING
            ),
            *(
                lambda victim=victim: command_round(victim, checks)
                for victim in ("wrapper", "janitor", "command", "both")
            ),
        ]
        while clock.left():
            seen[chance.choice(rounds)()] += 1
            check_new_job(manager, checks)
    for what, times in sorted(seen.items()):
        print(f"  killed {what:<18} {times}")


def check_new_job(manager: MemoryManager, checks: _common.Checks) -> None:
    """A new job must work, whatever happened before."""
    result = manager.run(len, "work", memory="64MiB", check=False)
    checks.check(result.value == 4, f"the next job ended as {tell(result.report)}")


def tell(report: JobReport) -> str:
    """Return an outcome with what it rests on."""
    facts = "; ".join(each.fact for each in report.evidence)
    return f"{report.outcome.value} ({facts}; {report.guard_degraded}) {report.error or ''}".rstrip()


def job_round(
    manager: MemoryManager,
    threads: ThreadPoolExecutor,
    victim: str,
    chance: random.Random,
    checks: _common.Checks,
) -> str:
    """Start jobs, kill something, let the others finish, check all endings."""
    gate = Path(os.environ["TMPDIR"]) / "gate"
    os.mkfifo(gate)
    jobs = [
        threads.submit(manager.run, work, _JOB_BYTES, str(gate), memory="128MiB", check=False)
        for _ in range(_PARALLEL)
    ]
    pids = wait_until(lambda: ready_pids(gate) if len(ready_pids(gate)) == _PARALLEL else None)
    time.sleep(_SEEN_AFTER_S)
    target = choose(victim, pids, chance)
    kill(target, checks)
    open_gate(gate, jobs)
    endings = [job.result() for job in jobs]
    hit = [each for each in endings if each.report.outcome is not _ALIVE_AND_WELL]
    checks.check(
        len(hit) <= (_PARALLEL if victim == "template" else 1), f"killing a {victim} hit {len(hit)} jobs"
    )
    for each in hit or endings[:1]:
        checks.check(
            each.report.outcome in _FITTING[victim], f"after killing a {victim}: {tell(each.report)}"
        )
    for each in endings:
        if each.report.outcome is _ALIVE_AND_WELL:
            checks.check(each.value == _JOB_BYTES, f"a job that was not hit returned {each.value}")
            checks.check(each.report.cleanup.verified, f"its cleanup was not verified: {each.report.cleanup}")
    check_no_entries(victim, checks)
    gate.unlink()
    for path in gate.parent.glob("gate.*.ready"):
        path.unlink()
    return victim


def check_no_entries(victim: str, checks: _common.Checks) -> None:
    """Nothing in /dev/shm may bear the name of this run."""
    left = [path.name for path in _SHARED.iterdir() if _common.run_id() in path.name]
    checks.check(not left, f"after killing a {victim} there was left in /dev/shm: {left}")


def ready_pids(gate: Path) -> list[int]:
    """Return the pids of the jobs that hold their memory."""
    return [int(path.name.split(".")[1]) for path in gate.parent.glob("gate.*.ready")]


def open_gate(gate: Path, jobs: list[Future[JobResult]]) -> None:
    """Let every waiting job go: one that has not opened the gate yet finds it open later."""
    while not all(job.done() for job in jobs):
        with contextlib.suppress(OSError):  # nobody waits at this moment
            os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        time.sleep(0.01)


def choose(victim: str, jobs: list[int], chance: random.Random) -> int:
    """Return the pid of something to kill."""
    job = chance.choice(sorted(jobs))
    keeper = parent_of(job)
    template = parent_of(keeper)
    match victim:
        case "job":
            return job
        case "child of a job":
            return children_of(job)[0][0]
        case "keeper":
            return keeper
        case "template":
            return template
    return wait_until(lambda: next((pid for pid, _ in children_of(template) if is_waiting(pid, jobs)), None))


def is_waiting(keeper: int, jobs: list[int]) -> bool:
    """Whether a keeper has none of the running jobs."""
    return keeper not in {parent_of(job) for job in jobs}


def parent_of(pid: int) -> int:
    """Return the parent of a process that is alive."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nPPid:")[2].split()[0])


def kill(pid: int, checks: _common.Checks) -> None:
    """Kill a process that is known to be ours, and wait until it is dead."""
    ticks = start_ticks(pid)
    if checks.check(ticks is not None, f"process {pid} was gone before it was killed"):
        assert ticks is not None
        kill_processes([(pid, ticks)], signal.SIGKILL)
        checks.check(wait_all_gone([(pid, ticks)], _WAIT_S), f"process {pid} survived SIGKILL")


def command_round(victim: str, checks: _common.Checks) -> str:
    """Wrap a tree of hungry processes, kill something, check the status and that nothing of it lives."""
    wrapped = subprocess.Popen(
        [*memguard(), "run", "-q", "--memory", "256MiB", "--", *hog()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert wrapped.stdin is not None
    assert wrapped.stdout is not None
    checks.check(wrapped.stdout.readline() == b"ready\n", "the wrapped command did not get ready")
    command, janitor = tell_apart(wrapped.pid)
    members, helper = tree_below(command), (janitor, start_ticks(janitor) or 0)
    for pid in {
        "wrapper": [wrapped.pid],
        "janitor": [janitor],
        "command": [command],
        "both": [janitor, wrapped.pid],
    }[victim]:
        kill_child(pid)
    wrapped.stdin.close()
    status = wrapped.wait()
    expected = {
        "wrapper": -signal.SIGKILL,
        "both": -signal.SIGKILL,
        "command": 128 + signal.SIGKILL,
        "janitor": 0,
    }[victim]
    checks.check(status == expected, f"after killing the {victim} the status was {status}, not {expected}")
    if victim == "both":  # nobody was left to clean up: the next one does
        subprocess.run([*memguard(), "run", "--memory", "64MiB", "--", "true"], check=True)
        forget_entries(command)
    checks.check(wait_all_gone((*members, helper), _WAIT_S), f"the command's tree outlived its {victim}")
    check_no_entries(victim, checks)
    wrapped.stdout.close()
    return victim if victim != "both" else "wrapper and janitor"


def memguard() -> list[str]:
    """Return the words that start memguard with this interpreter."""
    return [sys.executable, "-m", "memguard"]


def hog() -> list[str]:
    """Return a command with three processes in sessions of their own that ends when its stdin does.

    Its first process, a shell, makes what joblib makes, and removes it if it may end by itself.
    """
    wishes = ["--mib", "8", "--children", "2", "--setsid", "--wait-for-stdin"]
    semaphore, folder = (f"{_SHARED}/{each.format('$$')}{_common.run_id()}" for each in _NAMES)
    script = f': > {semaphore}; mkdir {folder}; "$@"; status=$?; rm -r {semaphore} {folder}; exit $status'
    return ["/bin/sh", "-c", script, "sh", sys.executable, "-m", "memguard.testing.hog", *wishes]


def forget_entries(pid: int) -> None:
    """Remove what a command had named: with all its guards killed nobody can prove whose it was."""
    semaphore, folder = (_SHARED / f"{each.format(pid)}{_common.run_id()}" for each in _NAMES)
    semaphore.unlink()
    folder.rmdir()


def tell_apart(wrapper: int) -> tuple[int, int]:
    """Return the pids of a wrapper's command and of its janitor: the janitor never executes anything."""
    own = Path(f"/proc/{wrapper}/cmdline").read_bytes()
    children = [pid for pid, _ in children_of(wrapper)]
    janitor = next(pid for pid in children if Path(f"/proc/{pid}/cmdline").read_bytes() == own)
    return next(pid for pid in children if pid != janitor), janitor


def tree_below(pid: int) -> tuple[tuple[int, int], ...]:
    """Return a process and its descendants, as pid and start ticks."""
    below = [each for child, _ in children_of(pid) for each in tree_below(child)]
    return ((pid, start_ticks(pid) or 0), *below)


def kill_child(pid: int) -> None:
    """Kill a process whose pid cannot have been reused: it is alive, or its parent has not reaped it."""
    os.kill(pid, signal.SIGKILL)


def wait_until(look: Callable[[], T | None]) -> T:
    """Look until there is something; the kernel gives no event for what is waited for here."""
    deadline_s = time.monotonic() + _WAIT_S
    while (found := look()) is None:
        if time.monotonic() > deadline_s:
            raise TimeoutError("nothing came")
        time.sleep(0.005)
    return found


def main() -> int:
    """Run the chaos."""
    return _common.run_in_pen(chaos, _common.options(__doc__, duration_s=30.0).parse_args())


if __name__ == "__main__":
    sys.exit(main())
