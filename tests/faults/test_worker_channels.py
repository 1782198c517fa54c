"""What jobs say, hold and leave in a guard's channels: nothing of it blinds the guard, and nobody holds another's."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memguard import Outcome, current_job
from memguard.host import children_of
from memguard.testing import leak
from memguard.worker.advice import Advice, Delivered, Need, understand
from memguard.worker.verdict import Delivery
from tests.support.guarded import MIB, Guarded, by_value, eventually, guarded, kill_for_sure

by_value(__name__)


@pytest.fixture(scope="module", params=["auto", "none"])
def jobs(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    with guarded("1GiB", fence=request.param, grace="500ms") as manager:
        yield manager


def own_sockets() -> list[socket.socket]:
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    found = []
    for number in numbers:
        try:
            if number > 2 and os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                found.append(socket.socket(fileno=os.dup(number)))
        except OSError:
            continue
    return found


FORGED: tuple[Any, ...] = (
    5,
    {},
    {"kind": "unknown"},
    {"kind": "ended", "record": {}},
    {"kind": "failed", "why": "forged"},
    {"kind": "shared", "files": [{"path": "/dev/shm/x"}]},
    {"kind": "started"},
    {"kind": "phase"},
    {"kind": "phase", "name": 3, "detail": ""},
    {"kind": "phase", "name": "x" * 60_000, "detail": ""},
    {"kind": "progress", "fraction": "much"},
    {"kind": "note", "key": "k", "value": [1]},
    {"kind": "batches", "figures": 7},
    {"kind": "delivered", "delivery": "everything"},
    {"kind": "delivered"},
    {"kind": "need"},
    {"kind": "need", "bytes": -1},
    {"kind": "need", "bytes": "many"},
    {"kind": "need", "bytes": True},
)


def shout() -> int:
    """Write into everything that is open what nobody should."""
    connections = own_sockets()
    for connection in connections:
        for data in (
            b"",
            b"x",
            b"\xff" * 100_000,
            b"[" * 50_000,
            *(json.dumps(each).encode() for each in FORGED),
        ):
            connection.send(data)
            socket.send_fds(connection, [data], [0] * 20)
        connection.close()
    return len(connections)


def test_garbage_from_a_job_harms_nothing(jobs: Guarded) -> None:
    """A job that writes garbage and forged messages into its guard's channel still delivers; its report tells of it."""
    result = jobs.run(shout)
    assert (result.value, result.report.outcome) == (1, Outcome.COMPLETED)
    assert result.report.guard_degraded == (
        "the job wrote something into the guard's channel that is no message",
    )
    jobs.check_nothing_left(result)


def test_a_job_that_wrote_garbage_is_still_guarded(jobs: Guarded) -> None:
    """After garbage the budget holds as before."""

    def shout_and_fill() -> None:
        shout()
        leak(500 * MIB)

    result = jobs.run(shout_and_fill, memory="100MiB")
    assert result.report.outcome is Outcome.BUDGET_KILL
    jobs.check_nothing_left(result)


def test_a_job_that_asks_and_does_not_listen_is_still_guarded(jobs: Guarded) -> None:
    """Ten thousand wishes for a segment, no answer read: the guard does not wait for the job, and ends it in time."""

    def ask() -> None:
        (connection,) = own_sockets()
        for _ in range(10_000):
            connection.send(b'{"kind": "need", "bytes": 1}')
        select.select([], [], [], 60)

    result = jobs.run(ask, timeout=1)
    assert result.report.outcome is Outcome.TIMEOUT
    jobs.check_nothing_left(result)


def test_a_wish_that_nobody_can_fulfil_is_refused(jobs: Guarded) -> None:
    """A segment of more bytes than any machine has, or than a number of the kernel holds, is refused, not tried."""

    def ask(size_bytes: int) -> str:
        (connection,) = own_sockets()
        connection.send(json.dumps({"kind": "need", "bytes": size_bytes}).encode())
        return str(json.loads(connection.recv(10_000))["kind"])

    assert [jobs.value(ask, size) for size in (1 << 50, 1 << 70)] == ["refused"] * 2


def test_long_texts_arrive_whole(jobs: Guarded) -> None:
    """Texts of the greatest length, in any script, arrive as they were said."""

    def speak() -> None:
        job = current_job()
        assert job is not None
        for letter in ("\U0001f600", "\x01", "\ud800"):
            job.phase("p", letter * 4000)
            job.warn(letter * 4000)
            job.note(f"key {ord(letter)}", letter * 4000)

    result = jobs.run(speak)
    assert result.report.outcome is Outcome.COMPLETED
    assert result.report.guard_degraded == ()
    assert [len(each) for each in result.report.notes.values()] == [4000] * 3


@pytest.mark.parametrize("tidy", [True, False])
def test_many_files_with_long_names_lose_no_job(jobs: Guarded, tidy: bool) -> None:
    """More names of shared memory than a message holds, in another script: the job is kept, the files are removed."""
    base = Path(f"/dev/shm/memguard-test-{os.getpid()}")

    def fill() -> str:
        folder = base / ("д" * 120) / ("\x01" * 200) / ("😀" * 60)
        folder.mkdir(parents=True)
        for number in range(150):
            os.open(folder / f"{'ж' * 100}{number}", os.O_RDWR | os.O_CREAT, 0o600)
        job = current_job()
        assert job is not None
        select.select([], [], [], 0.7)  # until the guard has looked
        if tidy:
            shutil.rmtree(base)
        return "fine"

    try:
        result = jobs.run(fill)
        left = [path for path in base.rglob("*") if path.is_file()]
    finally:
        shutil.rmtree(base, ignore_errors=True)
    assert (result.value, result.report.outcome) == ("fine", Outcome.COMPLETED)
    assert result.report.guard_degraded == ()
    assert left == []
    assert bool(result.report.cleanup.leftovers) is not tidy


