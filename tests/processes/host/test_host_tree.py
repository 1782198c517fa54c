"""Process trees for real: who belongs to one, what it uses privately and what it shares."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memguard.host import TreeSampler, identify, is_alive, kill_processes, portable, probe
from memguard.host.readings import Exactness, TreeReading
from memguard.host.tree import _families
from memguard.units import MIB

if TYPE_CHECKING:
    from conftest import Helper

Helpers = Callable[..., "Helper"]


def pids(reading: TreeReading) -> set[int]:
    return {process.pid for process in reading.processes}


def process_of(reading: TreeReading, pid: int) -> int:
    return next(process.private_bytes for process in reading.processes if process.pid == pid)


@pytest.fixture
def exact() -> None:
    """Skip where exact readings cannot be had."""
    if not probe().smaps_rollup:
        pytest.skip(f"no exact readings: {probe().smaps_rollup.reason}")


@pytest.mark.requirement("R5.1")
def test_descendants_are_followed_wherever_they_go(helper: Helper) -> None:
    """Children, and grandchildren in sessions of their own, are part of the tree with their memory."""
    sampler = TreeSampler(helper.pid)
    assert pids(sampler.sample()) == {helper.pid}
    before = sampler.sample().used_bytes
    helper.do("reader, writer = os.pipe()")
    child = helper.fork(
        "grandchild = os.fork()\n"
        "if grandchild == 0:\n"
        "    os.setsid()\n"
        "    taken = bytearray(24 * MIB)\n"
        "    os.write(writer, str(os.getpid()).encode())\n"
        "    signal.pause()\n"
        "ready()\n"
        "signal.pause()"
    )
    grandchild = int(helper.do("answer = os.read(reader, 20).decode()"))
    reading = sampler.sample()
    assert pids(reading) == {helper.pid, child, grandchild}
    assert reading.processes[0].pid == helper.pid
    assert process_of(reading, grandchild) > 24 * MIB
    assert reading.used_bytes > before + 24 * MIB
    assert set(dict(sampler.processes())) == pids(reading)
    parents = {process.pid: process.parent_pid for process in reading.processes}
    assert (parents[grandchild], parents[child]) == (child, helper.pid)
    for pid in (grandchild, child):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.requirement("R5.1")
def test_an_orphan_stays_in_the_tree(helper: Helper) -> None:
    """A process whose parent ended after a double fork is remembered as long as it lives."""
    sampler = TreeSampler(helper.pid)
    helper.do("reader, writer = os.pipe()")
    middle = helper.fork(
        "orphan = os.fork()\n"
        "if orphan == 0:\n"
        "    os.setsid()\n"
        "    os.write(writer, str(os.getpid()).encode())\n"
        "    signal.pause()\n"
        "ready()\n"
        "signal.pause()"
    )
    orphan = int(helper.do("answer = os.read(reader, 20).decode()"))
    assert pids(sampler.sample()) == {helper.pid, middle, orphan}
    helper.do(f"os.kill({middle}, signal.SIGKILL); os.waitpid({middle}, 0)")
    assert pids(sampler.sample()) == {helper.pid, orphan}
    helper.end()
    assert pids(sampler.sample()) == {orphan}
    handle = os.pidfd_open(orphan)
    os.kill(orphan, signal.SIGKILL)
    signal.pidfd_send_signal(handle, 0)
    os.close(handle)


def test_who_was_missed_can_be_adopted(helpers: Helpers) -> None:
    """A process found by other means is measured with the tree."""
    root, stray = helpers(), helpers()
    sampler = TreeSampler(root.pid)
    sampler.adopt(stray.pid)
    sampler.adopt(2**22 + 1)
    child = stray.fork("ready()\nsignal.pause()")
    assert pids(sampler.sample()) == {root.pid, stray.pid, child}
    stray.do(f"os.kill({child}, signal.SIGKILL); os.waitpid({child}, 0)")


def test_children_of_threads_are_children(helper: Helper) -> None:
    """A program started by a second thread belongs to the tree under its own name."""
    sampler = TreeSampler(helper.pid)
    sampler.sample()
    pid = helper.do(
        "started = []\n"
        "hold = threading.Event()\n"
        "def work():\n"
        "    started.append(subprocess.Popen(['sleep', '60'])); ready.set(); hold.wait()\n"
        "ready = threading.Event()\n"
        "thread = threading.Thread(target=work)\n"
        "thread.start(); ready.wait()\n"
        "answer = started[0].pid"
    )
    names = {process.pid: process.name for process in sampler.sample(exact=True).processes}
    assert names[pid] == "sleep"
    helper.do("started[0].kill(); started[0].wait(); hold.set(); thread.join()")
    assert pids(sampler.sample()) == {helper.pid}


def test_kernels_without_lists_of_children_are_served(helper: Helper) -> None:
    """Reading every process's parent finds the same children as the kernel's own list."""
    child = helper.fork("ready()\nsignal.pause()")
    assert _families()[helper.pid] == [child]
    assert helper.pid in _families()[os.getpid()]
    helper.do(f"os.kill({child}, signal.SIGKILL); os.waitpid({child}, 0)")


def test_zombies_and_the_dead_are_not_measured(helper: Helper) -> None:
    """A child that ended and was not waited for is no part of the tree; an ended tree is empty."""
    sampler = TreeSampler(helper.pid)
    zombie = helper.fork("ready()")
    helper.do(f"os.waitid(os.P_PID, {zombie}, os.WEXITED | os.WNOWAIT)")
    assert pids(sampler.sample()) == {helper.pid}
    assert pids(sampler.sample(exact=True)) == {helper.pid}
    helper.end()
    assert sampler.sample(exact=True, shared=True).processes == ()
    assert sampler.processes() == ()
    assert TreeSampler(helper.pid).sample().used_bytes == 0


@pytest.mark.usefixtures("exact")
def test_a_forked_child_is_dear_only_at_first_sight(helper: Helper) -> None:
    """The cheap figure counts inherited pages in the child again; the exact one counts them once."""
    helper.do("taken = bytearray(64 * MIB)")
    sampler = TreeSampler(helper.pid)
    alone = sampler.sample(exact=True).private_bytes
    # Its own 8 MiB make it differ from its parent: a child that differs in nothing is the next test.
    child = helper.fork("own = bytearray(8 * MIB)\nready()\nsignal.pause()")
    cheap, true = sampler.sample(), sampler.sample(exact=True)
    assert (cheap.exactness, true.exactness) == (Exactness.CHEAP, Exactness.EXACT)
    assert process_of(cheap, child) > 70 * MIB
    assert cheap.private_bytes > 2 * 64 * MIB
    assert alone + 7 * MIB < true.private_bytes < alone + 16 * MIB
    helper.do(f"os.kill({child}, signal.SIGKILL); os.waitpid({child}, 0)")


def test_a_child_in_its_parents_memory_costs_nothing(helper: Helper) -> None:
    """Between vfork and exec a child shows its parent's memory as its own; it is counted once."""
    helper.do("taken = bytearray(64 * MIB)")
    sampler = TreeSampler(helper.pid)
    before = sampler.sample().private_bytes
    child = helper.do(
        "libc = ctypes.CDLL(None)\n"
        "stack = mmap.mmap(-1, MIB)\n"
        "top = ctypes.addressof(ctypes.c_char.from_buffer(stack)) + MIB - 4096\n"
        "pause = ctypes.cast(libc.pause, ctypes.c_void_p)\n"
        "CLONE_VM = 0x100\n"
        "answer = libc.clone(pause, ctypes.c_void_p(top), CLONE_VM | signal.SIGCHLD, None)"
    )
    reading = sampler.sample()
    assert pids(reading) == {helper.pid, child}
    assert reading.private_bytes < before + 8 * MIB
    exact_reading = sampler.sample(exact=True)
    assert exact_reading.private_bytes < before + 8 * MIB
    helper.do(f"os.kill({child}, signal.SIGKILL); os.waitpid({child}, 0)")


