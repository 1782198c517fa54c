"""Commands inside a command that did not say how much it needs: its reservation grows with theirs."""

from __future__ import annotations

import sys
from typing import Any

from memguard.units import MIB
from tests.processes.run.test_run_ledger import Machine

# Starts two guarded commands that end only when both have begun: each tells the other through a pipe.
PAIR = """
import os, subprocess, sys
pipes = [os.pipe(), os.pipe()]
program = '''
import os, sys
held = bytearray(250 << 20)
os.write(int(sys.argv[1]), b"x")
os.read(int(sys.argv[2]), 1)
'''
def start(number, says, hears):
    words = ["memguard", "run", "--memory", "300MiB", "--name", f"inner{number}", "--"]
    command = [sys.executable, "-m", *words, sys.executable, "-c", program, str(says), str(hears)]
    return subprocess.Popen(command, pass_fds=(says, hears))
both = [start(0, pipes[0][1], pipes[1][0]), start(1, pipes[1][1], pipes[0][0])]
sys.exit(max(process.wait() for process in both))
"""


def test_two_inside_that_need_each_other_finish(kit: Any) -> None:
    """An outer command that names no memory has a quarter reserved; two of 300 MiB inside it run side by side."""
    machine = Machine(kit)
    done = machine.run("--name", "outer", "--", sys.executable, "-c", PAIR)
    assert done.returncode == 0, done.stderr
    assert machine.leases() == {}


def test_what_those_inside_give_back_is_given_back(kit: Any) -> None:
    """While a command inside holds 600 MiB its outer one has as much reserved; afterwards its own part again."""
    machine = Machine(kit)
    words = [
        "memguard",
        "run",
        "--memory",
        "600MiB",
        "--name",
        "inner",
        "--",
        "sh",
        "-c",
        "echo ready; read x",
    ]
    inner = f"""
import subprocess, sys
subprocess.run([sys.executable, "-m", *{words!r}], stdin=0)
print("over", flush=True)
sys.stdin.read()
"""
    outer = kit.guard(
        "--name", "outer", "--", sys.executable, "-u", "-c", inner, environment=machine.environment, stdin=-1
    )
    assert kit.line(outer.stdout) == "ready"
    assert machine.leases()["outer"].reserved_bytes == 600 * MIB
    outer.stdin.write(b"\n")
    outer.stdin.flush()
    assert kit.line(outer.stdout) == "over"
    assert machine.leases()["outer"].reserved_bytes < 300 * MIB
    outer.stdin.close()
    outer.stdin = None
    assert kit.finish(outer).returncode == 0


def test_inside_who_cannot_have_all_starts_with_what_there_is(kit: Any) -> None:
    """Where others hold the rest, the first one inside gets what is there at once, and is not made to wait for them."""
    machine = Machine(kit)
    other = machine.start("--memory", "500MiB", "--name", "other")
    assert machine.is_ready(other)
    words = ["memguard", "run", "--memory", "600MiB", "--name", "inner", "--", "true"]
    program = (
        f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-m', *{words!r}]).returncode)"
    )
    done = machine.run("--name", "outer", "--", sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    assert b"inner starts with" in done.stderr
    other.stdin.close()
    other.stdin = None
    assert kit.finish(other).returncode == 0
