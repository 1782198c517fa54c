"""What breaks around the ledger while wrapped commands use it: each fault is caused for real."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from memguard.ledger.place import ledger_folder
from tests.support.ledgers import book_in
from tests.support.pens import pen
from tests.support.sentinels import sentinels_of

MIB = 1024**2
MEMGUARD = str(Path(sys.executable).with_name("memguard"))
HOLDS = "echo ready; read line; exit 0"


@pytest.fixture
def folder(kit: Any) -> Iterator[Path]:
    """A ledger's folder; its sentinels end with the test."""
    made = ledger_folder(kit.folder / "ledger")
    yield made
    kit.end()
    for pid in sentinels_of(made):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def told(folder: Path) -> dict[str, str]:
    """What commands are told of a machine of 1 GiB."""
    return {
        "MEMGUARD_RUNTIME_DIR": str(folder),
        "MEMGUARD_CAPACITY": "1GiB",
        "MEMGUARD_LEDGER": "auto",
    }


@pytest.fixture
def hold(kit: Any, told: dict[str, str]) -> Callable[..., Any]:
    """Starts a command that ends with its stdin."""

    def start(*flags: str, **environment: str) -> Any:
        return kit.guard(
            *flags, "--", "/bin/sh", "-c", HOLDS, environment={**told, **environment}, stdin=subprocess.PIPE
        )

    return start


def is_ready(kit: Any, process: Any) -> bool:
    return bool(kit.line(process.stdout) == "ready")


def holders(folder: Path) -> list[str]:
    with book_in(folder) as book:
        return [lease.name for lease in book.settle().values()]


FILLS = """
mount -t tmpfs -o size={size},mode=0700 none {folder} || exit 99
{first}
{memguard} run --report a.json -- sh -c 'cat /dev/zero >{folder}/filler; exit 7' 2>a.err; echo $?
{memguard} run --report b.json -- sh -c 'exit 8' 2>b.err; echo $?
rm {folder}/filler
{memguard} run --report c.json -- sh -c 'exit 9' 2>c.err; echo $?
{memguard} status --json
"""


@pytest.mark.requirement("T1.2")
@pytest.mark.parametrize("when", ["at first", "while a job runs"])
def test_a_full_runtime_directory_stops_nobody(
    kit: Any, folder: Path, told: dict[str, str], when: str
) -> None:
    """Commands start, end and keep their status; once there is room again all is as it was, and no lease is left."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a small file system needs root and unshare")
    first = f"head -c 10000000 /dev/zero >{folder}/filler" if when == "at first" else ""
    script = FILLS.format(size="1m", folder=folder, memguard=MEMGUARD, first=first)
    words = ("unshare", "--mount", "--propagation=private", "/bin/sh", "-c", script)
    done = kit.finish(kit.start(*words, environment=told))
    if done.stdout == b"" and done.returncode == 99:
        pytest.skip("no file system can be mounted here")
    *statuses, document = done.stdout.decode().split("\n", 3)
    assert statuses == ["7", "8", "9"], [(kit.folder / f"{each}.err").read_text() for each in "abc"]
    reports = {each: json.loads((kit.folder / f"{each}.json").read_text()) for each in "abc"}
    assert {report["outcome"] for report in reports.values()} == {"raised"}
    if when == "at first":
        assert b"runs without a reservation" in (kit.folder / "a.err").read_bytes()
    assert b"runs without a reservation" in (kit.folder / "b.err").read_bytes()
    assert reports["b"]["guard_degraded"]
    assert (kit.folder / "c.err").read_bytes() == b""
    assert reports["c"]["guard_degraded"] == []
    # What could not be struck ended with its owner; whoever looks strikes it, and who only shows says that it is gone.
    assert {job["state"] for job in json.loads(document)["jobs"]} <= {"gone"}


@contextmanager
def locked(folder: Path) -> Iterator[apsw.Connection]:
    """Somebody stays in a transaction; where the block does not end it, the end of the block does."""
    with book_in(folder):
        connection = apsw.Connection(str(folder / "ledger.sqlite"))
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
    finally:
        connection.close()


def opens_ledger(process: Any, folder: Path) -> bool:
    """Whether a process has the ledger's file open."""
    try:
        found = [os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir()]
    except OSError:  # a descriptor that was closed meanwhile
        return False
    return str(folder / "ledger.sqlite") in found