@pytest.mark.usefixtures("exact")
def test_what_a_pool_shares_is_the_trees(helper: Helper) -> None:
    """Data that a process shares with the children it forked would be free if the tree ended: it counts."""
    sampler = TreeSampler(helper.pid)
    before = sampler.sample(exact=True).private_bytes
    helper.do("taken = bytearray(b'x') * (60 * MIB)")
    children = [helper.fork("ready()\nsignal.pause()") for _ in range(3)]
    grown = sampler.sample(exact=True).private_bytes - before
    assert 58 * MIB < grown < 72 * MIB
    for child in children:
        helper.do(f"os.kill({child}, signal.SIGKILL); os.waitpid({child}, 0)")


@pytest.mark.usefixtures("exact")
def test_what_was_inherited_is_not_the_trees(helper: Helper) -> None:
    """Pages shared with the process that a tree was forked from do not count, also when the tree forks."""
    helper.do("taken = bytearray(b'x') * (64 * MIB)\nreader, writer = os.pipe()\ngo, start = os.pipe()")
    job = helper.fork(
        "ready()\n"
        "os.read(go, 1)\n"
        "data = bytearray(b'y') * (24 * MIB)\n"
        "if os.fork() == 0: os.write(writer, b'x'); signal.pause()\n"
        "signal.pause()"
    )
    sampler = TreeSampler(job)
    assert sampler.sample(exact=True).private_bytes < 16 * MIB
    helper.do("os.write(start, b'x'); os.read(reader, 1)")
    reading, late = sampler.sample(exact=True), TreeSampler(job).sample(exact=True)
    assert len(reading.processes) == len(late.processes) == 2
    assert 20 * MIB < reading.private_bytes < 40 * MIB
    # Who comes when the tree has forked cannot tell what it inherited, and then rather counts too much.
    assert reading.private_bytes <= late.private_bytes < 24 * MIB + 64 * MIB + 20 * MIB
    assert sampler.sample().private_bytes > 24 * MIB + 64 * MIB
    for pid in pids(reading):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.usefixtures("exact")