@pytest.mark.parametrize("size_bytes", [0, -5, True, "1", None, 1.5])
def test_a_need_is_a_number_of_bytes(size_bytes: Any) -> None:
    """Anything but a positive whole number is no wish for a segment."""
    assert understand({"kind": "need", "bytes": size_bytes}) is None
    assert understand({"kind": "need", "bytes": 1}) == Need(1)


def test_what_a_job_may_say_is_understood() -> None:
    """The words of a job's own side have their meaning; one with a field too many or too few has none."""
    assert understand({"kind": "delivered", "delivery": "value"}) == Delivered(Delivery.VALUE)
    for message in (
        {"kind": "phase", "name": "n", "detail": ""},
        {"kind": "progress", "fraction": 1},
        {"kind": "warning", "text": "t"},
        {"kind": "note", "key": "k", "value": None},
        {"kind": "batches", "figures": [1, 2, 3, 4]},
    ):
        assert understand(message) == Advice(message)
        assert understand({**message, "more": 1}) is None
        assert understand({"kind": message["kind"]}) is None
    assert understand({"kind": "progress", "fraction": float("nan")}) is None


def open_in(pid: int) -> dict[int, str]:
    """Return what a process has open beyond its standard streams."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        if int(name) > 2:
            with contextlib.suppress(FileNotFoundError):  # the one of the listing itself
                found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


@contextmanager
def running(jobs: Guarded, gate: Path, count: int) -> Iterator[None]:
    """Run jobs until the block ends."""
    os.mkfifo(gate)
    ready = threading.Semaphore(0)

    def wait() -> None:
        job = current_job()
        assert job is not None
        job.phase("ready")
        gate.read_bytes()

    seen: set[int] = set()

    def hear(progress: Any) -> None:
        if progress.phase == "ready" and threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            ready.release()

    threads = [threading.Thread(target=lambda: jobs.run(wait, on_progress=hear)) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
        assert all(ready.acquire(timeout=30) for _ in threads)
        yield
    finally:
        while any(thread.is_alive() for thread in threads):
            with contextlib.suppress(OSError):  # nobody waits at this moment
                os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
            select.select([], [], [], 0.005)


def connections(pid: int) -> Counter[str]:
    """Return the pipes and sockets that a process has open."""
    return Counter(link for link in open_in(pid).values() if link.startswith(("pipe:", "socket:")))


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize("fence", ["auto", "none"])
def test_nobody_holds_what_is_anothers(fence: str, tmp_path: Path) -> None:
    """Template, keepers, jobs and who waits: each connection is open in one process, a job has its own and no more."""
    mine = [*os.pipe(), *(end.detach() for end in socket.socketpair())]
    for each in mine:
        os.set_inheritable(each, True)
    try:
        with guarded(fence=fence) as jobs, running(jobs, tmp_path / "gate", 2):
            check_connections(jobs)
    finally:
        for each in mine:
            os.close(each)


def check_connections(jobs: Guarded) -> None:
    template = jobs.template_pid
    assert eventually(lambda: len(jobs.processes()) == 7)
    keepers = [pid for pid, _ in children_of(template)]
    workers = [child for keeper in keepers for child, _ in children_of(keeper)]
    assert (len(keepers), len(workers)) == (3, 3)
    held = sum((connections(pid) for pid in (template, *keepers, *workers)), Counter[str]())
    assert set(held.values()) == {1}
    assert not held.keys() & connections(os.getpid()).keys()
    assert [connections(pid).total() for pid in (template, *keepers, *workers)] == [2, *[2] * 3, *[1] * 3]
    for worker in workers:  # nor anything else of the guard's: a pidfd, an eventfd, a file of the fence
        assert all(link.startswith("socket:") or link.endswith("/gate") for link in open_in(worker).values())


def test_a_process_made_for_the_job_at_hand_holds_no_more(tmp_path: Path) -> None:
    """Where the one that waits was killed, its successor is made by a keeper that has a caller: that stays the keeper's."""
    with guarded() as jobs:
        assert eventually(lambda: jobs.is_idle() and len(children_of(jobs.template_pid)) == 1)
        _, waiting = jobs.standby()
        kill_for_sure(waiting)
        with running(jobs, tmp_path / "gate", 1):
            assert eventually(lambda: len(jobs.processes()) == 5)
            keepers = [pid for pid, _ in children_of(jobs.template_pid)]
            workers = [child for keeper in keepers for child, _ in children_of(keeper)]
            # One that was forked this moment has not let go yet of what its maker holds.
            assert eventually(lambda: all(_kinds_open_in(worker) == ["socket"] for worker in workers))


def _kinds_open_in(pid: int) -> list[str]:
    links = open_in(pid).values()
    return sorted(link.partition(":")[0] for link in links if not link.endswith("/gate"))