@pytest.mark.requirement("T1.2")
def test_a_ledger_that_is_locked_for_seconds_is_waited_for(
    kit: Any, folder: Path, told: dict[str, str], hold: Callable[..., Any]
) -> None:
    """Who runs goes on, who starts waits until it is free, who ends then gives back; nobody's work suffers."""
    runs = hold("--memory", "100MiB", "--name", "runs", "--report", "runs.json")
    assert is_ready(kit, runs)
    with locked(folder) as connection:
        starts = hold("--memory", "100MiB", "--name", "starts", "--report", "starts.json")
        kit.wait_until(lambda: opens_ledger(starts, folder), "it has the ledger open")
        runs.stdin.close()
        runs.stdin = None
        # The fault is that it lasts: two seconds in which neither may give up.
        assert select.select([starts.stdout, starts.stderr], [], [], 2.0)[0] == []
        assert starts.poll() is None
        connection.execute("ROLLBACK")
    assert kit.finish(runs).returncode == 0
    assert is_ready(kit, starts)
    assert holders(folder) == ["starts"]
    assert kit.finish(starts, b"").returncode == 0
    for name in ("runs", "starts"):
        assert json.loads((kit.folder / f"{name}.json").read_text())["guard_degraded"] == []
    assert holders(folder) == []


@pytest.mark.heavy
def test_a_ledger_that_stays_locked_is_done_without(kit: Any, folder: Path, told: dict[str, str]) -> None:
    """When the patience is over, after ten seconds, the command runs, and says that nothing is reserved for it."""
    with locked(folder):
        done, report = kit.report("--", "sh", "-c", "exit 7", environment=told)
    assert done.returncode == 7
    assert b"runs without a reservation" in done.stderr
    assert report["guard_degraded"]


def test_a_newer_ledger_is_done_without_and_left_as_it_is(
    kit: Any, folder: Path, told: dict[str, str]
) -> None:
    """The command runs, is told which versions meet and what to do, and the file has not changed by a byte."""
    book_in(folder).close()
    connection = apsw.Connection(str(folder / "ledger.sqlite"))
    connection.execute("PRAGMA user_version = 99; CREATE TABLE of_a_newer_one(x)")
    connection.close()
    before = (folder / "ledger.sqlite").read_bytes()
    done, report = kit.report("--", "sh", "-c", "exit 7", environment=told)
    assert done.returncode == 7
    assert b"newer memguard (version 99" in done.stderr
    assert ["version 99" in each for each in report["guard_degraded"]] == [True]
    assert (folder / "ledger.sqlite").read_bytes() == before


@pytest.mark.requirement("T1.2")
def test_a_killed_waiter_is_not_waited_for(
    kit: Any, folder: Path, told: dict[str, str], hold: Callable[..., Any]
) -> None:
    """After kill -9 of the wrapper that is first in the line the next one has its place at once."""
    holds = hold("--memory", "500MiB", "--name", "holds")
    assert is_ready(kit, holds)
    waits = hold("--memory", "600MiB", "--name", "waits")
    assert "waits for 600 MiB" in kit.line(waits.stderr)
    behind = hold("--memory", "400MiB", "--name", "behind")
    assert "waits for 400 MiB" in kit.line(behind.stderr)
    waits.kill()
    assert is_ready(kit, behind)
    waits.wait()
    assert sorted(holders(folder)) == ["behind", "holds"]
    assert [kit.finish(each, b"").returncode for each in (holds, behind)] == [0, 0]


LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
# Waits for its stdin to end, and ends with 5; from any signal, with another status.
STRANGER = ("/bin/sh", "-c", "read line; exit 5")


def start_with_pid(pid: int) -> subprocess.Popen[bytes] | None:
    """Start a process that has just this pid; ``None`` where others are always faster."""
    for _ in range(500):
        LAST_PID.write_text(str(pid - 1))
        started = subprocess.Popen(STRANGER, stdin=subprocess.PIPE)
        if started.pid == pid:
            return started
        started.communicate()
    return None


