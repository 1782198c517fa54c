"""Wrapped commands that know nothing of each other share one machine: a stated one, so that every machine will do."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from memguard.ledger.place import ledger_folder
from tests.support.ledgers import book_in
from tests.support.programs import HOLDS


class Machine:
    """A machine of 1 GiB with a ledger of its own, of which 922 MiB are for jobs."""

    def __init__(self, kit: Any) -> None:
        self.kit = kit
        self.folder = ledger_folder(kit.folder / "ledger")
        self.environment = {
            "MEMGUARD_RUNTIME_DIR": str(self.folder),
            "MEMGUARD_CAPACITY": "1GiB",
            "MEMGUARD_LEDGER": "auto",
        }

    def start(self, *words: str, mib: int = 100, **environment: str) -> Any:
        """Start a command that holds so many MiB."""
        command = (sys.executable, "-c", HOLDS, str(mib))
        return self.kit.guard(
            *words, "--", *command, environment={**self.environment, **environment}, stdin=-1
        )

    def run(self, *words: str, **environment: str) -> Any:
        return self.kit.run(*words, environment={**self.environment, **environment})

    def is_ready(self, process: Any) -> bool:
        return bool(self.kit.line(process.stdout) == "ready")

    def wait_for_line(self, count: int) -> None:
        """Wait until so many leases and wishes are written down."""
        with book_in(self.folder) as book:
            self.kit.wait_until(lambda: len(book.leases()) == count, f"{count} in the ledger")

    def leases(self) -> Any:
        with book_in(self.folder) as book:
            return {lease.name: lease for lease in book.leases()}


@pytest.fixture
def machine(kit: Any) -> Machine:
    return Machine(kit)


@pytest.mark.requirement("R2.4", "R1.3", "T5.3")
def test_four_that_do_not_fit_together_all_finish(machine: Machine) -> None:
    """Four commands of 600 MiB at once on 1 GiB: one after the other, each told what it waits for, none is killed."""
    started = [machine.start("--memory", "600MiB", "--name", f"job{number}", mib=500) for number in range(4)]
    machine.wait_for_line(4)
    assert sum(lease.is_granted for lease in machine.leases().values()) == 1
    for process in started:
        process.stdin.close()
        process.stdin = None
    done = [machine.kit.finish(process) for process in started]
    assert [each.returncode for each in done] == [0] * 4
    waited = [each.stderr for each in done if b" waits for 600 MiB: held by job" in each.stderr]
    assert len(waited) == 3
    assert machine.leases() == {}


@pytest.mark.requirement("T5.1")
def test_the_higher_priority_goes_first(machine: Machine) -> None:
    """Who waits with a higher priority gets the memory first, though it came later."""
    first = machine.start("--memory", "600MiB")
    assert machine.is_ready(first)
    low = machine.start("--memory", "600MiB", "--priority", "-1", "--name", "low")
    machine.wait_for_line(2)
    high = machine.start("--memory", "600MiB", "--priority", "5", "--name", "high")
    machine.wait_for_line(3)
    machine.kit.finish(first, b"")
    assert machine.is_ready(high)
    assert not machine.leases()["low"].is_granted
    machine.kit.finish(high, b"")
    assert machine.is_ready(low)
    assert machine.kit.finish(low, b"").returncode == 0


@pytest.mark.requirement("T1.2")
def test_a_killed_wrapper_gives_back(machine: Machine) -> None:
    """After kill -9 of a wrapper that holds memory the one that waits goes on."""
    first, second = machine.start("--memory", "600MiB"), None
    assert machine.is_ready(first)
    second = machine.start("--memory", "600MiB")
    machine.wait_for_line(2)
    first.send_signal(signal.SIGKILL)
    assert machine.is_ready(second)
    assert machine.kit.finish(second, b"").returncode == 0


def test_who_will_not_wait_is_told_who_has_it(machine: Machine) -> None:
    """With --wait 0 the command is not started: exit status 125, and one line says who holds how much."""
    first = machine.start("--memory", "600MiB", "--name", "mine")
    assert machine.is_ready(first)
    done = machine.run("--memory", "500MiB", "--wait", "0", "-q", "--", "true")
    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
    assert f"and 321.6 MiB are free; held by mine (pid {first.pid}): 600 MiB".encode() in done.stderr
    assert list(machine.leases()) == ["mine"]
    assert machine.kit.finish(first, b"").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_while_it_waits_leaves_the_line(machine: Machine, number: signal.Signals) -> None:
    """Ctrl-C, or a scheduler's SIGTERM, ends a command that has not started; nothing waits in its place."""
    first = machine.start("--memory", "600MiB", "--name", "mine")
    assert machine.is_ready(first)
    waits = machine.start("--memory", "600MiB")
    machine.wait_for_line(2)
    waits.send_signal(number)
    done = machine.kit.finish(waits)
    assert done.returncode == (130 if number is signal.SIGINT else -signal.SIGTERM)
    with book_in(machine.folder) as book:
        assert [lease.name for lease in book.settle().values()] == ["mine"]
    assert machine.kit.finish(first, b"").returncode == 0


