"""Signals reach a wrapped command as they would without memguard: each one, and each one once."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

BARE = (sys.executable, "-I", "-S", "-c")
# Writes the name of each signal it gets; ends with 7 at SIGURG. The wakeup descriptor misses none.
COUNTER = """
import os, signal, sys
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
for name in sys.argv[1].split(","):
    signal.signal(getattr(signal, name), lambda number, frame: None)
signal.signal(signal.SIGURG, lambda number, frame: None)
if sys.argv[2:]:
    getattr(os, sys.argv[2])()
os.write(1, b"ready %d\\n" % os.getpid())
while True:
    number = os.read(reader, 1)[0]
    if number == signal.SIGURG:
        os._exit(7)
    os.write(1, (signal.Signals(number).name + "\\n").encode())
"""
PASSED_ON = (
    "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "SIGABRT", "SIGXCPU", "SIGPROF",
    "SIGPWR", "SIGIO", "SIGRTMIN", "SIGRTMAX", "SIGCONT",
)  # fmt: skip
# The kernel forgets a pending SIGCONT when SIGTSTP comes, and the other way round: one of them a run.
STOPPING = ("SIGTSTP", "SIGTTIN", "SIGTTOU")


def start_counter(kit: Any, *words: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start the counter as the wrapped command, in a process group of memguard's own."""
    process: subprocess.Popen[bytes] = kit.guard("--", *BARE, COUNTER, *words, process_group=0, **options)
    assert kit.line(process.stdout).startswith("ready ")
    return process


def deliver(kit: Any, process: subprocess.Popen[bytes], send: Callable[[int], None], name: str) -> None:
    """Send a signal and wait until memguard took it and the command told of it."""
    number = getattr(signal, name)
    send(number)
    assert kit.line(process.stdout) == name
    kit.wait_until(lambda: not kit.is_pending(process.pid, number), f"memguard has taken {name}")


def end_counter(kit: Any, process: subprocess.Popen[bytes]) -> bytes:
    """End the counter; what it still tells was delivered twice. memguard passes on one signal after the other."""
    process.send_signal(signal.SIGURG)
    done = kit.finish(process)
    assert (done.returncode, done.stderr) == (7, b"")
    return bytes(done.stdout)


@pytest.mark.parametrize("whole_group", [False, True], ids=["to memguard", "to its group"])
@pytest.mark.parametrize("names", [PASSED_ON, STOPPING], ids=["ending", "stopping"])
def test_each_signal_arrives_once(kit: Any, names: tuple[str, ...], whole_group: bool) -> None:
    """Each of nineteen signals, sent to memguard alone or with `os.killpg`, reaches the command, and does so once."""
    process = start_counter(kit, ",".join(names))
    for name in names:
        deliver(
            kit, process, lambda number: (os.killpg if whole_group else os.kill)(process.pid, number), name
        )
    assert end_counter(kit, process) == b""


def test_the_ways_can_be_mixed(kit: Any) -> None:
    """A signal to memguard alone is passed on also when the same one went to the whole group before, and after."""
    process = start_counter(kit, "SIGINT,SIGTERM")
    for way in (os.killpg, os.kill, os.killpg, os.kill, os.kill, os.killpg):
        deliver(kit, process, lambda number, way=way: way(process.pid, number), "SIGTERM")
    assert end_counter(kit, process) == b""


@pytest.mark.parametrize("leave", ["setsid", "setpgrp"])
def test_a_command_that_left_the_group_still_gets_them(kit: Any, leave: str) -> None:
    """A signal to memguard's group is passed on to a command that made a group or session of its own."""
    process = start_counter(kit, "SIGTERM,SIGINT", leave)
    deliver(kit, process, lambda number: os.killpg(process.pid, number), "SIGTERM")
    deliver(kit, process, lambda number: os.kill(process.pid, number), "SIGINT")
    assert end_counter(kit, process) == b""


def test_a_timer_set_before_reaches_the_command(kit: Any) -> None:
    """`alarm` then `exec`, the oldest way to limit a program's time, ends the command with 142."""
    parent = "import os, signal, sys; signal.setitimer(signal.ITIMER_REAL, 2.5); os.execv(sys.argv[1], sys.argv[1:])"
    memguard = os.path.join(os.path.dirname(sys.executable), "memguard")
    done = kit.finish(kit.start(*BARE, parent, memguard, "run", "--", "sleep", "50"))
    assert done.returncode == 128 + signal.SIGALRM


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1"])
def test_a_command_that_dies_of_it_gives_its_status(kit: Any, name: str) -> None:
    """A signal to memguard that kills the command makes memguard end with 128 + n, and say nothing."""
    number = getattr(signal, name)
    report = kit.folder / "r.json"
    script = "ulimit -c 0; echo ready; exec sleep 50"
    process = kit.guard("--report", str(report), "--", "/bin/sh", "-c", script)
    assert kit.line(process.stdout) == "ready"
    process.send_signal(number)
    done = kit.finish(process)
    assert (done.returncode, done.stderr) == (128 + number, b"")
    told = '"interrupted"' if name != "SIGUSR1" else '"signal"'
    assert f'"outcome": {told}' in report.read_text()