@pytest.mark.requirement("T1.2", "R1.4")
def test_a_pid_that_is_used_again_is_another_process(
    kit: Any, folder: Path, hold: Callable[..., Any]
) -> None:
    """A dead wrapper's lease goes though its pid lives again, and whoever has that pid now is left alone."""
    if not os.access(LAST_PID, os.W_OK):
        pytest.skip("the next pid cannot be chosen here")
    dead = hold("--memory", "600MiB", "--name", "dead")
    assert is_ready(kit, dead)
    dead.kill()
    dead.wait()
    stranger = start_with_pid(dead.pid)
    if stranger is None:
        pytest.skip("the pid was never the next one")
    with stranger:
        late = hold("--memory", "600MiB", "--name", "late")
        assert is_ready(kit, late)
        assert holders(folder) == ["late"]
        assert kit.finish(late, b"").returncode == 0
        kit.wait_until(lambda: not kit.marked(), "the dead one's janitor is done")
        stranger.communicate()
        assert stranger.returncode == 5


# Each look at the time of day is a day earlier or later than the one before.
JUMPS = """
import itertools, time
_real, _days = time.time, itertools.cycle((0, 86400, -86400, 7 * 86400))
time.time = lambda: _real() + next(_days)
time.time_ns = lambda: int(time.time() * 1e9)
"""


@pytest.mark.requirement("T5.3")
def test_a_clock_that_jumps_delays_and_ends_nothing(
    kit: Any, folder: Path, tmp_path: Path, hold: Callable[..., Any]
) -> None:
    """Whoever sets the time of day, commands wait as long as was said, go in their turn, and their leases stay theirs."""
    (tmp_path / "sitecustomize.py").write_text(JUMPS)
    jumps = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    holds = hold("--memory", "600MiB", "--name", "holds", **jumps)
    assert is_ready(kit, holds)
    gives_up = hold("--memory", "600MiB", "--wait", "300ms", "-q", **jumps)
    assert kit.finish(gives_up, b"").returncode == 125
    waits = hold("--memory", "600MiB", "--name", "waits", "--wait", "1h", **jumps)
    assert "waits for 600 MiB" in kit.line(waits.stderr)
    # Somebody whose clock is right sees that they are alive, and gives their memory to nobody.
    assert kit.finish(hold("--memory", "600MiB", "--wait", "0", "-q"), b"").returncode == 125
    assert sorted(holders(folder)) == ["holds", "waits"]
    assert kit.finish(holds, b"").returncode == 0
    assert is_ready(kit, waits)
    assert kit.finish(waits, b"").returncode == 0


# Takes memory slowly and for ever, and does not listen to who asks it to end.
DEAF = """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
kept = []
while True:
    kept.append(b"x" * (1 << 20))
    time.sleep(0.002)
"""


@pytest.mark.requirement("R6.2", "T5.2")
def test_who_does_not_listen_is_ended_for_the_machines_sake(kit: Any, folder: Path) -> None:
    """A command deaf to SIGTERM, on a machine that it fills, is ended before the kernel kills."""
    environment = {"MEMGUARD_RUNTIME_DIR": str(folder), "MEMGUARD_LEDGER": "auto"}
    with pen(256 * MIB) as fence:
        ballast = (
            sys.executable,
            "-I",
            "-S",
            "-c",
            "held = bytearray(60 << 20); print('ready', flush=True); input()",
        )
        beside = kit.start(*ballast, preexec_fn=fence.enter, stdin=subprocess.PIPE)
        assert is_ready(kit, beside)
        words = ("--name", "deaf", "--", sys.executable, "-I", "-S", "-c", DEAF)
        done, report = kit.report(*words, environment=environment, preexec_fn=fence.enter)
        assert (done.returncode, report["outcome"]) == (137, "budget_kill"), done.stderr
        assert b"the machine's memory ran short" in done.stderr
        assert fence.read().oom_kills == 0
        assert kit.finish(beside, b"\n").returncode == 0