def test_mapped_files_are_not_private(helper: Helper, tmp_path: Path) -> None:
    """A data file that only this process maps is file cache, read or written, not the job's memory."""
    data = tmp_path / "data"
    data.write_bytes(os.urandom(MIB) * 48)
    sampler = TreeSampler(helper.pid)
    before = sampler.sample(exact=True).private_bytes
    helper.do(
        f"file = open({str(data)!r}, 'rb+'); mapped = mmap.mmap(file.fileno(), 0)\n"
        "total = sum(mapped[::4096]); mapped[:16 * MIB] = bytes(16 * MIB)"
    )
    reading = sampler.sample(exact=True, shared=True)
    assert reading.processes[0].rss_bytes > 48 * MIB
    assert reading.private_bytes - before < 8 * MIB
    assert all(str(tmp_path) not in file.path for file in reading.shared_files)


def test_an_unreadable_process_is_measured_cheaply(helper: Helper, nobody: Helper) -> None:
    """Where page tables may not be looked at, the cheap figure stands in and the reading says so."""
    answer = nobody.do(
        "from memguard.host import TreeSampler\n"
        f"reading = TreeSampler({helper.pid}).sample(exact=True, shared=True)\n"
        "answer = [str(reading.exactness), reading.private_bytes, reading.processes[0].pss_bytes]"
    )
    assert answer[0] == "cheap"
    assert answer[1] > MIB
    assert answer[2] is None


def test_psutil_measures_a_tree_elsewhere(helper: Helper) -> None:
    """The way for systems without /proc finds the same processes with plausible figures."""
    child = helper.fork("own = bytearray(16 * MIB)\nready()\nsignal.pause()")
    for precise in (False, True):
        reading = portable.sample_tree(helper.pid, precise)
        assert pids(reading) == {helper.pid, child}
        assert process_of(reading, child) > 16 * MIB
        assert reading.exactness is (Exactness.EXACT if precise else Exactness.CHEAP)
    helper.do(f"os.kill({child}, signal.SIGKILL)")
    helper.do(f"os.waitpid({child}, 0)")
    assert portable.sample_tree(2**22 + 1, exact=True).processes == ()


def test_measuring_leaves_no_descriptor(helper: Helper) -> None:
    """A sampler holds nothing open between samples."""
    sampler = TreeSampler(helper.pid)
    before = len(os.listdir("/proc/self/fd"))
    for precise in (False, True):
        sampler.sample(exact=precise, shared=True)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_program_that_was_just_started_is_seen(helper: Helper) -> None:
    """The very next sample after a start shows the new process, sample after sample."""
    sampler = TreeSampler(helper.pid)
    for _ in range(20):
        sampler.sample()
        pid = helper.do(
            f"child = subprocess.Popen([{sys.executable!r}, '-c', 'input()'], stdin=-1); answer = child.pid"
        )
        assert pids(sampler.sample()) == {helper.pid, pid}
        helper.do("child.kill(); child.wait(); child.stdin.close()")
        assert pids(sampler.sample()) == {helper.pid}


def test_systems_without_proc_are_served(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    """With psutil alone, processes are identified, measured and killed, and only the ones that are meant."""
    monkeypatch.setattr(portable, "HAS_PROC", False)
    me = identify(helper.pid)
    assert is_alive(me)
    sampler = TreeSampler(helper.pid)
    assert sampler.processes() == ((helper.pid, me.start_ticks),)
    assert sampler.sample(exact=True).private_bytes > MIB
    assert kill_processes([(me.pid, me.start_ticks - 1)]) == ()
    assert kill_processes(sampler.processes()) == (helper.pid,)
    assert helper.process.wait() == -signal.SIGKILL
    assert not is_alive(me)
