"""However a real process ends, its cleanup handlers run once, and its exit status stays what it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_S = 30.0

HEAD = """
import os, signal, sys, threading
from memguard.cleanup import CleanupManager
manager = CleanupManager()
def say(text):
    os.write(1, (text + "\\n").encode())
parent = manager.register("parent", lambda: say("parent"))
manager.register("child", lambda: say("child"), parent=parent, deadline_s=20)
"""
WAIT = """
say("ready")
threading.Event().wait(20)
"""


def start(root: Path, program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + program],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out.split("\n")[:-1], err


def run(root: Path, program: str) -> tuple[int, list[str], str]:
    return finish(start(root, program))


def interrupt(root: Path, program: str, number: signal.Signals) -> tuple[int, list[str], str]:
    process = start(root, program)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    return finish(process)


@pytest.mark.requirement("T1.3")
@pytest.mark.parametrize(
    ("ending", "status", "told"),
    [
        ("say('end')", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("raise ValueError('boom')", 1, "ValueError: boom"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_interpreter_exit_runs_handlers(project_root: Path, ending: str, status: int, told: str) -> None:
    """At exit, by its end or by an error, the handlers run in order and the status is the program's own."""
    code, lines, err = run(project_root, ending)
    assert lines[-2:] == ["child", "parent"]
    assert lines.count("parent") == 1
    assert code == status
    assert err.strip().endswith(told)


@pytest.mark.requirement("T1.3")
def test_failure_at_exit_is_printed(project_root: Path) -> None:
    """A handler that fails at exit is told on stderr, and changes neither the rest nor the status."""
    code, lines, err = run(project_root, "manager.register('bad', lambda: 1 / 0, parent=parent)")
    assert (code, lines) == (0, ["child", "parent"])
    assert "CleanupFailed" in err
    assert "bad failed: ZeroDivisionError" in err


@pytest.mark.requirement("T1.3")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_runs_handlers_and_kills(project_root: Path, number: signal.Signals) -> None:
    """A terminating signal cleans up first; the process then dies of it, as its parent sees."""
    code, lines, err = interrupt(project_root, "manager.install_signal_handlers()" + WAIT, number)
    assert (code, lines, err) == (-number, ["child", "parent"], "")


def test_without_being_asked_signals_are_left_alone(project_root: Path) -> None:
    """Signal handlers are opt-in: without them SIGTERM has its default effect at once."""
    assert interrupt(project_root, WAIT, signal.SIGTERM) == (-signal.SIGTERM, [], "")


def test_former_handler_may_exit(project_root: Path) -> None:
    """A Python handler from before is called after the cleanup and decides; nothing runs twice at exit."""
    program = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nmanager.install_signal_handlers()"
    assert interrupt(project_root, program + WAIT, signal.SIGTERM) == (7, ["child", "parent"], "")


def test_nohup_is_respected(project_root: Path) -> None:
    """A process that ignores SIGHUP neither dies of it nor cleans up at it."""
    program = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
manager.install_signal_handlers()
os.kill(os.getpid(), signal.SIGHUP)
say("goes on")
"""
    assert run(project_root, program) == (0, ["goes on", "child", "parent"], "")


def test_signal_in_the_middle_of_a_cleanup(project_root: Path) -> None:
    """SIGTERM that comes while handlers run lets them finish, and then kills."""
    program = """
manager.install_signal_handlers()
def slow():
    os.kill(os.getpid(), signal.SIGTERM)
    say("slow is done")
manager.register("slow", slow)
manager.run("test")
say("never said")
"""
    expected = ["slow is done", "child", "parent"]
    assert run(project_root, program) == (-signal.SIGTERM, expected, "")


@pytest.mark.parametrize("first", ["os.kill(os.getpid(), signal.SIGTERM)", "manager.run('test')"])
def test_second_signal_ends_a_cleanup_that_hangs(project_root: Path, first: str) -> None:
    """A cleanup that hangs, begun by a signal or not, makes no process immune: the second SIGTERM kills."""
    begun_by_signal = first.startswith("os.kill")
    program = f"""
manager.install_signal_handlers()
def hangs():
    if not {begun_by_signal}:
        os.kill(os.getpid(), signal.SIGTERM)
    say("ready")
    threading.Event().wait(20)
manager.register("hangs", hangs)
{first}
"""
    assert interrupt(project_root, program, signal.SIGTERM) == (-signal.SIGTERM, [], "")


def test_overrunning_handler_does_not_hold_up_the_exit(project_root: Path) -> None:
    """A handler past its deadline is left behind: the rest runs, the failure is told, the process ends."""
    program = "manager.register('stuck', lambda: threading.Event().wait(20), deadline_s=0.05)"
    code, lines, err = run(project_root, program)
    assert (code, lines) == (0, ["child", "parent"])
    assert "stuck overran: not done, its thread goes on" in err


@pytest.mark.requirement("T1.3")
def test_forked_child_that_exits_or_is_terminated_cleans_up_nothing(project_root: Path) -> None:
    """Exit hooks and signal handlers run in the process that registered only, not in forked children."""
    program = """
manager.install_signal_handlers()
reader, writer = os.pipe()
pids = [os.fork()]
if pids[0] == 0:
    sys.exit(5)
pids.append(os.fork())
if pids[1] == 0:
    os.write(writer, b"x")
    threading.Event().wait(20)
os.read(reader, 1)
os.kill(pids[1], signal.SIGTERM)
say(str([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))
"""
    assert run(project_root, program) == (0, ["[5, -15]", "child", "parent"], "")


def test_own_handlers_of_a_forked_child_run_at_its_exit(project_root: Path) -> None:
    """A child that registers handlers of its own has them run at its own exit."""
    program = """
pid = os.fork()
if pid == 0:
    manager.register("child's own", lambda: say("child's own"))
    sys.exit(0)
os.waitpid(pid, 0)
"""
    assert run(project_root, program) == (0, ["child's own", "child", "parent"], "")


@pytest.mark.requirement("T1.3")
def test_exit_and_threads_at_the_same_time(project_root: Path) -> None:
    """Threads that clean up while the interpreter exits do not make any handler run twice."""
    program = """
begin = threading.Barrier(5)
def clean():
    begin.wait()
    manager.run("thread")
for _ in range(4):
    threading.Thread(target=clean, daemon=True).start()
begin.wait()
"""
    assert run(project_root, program) == (0, ["child", "parent"], "")


@pytest.mark.requirement("T5.2")
def test_emergency_gives_real_memory_back(project_root: Path) -> None:
    """What caches shed and what only the collector can free leaves the process, and is measured."""
    program = """
from memguard.testing import allocate
MIB = 1024 ** 2
class Cache:
    def __init__(self): self.held = allocate(96 * MIB)
    def shed(self, target_bytes):
        freed, self.held = len(self.held), bytearray()
        return freed
cache = Cache()
class Node: pass
node = Node(); node.me = node; node.held = allocate(64 * MIB); del node
manager.register_sheddable("cache", cache)
report = manager.run_emergency()
say(" ".join(report.order))
say(str(report.measured_bytes // MIB))
"""
    code, lines, err = run(project_root, program)
    assert (code, err) == (0, "")
    assert lines[0] == "cache garbage collection"
    # 160 MiB were touched; what the run itself takes is far below the slack.
    assert 155 <= int(lines[1]) <= 165


def test_scheduled_thread_does_not_outlive_the_interpreter(project_root: Path) -> None:
    """A process with a running schedule ends promptly, with its handlers run."""
    program = "manager.register('s', bool, on=('scheduled',)); manager.start_schedule()"
    assert run(project_root, program) == (0, ["child", "parent"], "")
