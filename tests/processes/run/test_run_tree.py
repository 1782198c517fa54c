"""The whole tree of a command is bounded and counted, and nothing of it is left: whoever forked, hid or lingered."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BARE = (sys.executable, "-I", "-S", "-c")
MIB = 1024**2
# Leaves a grandchild in a session of its own, with another parent, that takes memory and waits; tells its pid.
DAEMON = """
import os, signal, sys, time
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else signal.SIG_DFL)
        taken = bytearray(int(sys.argv[1]) << 20)
        os.write(writer, b"%d\\n" % os.getpid())
        os.close(writer)
        while True:
            time.sleep(60)
    os._exit(0)
os.close(writer)
os.write(1, os.read(reader, 100))
os.read(reader, 1) if "stay" in sys.argv else None
"""
FENCES = ("auto", "rlimit", "none")


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("fence", FENCES)
def test_what_a_command_leaves_running_is_ended(kit: Any, fence: str) -> None:
    """A daemon (double fork, own session) that obeys SIGTERM is gone when memguard ends, long before the grace is over."""
    started_s = time.monotonic()
    done, report = kit.report(
        "--", *BARE, DAEMON, "10", environment={"MEMGUARD_FENCE": fence, "MEMGUARD_GRACE": "40s"}
    )
    assert time.monotonic() - started_s < 30
    assert not kit.is_running(int(done.stdout))
    assert (done.returncode, done.stderr) == (0, b"")
    assert (report["cleanup"]["verified"], report["cleanup"]["leftovers"]) == (True, [])


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("fence", FENCES)
def test_what_ignores_sigterm_is_killed_after_the_grace(kit: Any, fence: str) -> None:
    """A daemon deaf to SIGTERM is killed when the grace is over, and that is said on stderr and in the report."""
    environment = {"MEMGUARD_FENCE": fence, "MEMGUARD_GRACE": "200ms"}
    done, report = kit.report("--", *BARE, DAEMON, "10", "deaf", environment=environment)
    pid = int(done.stdout)
    assert not kit.is_running(pid)
    told = f"process {pid} outlived the job and was killed"
    assert (done.returncode, done.stderr.decode()) == (0, f"memguard: {told}\n")
    assert (report["cleanup"]["verified"], report["cleanup"]["leftovers"]) == (True, [told])
    assert told in [warning["text"] for warning in report["warnings"]]


@pytest.mark.parametrize("fence", FENCES)
def test_what_is_started_while_it_ends_is_ended_too(kit: Any, fence: str) -> None:
    """A straggler that starts another process when it is asked to end takes that one along; the fence is removed."""
    script = """
import os, signal, sys, time
def again(number, frame):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid()
        time.sleep(60)
    os._exit(0)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, again)
    os.write(1, b"left\\n")
    while True: time.sleep(60)
sys.stdin.readline()
"""
    process = kit.guard("--", *BARE, script, environment={"MEMGUARD_FENCE": fence}, stdin=subprocess.PIPE)
    assert kit.line(process.stdout) == "left"
    done = kit.finish(process, b"\n")
    assert done.returncode == 0
    assert done.stderr.count(b"outlived the job and was killed") == 1
    assert kit.marked() == []


@pytest.mark.requirement("R2.1", "R5.1")
@pytest.mark.parametrize("fence", FENCES)
def test_a_hidden_grandchild_is_counted_and_bounded(kit: Any, fence: str) -> None:
    """The budget counts a daemon's memory: 60 MiB of it are seen, and with 300 MiB it is killed with the command."""
    environment = {"MEMGUARD_FENCE": fence}
    _, report = kit.report("--memory", "200MiB", "--", *BARE, DAEMON, "60", environment=environment)
    if fence == "auto":  # a watcher need not look before it is over
        assert 60 * MIB < report["peak_bytes"] < 110 * MIB
    done, report = kit.report(
        "-q", "--memory", "150MiB", "--", *BARE, DAEMON, "300", "stay", environment=environment
    )
    assert done.returncode == 137
    assert report["outcome"] == "budget_kill"
    assert report["peak_bytes"] >= 150 * MIB * (0.99 if fence == "auto" else 1)


@pytest.mark.requirement("R2.1")
@pytest.mark.parametrize("fence", FENCES)
def test_many_small_ones_count_together(kit: Any, hog: Any, fence: str) -> None:
    """Five processes of 40 MiB each do not fit into 150 MiB, though each of them would."""
    done, report = kit.report(
        "-q", "--memory", "150MiB", "--", *hog, "--mib", "40", "--children", "4", "--hold-seconds", "30",
        "--rate-mib-s", "100",  # slowly enough to be listed before the kernel has killed them
        environment={"MEMGUARD_FENCE": fence},
    )  # fmt: skip
    assert done.returncode == 137
    assert report["outcome"] == "budget_kill"
    assert len(report["processes"]) > 1


