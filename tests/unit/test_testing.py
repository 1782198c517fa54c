"""The public fakes and hogs: the fakes are exact, the hogs take real memory and leave nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from memguard.host import children_of, identify, is_alive, read_process_memory
from memguard.host.readings import Exactness, ProcessIdentity
from memguard.testing import (
    FakeClock,
    LeakedBytes,
    ScriptedSampler,
    SequenceError,
    Sequencer,
    allocate,
    end_tree,
    fork_tree,
    ignore_sigterm,
    leak,
    tree_reading,
)

MIB = 1024**2
PATIENCE_S = 30.0


# The clock


def test_clock_moves_only_when_told() -> None:
    """Sleeping and advancing move the clock at once, and nothing else does."""
    clock = FakeClock(start_s=5.0)
    assert clock() == clock.monotonic() == 5.0
    clock.sleep(2.5)
    clock.advance(0.5)
    assert clock() == 8.0
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)


def test_waiting_in_one_thread_lets_time_pass() -> None:
    """Waiting for an event that is not set moves the clock by the timeout; for one that is set, not at all."""
    clock, event = FakeClock(), threading.Event()
    assert not clock.wait(event, 3.0)
    assert clock() == 3.0
    event.set()
    assert clock.wait(event, 3.0)
    assert clock() == 3.0


def test_event_blocks_until_time_has_passed() -> None:
    """A thread that waits on the clock's event goes on exactly when the clock has passed its timeout."""
    clock = FakeClock()
    event = clock.event()
    results: list[tuple[bool, float]] = []
    thread = threading.Thread(target=lambda: results.append((event.wait(10.0), clock())))
    thread.start()
    clock.wait_for_waiters()
    clock.advance(9.99)
    clock.wait_for_waiters()
    assert results == []
    clock.advance(0.01)
    thread.join(PATIENCE_S)
    assert results == [(False, 10.0)]


def test_event_wakes_when_set() -> None:
    """Setting an event ends a wait without moving the clock; clearing makes it wait again."""
    clock = FakeClock()
    event = clock.event()
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(event.wait()))
    thread.start()
    clock.wait_for_waiters()
    event.set()
    thread.join(PATIENCE_S)
    assert results == [True]
    assert event.is_set()
    assert event.wait(1.0)
    event.clear()
    assert not event.is_set()
    assert clock() == 0.0


def test_waiting_for_nobody_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that expects a waiting thread is told when there is none."""
    monkeypatch.setattr("memguard.testing.clock._PATIENCE_S", 0.01)
    with pytest.raises(TimeoutError, match="0 threads wait"):
        FakeClock().wait_for_waiters()


# The sampler


def test_sampler_plays_its_script() -> None:
    """Readings come in order, plain bytes become readings, errors are raised, the last one stays."""
    ready_made = tree_reading(30, shared_bytes=12, at_s=7.0)
    sampler = ScriptedSampler([10, OSError("unreadable"), ready_made, 50])
    first = sampler.sample()
    assert (first.used_bytes, first.exactness, first.at_s) == (10, Exactness.CHEAP, 0.0)
    with pytest.raises(OSError, match="unreadable"):
        sampler.sample()
    third = sampler.sample(exact=True, shared=True)
    assert (third.used_bytes, third.private_bytes, third.shared_bytes) == (42, 30, 12)
    assert third.exactness is Exactness.EXACT
    assert [sampler.sample().used_bytes for _ in range(3)] == [50, 50, 50]
    assert sampler.calls[:3] == [(False, False), (False, False), (True, True)]
    assert sampler.processes() == ((third.processes[0].pid, 1),)


def test_sampler_has_processes_only_after_a_reading() -> None:
    """Before the first reading no process is known; a script without readings is refused."""
    assert ScriptedSampler([1]).processes() == ()
    with pytest.raises(ValueError, match="at least"):
        ScriptedSampler([])


# The sequencer


def test_sequencer_orders_threads() -> None:
    """Steps run in the order of their numbers, whichever thread comes first."""
    sequence = Sequencer()
    order: list[int] = []

    def step(number: int) -> None:
        with sequence(number):
            order.append(number)

    threads = [threading.Thread(target=step, args=(number,)) for number in (3, 1, 2, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == [0, 1, 2, 3]


def test_sequencer_breaks_loudly() -> None:
    """After a step that failed, those that wait for it fail too, at once."""
    sequence = Sequencer()
    errors: list[BaseException] = []

    def waits() -> None:
        try:
            with sequence(1):
                errors.append(AssertionError("step 1 ran"))
        except SequenceError as error:
            errors.append(error)

    def breaks() -> None:
        with sequence(0):
            raise KeyError("step 0")

    thread = threading.Thread(target=waits)
    thread.start()
    with pytest.raises(KeyError):
        breaks()
    thread.join(PATIENCE_S)
    assert [str(error) for error in errors] == ["step 1 cannot come: step 0 failed"]


def enter(sequence: Sequencer, position: int) -> None:
    with sequence(position):
        pass


def test_sequencer_refuses_misuse() -> None:
    """A number used twice, a negative one, and a step that never comes are errors."""
    sequence = Sequencer(patience_s=0.01)
    enter(sequence, 0)
    for position in (0, -1):
        with pytest.raises(ValueError, match=f"step {position}"):
            enter(sequence, position)
    with pytest.raises(TimeoutError, match=r"step 2 waited 0\.01 s for step 1"):
        enter(sequence, 2)


# Hogs


def rise(work: Callable[[], object]) -> int:
    """Return by how much this process's private memory is higher while it has what ``work`` returned."""
    before = read_process_memory().private_bytes
    held = work()
    after = read_process_memory().private_bytes
    del held
    return after - before