def test_who_names_the_whole_machine_gets_all_but_the_reserve(machine: Machine) -> None:
    """A budget inside the capacity is no mistake: the job has the machine for itself, but for what is kept back."""
    first = machine.start("--memory", "1GiB", "--name", "all")
    assert machine.is_ready(first)
    assert machine.leases()["all"].reserved_bytes == 966_367_642
    assert machine.kit.finish(first, b"").returncode == 0


def test_more_than_the_capacity_is_refused_at_once(machine: Machine) -> None:
    """What can never be granted is not waited for; the refusal has the figures."""
    done = machine.run("--memory", "1100MiB", "--", "true")
    assert done.returncode == 2
    assert b"1100MiB of 1 GiB" in done.stderr
    assert b"MEMGUARD_CAPACITY" in done.stderr


def test_a_wrapped_command_inside_draws_on_the_one_around_it(machine: Machine) -> None:
    """What is wrapped inside a wrapped command waits for nothing that its own wrapper holds."""
    words = (
        "--memory",
        "900MiB",
        "--",
        machine_script(),
        "run",
        "--memory",
        "800MiB",
        "--",
        "sh",
        "-c",
        "exit 7",
    )
    done = machine.run(*words)
    assert (done.returncode, done.stderr) == (7, b"")


def machine_script() -> str:
    return str(Path(sys.executable).with_name("memguard"))


@pytest.mark.requirement("T1.2")
def test_a_job_that_names_no_memory_begins_small_and_grows(machine: Machine) -> None:
    """A quarter is reserved for it at first, so that several run at once; more follows its use."""
    first, second = machine.start("--name", "a", mib=10), machine.start("--name", "b", mib=400)
    assert machine.is_ready(first)
    assert machine.is_ready(second)
    mib = 2**20
    machine.kit.wait_until(lambda: machine.leases()["b"].reserved_bytes >= 400 * mib, "it has grown")
    reserved = {name: lease.reserved_bytes // mib for name, lease in machine.leases().items()}
    assert reserved["a"] == 230
    assert 400 <= reserved["b"] < 600
    for process in (first, second):
        assert machine.kit.finish(process, b"").returncode == 0


@pytest.mark.requirement("R6.2", "R6.4")
def test_one_that_may_be_run_again_gets_more(machine: Machine, tmp_path: Path) -> None:
    """A command that understated its need is run again with half as much more; all is told, the last status counts."""
    words = ("--memory", "64MiB", "--retries", "3", "--name", "liar", "--report", str(tmp_path / "r.json"))
    done = machine.run(*words, "--", sys.executable, "-c", "held = bytearray(80 << 20)")
    assert done.returncode == 0
    line = b"memguard: liar: it ran out of its budget of 64 MiB; it is run again with 96 MiB\n"
    assert done.stderr.count(line) == 1
    report = json.loads((tmp_path / "r.json").read_text())
    assert [each["limit_bytes"] >> 20 for each in report["attempts"]] == [64]
    assert report["budget"]["limit_bytes"] >> 20 == 96
    assert machine.leases() == {}


def test_a_job_in_a_damaged_ledger_is_not_forgotten(machine: Machine) -> None:
    """A job that only runs stands in the new ledger within a second, so nobody is promised what it may still take."""
    process = machine.start("--memory", "600MiB", "--name", "train", mib=10)
    assert machine.is_ready(process)
    for each in ("ledger.sqlite", "ledger.sqlite-wal"):
        (machine.folder / each).write_bytes(b"garbage" * 1000)
    machine.kit.wait_until(lambda: "train" in machine.leases(), "it is written down again")
    assert (machine.folder / "ledger.sqlite.damaged").exists()
    assert machine.kit.finish(process, b"").returncode == 0


@pytest.mark.parametrize("fault", ["writable", "full"])
def test_a_ledger_that_cannot_be_used_stops_nobody(machine: Machine, fault: str) -> None:
    """The command runs inside its own budget, and its report says that nothing was reserved, and why."""
    folder = machine.folder
    folder.chmod(0o777 if fault == "writable" else 0o700)
    if fault == "full":
        (folder / "ledger.sqlite").symlink_to("/dev/full")
    done, report = machine.kit.report("--", "sh", "-c", "exit 7", environment=machine.environment)
    assert done.returncode == 7
    assert b"(memguard runbook LedgerDamaged)" in done.stderr
    assert ["the job runs without a reservation" in each for each in report["guard_degraded"]] == [True]


def test_the_ledger_can_be_switched_off(machine: Machine) -> None:
    """Whoever wants it the old way has no ledger at all."""
    assert machine.run("--memory", "900MiB", "--", "true", MEMGUARD_LEDGER="off").returncode == 0
    assert list(machine.folder.iterdir()) == []