@pytest.mark.requirement("R1.4")
def test_a_storm_of_short_processes_leaves_nothing(kit: Any) -> None:
    """300 programs started and ended as fast as a shell can, orphans among them, disturb nothing and are all reaped."""
    script = """
n=0
while [ $n -lt 150 ]; do /bin/true; (/bin/true &); n=$((n+1)); done
echo $$; exit 11
"""
    done, report = kit.report("--memory", "200MiB", "--", "/bin/sh", "-c", script)
    assert (done.returncode, done.stderr) == (11, b"")
    assert report["cleanup"] == {**report["cleanup"], "verified": True, "leftovers": []}
    assert report["guard_degraded"] == []


def test_orphans_do_not_stay_zombies(kit: Any) -> None:
    """While a command runs memguard reaps the orphans that it adopts."""
    script = '(sh -c "exit 0" &); (sh -c "exit 0" &); echo started; read line'
    process = kit.guard("--", "/bin/sh", "-c", script, stdin=subprocess.PIPE)
    assert kit.line(process.stdout) == "started"

    def has_two_children() -> bool:  # the command and the janitor
        return len(kit.children_of(process.pid)) == 2

    kit.wait_until(has_two_children, "the orphans are reaped")
    assert kit.finish(process, b"\n").returncode == 0


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("fence", FENCES)
def test_a_killed_command_leaves_no_shared_memory(kit: Any, fence: str) -> None:
    """A Python program killed for its budget leaves none of the named shared memory that it made."""
    name = f"run-test-{kit.mark}"
    program = (
        "from multiprocessing.shared_memory import SharedMemory\n"
        "import sys\n"
        f"kept = SharedMemory({name!r}, create=True, size=64 << 20)\n"
        "kept.buf[:] = bytes(64 << 20)\n"
        "print('made', flush=True)\n"
        "sys.stdin.readline()\n"
        "taken = bytearray(400 << 20)\n"
        "sys.stdin.readline()\n"
    )
    file = Path("/dev/shm") / name
    process = kit.guard(
        "-q", "--memory", "200MiB", "--", sys.executable, "-c", program,
        environment={"MEMGUARD_FENCE": fence}, stdin=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert kit.line(process.stdout) == "made"
        assert file.exists()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        assert process.wait(60) == 137
        assert not file.exists()
    finally:
        file.unlink(missing_ok=True)


def test_shared_memory_of_a_command_that_ended_well_is_its_own(kit: Any) -> None:
    """A file in /dev/shm that a command leaves on purpose is left alone when it was not killed."""
    file = Path("/dev/shm") / f"run-test-{kit.mark}"
    try:
        assert kit.run("--", "/bin/sh", "-c", f"echo kept > {file}").returncode == 0
        assert file.read_text() == "kept\n"
    finally:
        file.unlink(missing_ok=True)


@pytest.mark.parametrize("fence", FENCES)
def test_a_timeout_ends_the_tree(kit: Any, fence: str) -> None:
    """When its time is up a command gets SIGTERM and keeps its say; the report and stderr tell that it was the time."""
    script = 'trap "exit 9" TERM; sleep 50 & wait'
    done, report = kit.report(
        "--timeout", "300ms", "--", "/bin/sh", "-c", script, environment={"MEMGUARD_FENCE": fence}
    )
    assert done.returncode == 9
    assert report["outcome"] == "timeout"
    assert b"its time of 300 ms was up" in done.stderr


def test_a_timeout_kills_who_does_not_listen(kit: Any) -> None:
    """A command deaf to SIGTERM is killed when the grace after its time is over: 137 and `timeout`."""
    environment = {"MEMGUARD_GRACE": "200ms", "MEMGUARD_TIMEOUT": "200ms"}
    done, report = kit.report(
        "-q", "--", "/bin/sh", "-c", 'trap "" TERM; sleep 50; sleep 50', environment=environment
    )
    assert (done.returncode, done.stderr) == (137, b"")
    assert (report["outcome"], report["signal"]) == ("timeout", "SIGKILL")
    assert report["duration_s"] >= 0.4


def test_a_stopped_command_is_ended_by_its_timeout(kit: Any) -> None:
    """A command that somebody stopped with SIGSTOP ends when its time is up."""
    script = "kill -STOP $$"
    done, report = kit.report(
        "-q", "--timeout", "200ms", "--", "/bin/sh", "-c", script, environment={"MEMGUARD_GRACE": "200ms"}
    )
    assert done.returncode == 128 + signal.SIGKILL
    assert report["outcome"] == "timeout"
