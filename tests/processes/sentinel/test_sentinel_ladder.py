"""A machine of 256 MiB that fills up for real: who is stopped, who goes on, and what whoever comes later finds."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from memguard.guard.pressure import Pressure
from memguard.host import is_alive, kill_processes
from memguard.host.identity import read_stat
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.records import Room
from memguard.units import MIB
from tests.support.guarded import eventually

if TYPE_CHECKING:
    from tests.processes.sentinel.conftest import Job, Machine

# Sleeps in C and holds the interpreter's lock, while other threads of it go on taking memory in C.
STUCK = """
import ctypes, sys, threading
libc = ctypes.PyDLL(None)
print("ready", flush=True)
mib = int(sys.stdin.readline().split()[0])
libc.malloc.restype = ctypes.c_void_p
kept = libc.malloc(ctypes.c_size_t(mib << 20))
half = ctypes.c_size_t(mib << 19)
libc.memset(ctypes.c_void_p(kept), 1, half)
for mib in range(mib // 2, mib):
    libc.usleep(20_000)
    libc.memset(ctypes.c_void_p(kept + (mib << 20)), 1, ctypes.c_size_t(1 << 20))
libc.sleep(600)
"""
FORKING = """
import os, signal, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
kept = []
print("ready", flush=True)
sys.stdin.readline()
for turn in range(10**6):
    kept.append(bytearray(1 << 20))
    if os.fork() == 0:
        time.sleep(0.2)
        os._exit(0)
    time.sleep(0.005)
"""


def fill_until_held(machine: Machine, **more: object) -> tuple[Job, Job]:
    """Let one that keeps to its reservation and one that does not fill the machine until that one is held."""
    honest = machine.job("honest", 100)
    greedy = machine.job("greedy", 30, **more)
    machine.watched()
    honest.take(80)
    honest.wait("took")
    greedy.take(400, 0.003)
    assert eventually(lambda: machine.actions("greedy", "frozen"))
    assert eventually(greedy.is_stopped)
    return honest, greedy


def no_kernel_kill(machine: Machine) -> bool:
    return machine.fence is not None and machine.fence.read().oom_kills == 0


@pytest.mark.requirement("R6.2", "R6.3", "R2.4", "T5.2")
def test_who_is_over_is_stopped_and_goes_on_when_the_other_is_done(small: Machine) -> None:
    """One that outgrows its reservation waits while the one that keeps to it works; then it goes on where it was."""
    honest, greedy = fill_until_held(small)
    assert honest.asked in ([], ["SHED"])
    (action, *_) = small.actions("greedy", "frozen")
    assert "beyond the 30 MiB reserved" in action.why
    assert action.used_bytes > action.reserved_bytes == 30 * MIB
    honest.end()
    assert eventually(lambda: small.actions("greedy", "thawed"))
    assert eventually(lambda: not greedy.is_stopped() if small.book.leases() else True)
    assert no_kernel_kill(small)
    assert {"memguard.job_throttled", "memguard.pressure_changed"} <= {line["event"] for line in small.log()}


@pytest.mark.requirement("R6.2", "T5.2", "R6.4")
def test_one_that_is_alone_is_killed_before_the_kernel_kills(small: Machine) -> None:
    """Its guard is told, and what came of it is written down."""
    greedy = small.job("greedy", 30)
    small.watched()
    greedy.take(1000)
    assert eventually(lambda: greedy.holder.poll() is not None)
    assert greedy.asked[-1] == "KILL"
    assert no_kernel_kill(small)
    assert eventually(lambda: small.actions("greedy", "kill")[0].freed_bytes is not None)
    (action,) = small.actions("greedy", "kill")
    assert action.freed_bytes is not None
    assert action.freed_bytes > 100 * MIB


@pytest.mark.requirement("T5.2")
def test_where_the_guard_does_not_kill_the_sentinel_does(small: Machine) -> None:
    """A guard that is stuck itself leaves nobody running that was to be killed."""
    greedy = small.job("greedy", 30, obeys=False)
    small.watched()
    pid = greedy.pid
    greedy.take(1000, 0.0005)
    assert eventually(lambda: greedy.holder.poll() is not None)
    assert not os.path.exists(f"/proc/{pid}")
    assert small.log()[-1]["event"].startswith("memguard.")
    assert "sigkill" in {line.get("rung") for line in small.log()}
    assert no_kernel_kill(small)


@pytest.mark.requirement("R6.2", "T5.2")
def test_a_job_that_is_stuck_in_c_is_stopped_all_the_same(small: Machine) -> None:
    """It needs no cooperation: a process that holds the interpreter's lock for ever is stopped from outside."""
    _, greedy = fill_until_held(small, program=STUCK)
    assert greedy.is_stopped()
    assert no_kernel_kill(small)


@pytest.mark.requirement("R6.2", "T5.2")
def test_a_tree_that_forks_meanwhile_is_stopped_whole(small: Machine) -> None:
    """No child that was forked in between goes on."""
    _, greedy = fill_until_held(small, program=FORKING)
    group = os.getpgid(greedy.pid)

    def states() -> set[str]:
        found = set()
        for name in os.listdir("/proc"):
            try:
                if (
                    name.isdecimal()
                    and read_stat(int(name)).parent_pid == greedy.pid
                    and os.getpgid(int(name)) == group
                ):
                    found.add(read_stat(int(name)).state)
            except (OSError, ValueError):
                continue
        return found - {"Z", "X"}

    # Its root is the first to be stopped.
    assert eventually(lambda: greedy.is_stopped() and states() <= {"T"} and greedy.is_stopped())


@pytest.mark.requirement("T5.2", "T5.3")
def test_what_a_dead_sentinel_stopped_the_next_one_lets_go_on(small: Machine) -> None:
    """Who is stopped stands on the board; whoever comes next knows it, and when to end it."""
    honest, greedy = fill_until_held(small)
    first = small.watched()
    assert kill_processes([(first.pid, first.start_ticks)])
    assert eventually(lambda: not is_alive(first))
    assert greedy.is_stopped()
    assert small.watched() != first
    honest.end()
    assert eventually(lambda: small.actions("greedy", "thawed"))


def test_one_that_is_told_to_end_lets_everybody_go_on(small: Machine) -> None:
    """Nothing that it did is left; whoever has a lease starts the next one."""
    fill_until_held(small)
    first = small.watched()
    os.kill(first.pid, signal.SIGTERM)
    assert eventually(lambda: not is_alive(first))
    released = [each for each in small.log() if each.get("why") == "its sentinel ends"]
    assert [(each["event"], each["name"]) for each in released] == [("memguard.job_released", "greedy")]


@pytest.mark.requirement("R6.3", "T5.3")
def test_a_capacity_that_shrinks_is_seen(small: Machine) -> None:
    """The limit is lowered while jobs run within what was promised: the newest of them waits, the other one works."""
    old, new = small.job("old", 80), small.job("new", 80)
    small.watched()
    for each in (old, new):
        each.take(60)
        each.wait("took")
    assert small.fence is not None
    fence = small.fence

    def squeezed() -> bool:
        # What the guards themselves use comes and goes; it is to stand between the line and the brink.
        fence.resize(int(fence.read().used_bytes / 0.96))
        return bool(small.actions("new", "frozen"))

    assert eventually(squeezed)
    assert not small.actions("old", "frozen")
    fence.resize(256 * MIB)
    assert eventually(lambda: small.actions("new", "thawed"))


@pytest.mark.requirement("R6.1", "T5.1")
def test_nothing_is_promised_while_memory_is_short(small: Machine) -> None:
    """Admission reads what the sentinel saw, and grants again when that is over."""
    honest, greedy = fill_until_held(small)
    room = Room(2**40, 2**40, "the test", domain=small.domain)
    with LedgerBook(small.folder, lambda: room) as book:
        sight = book.sight()
        assert sight is not None
        assert sight.is_fresh()
        assert sight.state >= Pressure.RECOVERING
        assert not book.ask(Wish("late", "late", MIB)).is_granted
        greedy.holder.kill()
        honest.end()
        assert eventually(lambda: book.settle()["late"].is_granted)


# Is in the midst of a transaction much of the time.
WRITING = """
import sys, threading, time
sys.path += sys.argv[1:]
import apsw
kept = []
print("ready", flush=True)
def write(path):
    connection = apsw.Connection(path)
    connection.set_busy_timeout(5000)
    while True:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(200):
            connection.execute("UPDATE lease SET priority = priority")
        connection.execute("COMMIT")
        time.sleep(0.001)
mib, path = sys.stdin.readline().split()
threading.Thread(target=write, args=(path,), daemon=True).start()
for _ in range(400):
    kept.append(bytearray(1 << 20))
    time.sleep(0.003)
"""


@pytest.mark.requirement("T5.2")
def test_one_that_is_stopped_keeps_nobody_from_the_ledger(small: Machine) -> None:
    """A tree that was stopped in the midst of a transaction is let finish it: others of the user go on."""
    honest = small.job("honest", 100)
    greedy = small.job("greedy", 30, program=WRITING, arguments=[str(Path(apsw.__file__).parents[1])])
    small.watched()
    honest.take(80)
    honest.wait("took")
    greedy.tell(f"1 {small.folder / 'ledger.sqlite'}")
    assert eventually(lambda: small.actions("greedy", "frozen"))
    assert eventually(greedy.is_stopped)
    assert small.book.settle()
    honest.end()
