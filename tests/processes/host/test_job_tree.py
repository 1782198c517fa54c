"""A whole tree stopped, continued and killed by somebody who did not start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memguard.host import children_of, open_fence, start_ticks
from memguard.host.identity import read_stat
from memguard.host.job_tree import JobTree
from memguard.units import MIB
from tests.support.guarded import eventually

# Forks without end, and has never more than a few dozen children at once.
FORKING = """
import os, signal, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
children = []
for _ in range(100_000):
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    children.append(pid)
    if len(children) > 40:
        os.kill(children.pop(0), signal.SIGKILL)
    time.sleep(0.005)
"""
FAMILY = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("ready", flush=True)
signal.pause()
"""


@contextmanager
def program(source: str, **more: object) -> Iterator[subprocess.Popen[str]]:
    """A program that said it is ready, and its whole group killed at the end."""
    words = [sys.executable, "-c", source]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, start_new_session=True, **more
    ) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def tree_of(process: subprocess.Popen[str], *guards: int) -> JobTree:
    ticks = start_ticks(process.pid)
    assert ticks is not None
    return JobTree(process.pid, ticks, guards)


def states(pids: frozenset[int]) -> set[str]:
    found = set()
    for pid in pids:
        try:
            found.add(read_stat(pid).state)
        except (OSError, ValueError):
            continue
    return found - {"Z", "X"}


@pytest.mark.requirement("R6.2", "T5.2")
def test_a_tree_that_forks_while_it_is_stopped_is_stopped_whole() -> None:
    """Nobody of it runs afterwards, also who was forked in between; and all of it goes on."""
    with program(FORKING) as process:
        tree = tree_of(process)
        tree.stop()
        family = tree.pids()
        assert process.pid in family
        assert eventually(lambda: states(tree.pids()) == {"T"})
        assert tree.pids() == family
        tree.go_on()
        assert eventually(lambda: tree.pids() - family)
        tree.close()


def test_whoever_was_stopped_before_stays_stopped() -> None:
    """What somebody stopped at his terminal is not woken by pressure that comes and goes."""
    with program(FAMILY) as process:
        ((child, _),) = children_of(process.pid)
        os.kill(child, signal.SIGSTOP)
        assert eventually(lambda: read_stat(child).state == "T")
        tree = tree_of(process)
        tree.stop()
        tree.go_on()
        assert eventually(lambda: read_stat(process.pid).state == "S")
        assert read_stat(child).state == "T"


def test_another_one_can_continue_what_a_dead_one_stopped() -> None:
    """Who takes over knows nothing of who was stopped when, and lets all of the tree go on."""
    with program(FAMILY) as process:
        tree_of(process).stop()
        after = tree_of(process)
        assert eventually(lambda: states(after.pids()) == {"T"})
        after.stop()
        after.go_on()
        assert eventually(lambda: states(after.pids()) == {"S"})


def test_a_tree_is_killed_whole_and_guards_are_spared() -> None:
    """Everybody of it dies, but for whoever guards it, be he among them."""
    with program(FAMILY) as process:
        ((child, _),) = children_of(process.pid)
        tree_of(process, process.pid).kill()
        assert eventually(lambda: read_stat(child).is_dead)
        assert process.poll() is None
        tree = tree_of(process)
        assert tree.is_alive
        tree.kill()
        assert eventually(lambda: process.poll() == -signal.SIGKILL)
        assert not tree.is_alive
        assert tree.pids() == frozenset()


def test_a_pid_that_is_another_ones_by_now_is_left_alone() -> None:
    """A tree whose first process is gone has nobody, whoever has its number."""
    with program(FAMILY) as process:
        ticks = start_ticks(process.pid)
        assert ticks is not None
        tree = JobTree(process.pid, ticks + 1)
        assert not tree.is_alive
        assert tree.pids() == frozenset()
        tree.kill()
        assert process.poll() is None


def test_a_fence_tells_what_it_holds_and_who_is_inside() -> None:
    """Where a fence is around the tree alone, its charge is the use, and who escaped the tree is still inside."""
    fence = open_fence("tree", 256 * MIB)
    if fence is None:
        pytest.skip("no memory cgroup can be made here")
    orphan = "import os, signal; os.fork() and os._exit(0); print('ready', flush=True); x = bytearray(50 << 20); signal.pause()"
    lines = f"import signal, subprocess, sys; subprocess.Popen([sys.executable, '-c', {orphan!r}]); signal.pause()"
    with fence, program(lines, preexec_fn=fence.enter) as process:
        tree = tree_of(process)
        assert eventually(lambda: 50 * MIB < (tree.fence_bytes() or 0) < 100 * MIB)
        assert set(fence.pids()) <= tree.pids()
        assert len(fence.pids()) == 2
        tree.stop()
        assert eventually(lambda: states(frozenset(fence.pids())) == {"T"})
        around = tree_of(process, fence.pids()[-1])
        assert around.fence_bytes() is None
        tree.close()
        around.close()