def test_a_command_that_handles_it_decides(kit: Any) -> None:
    """A command that catches SIGTERM and ends with a status of its own keeps that status."""
    script = 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'
    process = kit.guard("--", "/bin/sh", "-c", script)
    assert kit.line(process.stdout) == "ready"
    process.terminate()
    assert kit.finish(process).returncode == 9


def test_a_command_that_ignores_it_goes_on(kit: Any) -> None:
    """A signal that the command ignores ends neither it nor memguard."""
    script = 'trap "" TERM INT; echo ready; read line; exit 4'
    process = kit.guard("--", "/bin/sh", "-c", script, stdin=subprocess.PIPE)
    assert kit.line(process.stdout) == "ready"
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        kit.wait_until(lambda each=number: not kit.is_pending(process.pid, each), "memguard has taken it")
    assert kit.finish(process, b"go\n").returncode == 4


def test_a_signal_during_the_cleanup_changes_nothing(kit: Any) -> None:
    """Who sends SIGTERM and SIGINT while memguard waits for what the command left gets the command's status and report."""
    report = kit.folder / "r.json"
    left = (
        "import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); os.write(1, b'left\\n')\n"
        "signal.sigwait([15]); os.write(1, b'asked\\n'); signal.pause()"
    )
    script = ("/bin/sh", "-c", '"$@" & read line; exit 6', "sh", *BARE, left)
    process = kit.guard(
        "--report", str(report), "--", *script, environment={"MEMGUARD_GRACE": "1s"}, stdin=subprocess.PIPE
    )
    assert kit.line(process.stdout) == "left"
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert kit.line(process.stdout) == "asked"  # memguard has reaped the command and cleans up
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert kit.finish(process).returncode == 6
    assert '"exit_status": 6' in report.read_text()


def test_a_stop_signal_stops_both_and_cont_wakes_both(kit: Any) -> None:
    """SIGTSTP to memguard stops the command, then memguard; SIGCONT to memguard wakes both."""
    # Its group must not be an orphaned one, for there the kernel ignores terminal stops: a shell stays its parent.
    script = 'set -m; "$@" & echo $!; read line; wait $!; echo $?'
    memguard = os.path.join(os.path.dirname(sys.executable), "memguard")
    command = ("/bin/sh", "-c", "echo $$; exec sleep 50")
    shell = kit.start(
        "/bin/bash", "-c", script, "bash", memguard, "run", "--", *command, stdin=subprocess.PIPE
    )
    guard, command_pid = int(kit.line(shell.stdout)), int(kit.line(shell.stdout))
    for _ in range(3):
        os.kill(guard, signal.SIGTSTP)
        kit.wait_until(lambda: kit.status_field(command_pid, "State")[:1] == "T", "the command is stopped")
        kit.wait_until(lambda: kit.status_field(guard, "State")[:1] == "T", "memguard is stopped")
        os.kill(guard, signal.SIGCONT)
        kit.wait_until(lambda: kit.status_field(command_pid, "State")[:1] == "S", "the command goes on")
        kit.wait_until(lambda: kit.status_field(guard, "State")[:1] == "S", "memguard goes on")
    os.kill(guard, signal.SIGTERM)
    assert kit.finish(shell, b"\n").stdout == b"143\n"


def test_stopping_memguard_makes_no_signal_up(kit: Any) -> None:
    """SIGSTOP and SIGCONT to memguard, as at every control-Z, bring the command SIGCONT and nothing else.

    Python's own waiting for signals returns a made-up one then: the last that came, or what lies in memory.
    """
    every = "SIGHUP,SIGINT,SIGQUIT,SIGUSR1,SIGUSR2,SIGTERM,SIGALRM,SIGCONT,SIGTSTP,SIGTTIN,SIGTTOU,SIGWINCH"
    process = start_counter(kit, every, environment={"MEMGUARD_SAMPLE_INTERVAL_MAX": "20ms"})
    for _ in range(6):
        deliver(kit, process, lambda number: os.kill(process.pid, number), "SIGUSR1")
        process.send_signal(signal.SIGSTOP)
        kit.wait_until(lambda: kit.status_field(process.pid, "State")[:1] == "T", "memguard is stopped")
        select.select([], [], [], 0.05)  # its look at the command falls due
        deliver(kit, process, lambda number: os.kill(process.pid, number), "SIGCONT")
    assert end_counter(kit, process) == b""


def test_a_stop_of_the_command_alone_leaves_memguard_awake(kit: Any) -> None:
    """SIGSTOP to the command by somebody else does not stop memguard, which goes on to guard and ends with it."""
    process = kit.guard("--", "/bin/sh", "-c", "echo $$; exec sleep 50")
    command_pid = int(kit.line(process.stdout))
    os.kill(command_pid, signal.SIGSTOP)
    kit.wait_until(lambda: kit.status_field(command_pid, "State")[:1] == "T", "the command is stopped")
    process.send_signal(signal.SIGTERM)  # taken by memguard, pending on the command
    kit.wait_until(lambda: not kit.is_pending(process.pid, signal.SIGTERM), "memguard has taken it")
    assert kit.status_field(process.pid, "State")[:1] in ("S", "R")
    os.kill(command_pid, signal.SIGCONT)
    assert kit.finish(process).returncode == 143