def test_allocated_memory_is_really_taken() -> None:
    """Every page is touched, so it is resident and private, and gone with the last reference."""
    assert 31 * MIB <= rise(lambda: allocate(32 * MIB)) <= 34 * MIB
    assert rise(lambda: len(allocate(32 * MIB))) < 3 * MIB
    assert len(allocate(5000)) == 5000
    assert len(allocate(0)) == 0


def test_allocation_can_be_slow() -> None:
    """With a rate, memory is touched no faster than that: 4 MiB at 40 MiB/s take a tenth of a second."""
    start, end = os.times().elapsed, 0.0
    allocate(4 * MIB, rate_bytes_per_s=40 * MIB)
    end = os.times().elapsed
    # The clock of os.times has ticks of 10 ms; only the lower bound is promised.
    assert end - start >= 0.08


def test_leaked_memory_stays_taken() -> None:
    """What was leaked is private memory of the process; in a fresh one, whose heap has no room to spare."""
    program = (
        "from memguard.host import read_process_memory\n"
        "from memguard.testing import leak\n"
        "before = read_process_memory().private_bytes\n"
        "leak(16 * 2**20)\n"
        "print(read_process_memory().private_bytes - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 15 * MIB <= int(done.stdout) <= 18 * MIB


def test_leaks_outlive_the_call_and_can_be_ended() -> None:
    """What was leaked adds up until it is released."""
    try:
        leak(16 * MIB)
        assert leak(MIB + 5, chunk_bytes=1000) == LeakedBytes.total() == 17 * MIB + 5
    finally:
        released = LeakedBytes.release()
    assert released == 17 * MIB + 5
    assert LeakedBytes.total() == 0


def test_forked_trees_take_memory_and_can_be_ended() -> None:
    """Children and grandchildren are there, each with its memory, in sessions of their own, until ended."""
    pids = fork_tree(2, grandchildren=1, bytes_each=8 * MIB, new_sessions=True)
    identities = [identify(pid) for pid in pids]
    try:
        assert len(set(pids)) == 4
        assert all(is_alive(each) for each in identities)
        assert all(read_process_memory(pid).private_bytes >= 8 * MIB for pid in pids)
        assert {os.getsid(pid) for pid in pids} == set(pids)
    finally:
        end_tree(pids)
    wait_until_dead(identities)
    with pytest.raises(ValueError, match="not from fork_tree"):
        end_tree(pids)


def wait_until_dead(identities: Sequence[ProcessIdentity]) -> None:
    # Grandchildren are reaped by whoever inherits them, so there is nothing to wait on but the fact.
    for _ in range(int(PATIENCE_S * 100)):
        if not any(is_alive(each) for each in identities):
            return
        threading.Event().wait(0.01)
    raise TimeoutError("descendants are still alive")


def test_forked_trees_that_fail_leave_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    """When a descendant cannot get its memory, the call fails and none of the others stays."""
    before = children_of(os.getpid())
    with pytest.raises(RuntimeError, match="0 of 2 descendants"):
        fork_tree(2, bytes_each=1 << 62)
    assert children_of(os.getpid()) == before
    assert "MemoryError" in capfd.readouterr().err


def test_ignoring_sigterm() -> None:
    """After the call SIGTERM has no effect."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        ignore_sigterm()
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


# The command


@contextmanager
def hog(root: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "memguard.testing.hog", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    assert readable
    assert process.stdout.readline() == "ready\n"


def end(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=PATIENCE_S)
    return process.returncode


def test_command_takes_memory_and_waits(project_root: Path) -> None:
    """The hungry command has its memory when it says so, and goes on when its stdin ends."""
    with hog(project_root, "--mib", "24", "--wait-for-stdin", "--exit-code", "9") as process:
        wait_ready(process)
        assert read_process_memory(process.pid).private_bytes >= 24 * MIB
        assert process.poll() is None
        assert end(process) == 9


def test_command_forks_and_ends_its_children(project_root: Path) -> None:
    """Children and grandchildren are there while it holds, and are gone when it ends well."""
    with hog(project_root, "--children", "2", "--grandchildren", "--setsid", "--wait-for-stdin") as process:
        wait_ready(process)
        children = [pid for pid, _ in children_of(process.pid)]
        family = children + [pid for child in children for pid, _ in children_of(child)]
        identities = [identify(pid) for pid in family]
        assert (len(children), len(family)) == (2, 4)
        assert {os.getsid(pid) for pid in family} == set(family)
        assert end(process) == 0
    wait_until_dead(identities)


def test_command_can_abandon_its_children(project_root: Path) -> None:
    """Told so, it ends and leaves a child behind, as a badly behaved command does."""
    with hog(project_root, "--children", "1", "--abandon", "--wait-for-stdin") as process:
        wait_ready(process)
        ((child, _),) = children_of(process.pid)
        left = identify(child)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0
        assert is_alive(left)
        os.kill(child, signal.SIGKILL)
    wait_until_dead([left])


def test_command_ignores_sigterm(project_root: Path) -> None:
    """Told so, it survives SIGTERM and ends as it would have."""
    with hog(project_root, "--ignore-sigterm", "--wait-for-stdin", "--exit-code", "4") as process:
        wait_ready(process)
        process.terminate()
        assert end(process) == 4


def test_command_segfaults_for_real(project_root: Path) -> None:
    """Told so, it dies of SIGSEGV."""
    with hog(project_root, "--segfault") as process:
        assert end(process) == -signal.SIGSEGV


def test_command_takes_shared_memory_and_gives_it_back(project_root: Path) -> None:
    """A named piece of shared memory has its real size while it holds, and its file is gone afterwards."""
    name = f"memguard-test-{os.getpid()}"
    file = Path("/dev/shm") / name
    with hog(project_root, "--shm-mib", "8", "--shm-name", name, "--wait-for-stdin") as process:
        try:
            wait_ready(process)
            assert file.stat().st_blocks * 512 == 8 * MIB
            assert end(process) == 0
            assert not file.exists()
        finally:
            file.unlink(missing_ok=True)


def test_command_leaves_no_shared_file_even_when_killed(project_root: Path) -> None:
    """Without a name, shared memory has no file at all, so a kill leaves none."""
    before = set(os.listdir("/dev/shm"))
    with hog(project_root, "--shm-mib", "8", "--wait-for-stdin") as process:
        wait_ready(process)
        held = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert any(path.startswith("/dev/shm/memguard-hog-") for path in held)
        process.kill()
        assert end(process) == -signal.SIGKILL
    assert not {name for name in set(os.listdir("/dev/shm")) - before if name.startswith("memguard-hog-")}


@pytest.mark.parametrize("arguments", [("--hold-seconds", "601"), ("--mib", "-1"), ("--mib", "nan")])
def test_command_refuses_nonsense(project_root: Path, arguments: tuple[str, str]) -> None:
    """A hold without bound and sizes that are none are wrong usage."""
    with hog(project_root, *arguments) as process:
        assert end(process) == 2


def test_command_holds_for_a_while(project_root: Path) -> None:
    """It says ready before it holds, and ends by itself."""
    with hog(project_root, "--hold-seconds", "0.05", "--mib", "2", "--rate-mib-s", "100") as process:
        wait_ready(process)
        assert end(process) == 0
