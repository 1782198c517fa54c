"""``memguard status`` beside real commands that share one machine: who has what, who waits, and for whom."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import apsw
import jsonschema
import pytest

from memguard.cli import overview
from memguard.config import load_settings
from memguard.guard import Pressure
from memguard.host import MachineReading, read_machine
from memguard.ledger.beacon import Beacon, Sight, domain_file
from memguard.ledger.board import Ask
from memguard.ledger.book import boot_seconds
from memguard.ledger.records import LEASE_VARIABLE, Action
from memguard.ledger.seat import SIGHT
from memguard.units import MIB
from tests.processes.run.conftest import MEMGUARD
from tests.processes.run.test_run_ledger import Machine
from tests.support.ledgers import book_in, wish

SCHEMA = json.loads((Path(__file__).parents[3] / "memguard" / "schemas" / "status-1.json").read_text())


@pytest.fixture
def machine(kit: Any) -> Machine:
    """A machine without a sentinel, so that tests can say what one saw: who is part of a job never starts one."""
    made = Machine(kit)
    made.environment[LEASE_VARIABLE] = "one that has ended"
    return made


def status(machine: Machine, *words: str, **environment: str) -> Any:
    """Return what `memguard status` does."""
    started = machine.kit.start(
        MEMGUARD, "status", *words, environment={**machine.environment, **environment}
    )
    return machine.kit.finish(started)


def document(machine: Machine) -> Any:
    """Return what `memguard status --json` prints, held against its schema."""
    done = status(machine, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return found


def test_who_holds_and_who_waits_is_told(machine: Machine) -> None:
    """The one that holds memory with what it uses of it, the one that waits with the reason, and the sums."""
    first = machine.start("--memory", "600MiB", "--name", "train", mib=300)
    assert machine.is_ready(first)
    second = machine.start("--memory", "500MiB", "--priority", "3", "--name", "tune")
    machine.wait_for_line(2)
    machine.kit.wait_until(lambda: machine.leases()["train"].used_bytes > 300 * MIB, "its use is seen")
    found = document(machine)
    train, tune = found["jobs"]
    assert (train["name"], train["pid"], train["state"]) == ("train", first.pid, "running")
    assert (train["reserved_bytes"], train["waits_for"]) == (600 * MIB, None)
    assert 300 * MIB < train["used_bytes"] <= train["peak_bytes"] < 400 * MIB
    assert (tune["name"], tune["pid"], tune["state"], tune["priority"]) == ("tune", second.pid, "waiting", 3)
    told = f"needs 500 MiB, 321.6 MiB are free; held by train (pid {first.pid}): 600 MiB"
    assert tune["waits_for"] == told
    assert found["used_bytes"] == train["used_bytes"]
    assert (found["reserved_bytes"], found["state"], found["sentinel"]) == (600 * MIB, "normal", None)
    assert found["promised_bytes"] == 600 * MIB - train["used_bytes"]
    lines = status(machine).stdout.decode().splitlines()
    assert any(line.split()[:2] == ["train", str(first.pid)] for line in lines)
    assert any(line.startswith("tune (pid ") and line.endswith(told) for line in lines)
    for process in (first, second):
        assert machine.kit.finish(process, b"").returncode == 0
    assert document(machine)["jobs"] == []


def test_a_sentinel_that_looks_all_the_time_is_seen(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it saw while the look of `memguard status` was under way is fresh, and not of a time that never was."""

    def read_while_it_looks() -> MachineReading:
        reading = read_machine()
        with Beacon(domain_file(machine.folder, SIGHT, "#1GiB")) as beacon:
            beacon.write(Sight(boot_seconds(), 1, 1, Pressure.HIGH, 0, 0.9, 10, 1, 0, 0.0, 9.0, 0.01, 1))
        return reading

    monkeypatch.setattr(overview, "read_machine", read_while_it_looks)
    settings = load_settings(environ=machine.environment)
    assert overview.Watch(settings).look().pressure.state is Pressure.HIGH


def test_a_wrapped_command_inside_another_is_shown_below_it(machine: Machine) -> None:
    """Who draws on a lease stands after it, moved in, and is not counted twice."""
    words = (
        "--name",
        "outer",
        "--memory",
        "500MiB",
        "--",
        MEMGUARD,
        "run",
        "--name",
        "inner",
        "--memory",
        "200MiB",
    )
    outer = machine.kit.guard(
        *words, "--", "/bin/sh", "-c", "echo ready; read line", environment=machine.environment, stdin=-1
    )
    assert machine.is_ready(outer)
    found = document(machine)
    assert [(each["name"], bool(each["parent_id"])) for each in found["jobs"]] == [
        ("outer", False),
        ("inner", True),
    ]
    assert found["jobs"][1]["parent_id"] == found["jobs"][0]["lease_id"]
    assert found["reserved_bytes"] == 500 * MIB
    assert b"\n  inner " in status(machine).stdout
    machine.kit.finish(outer, b"")


def test_what_the_sentinel_asks_and_did_is_told(machine: Machine) -> None:
    """A job that is frozen says so, and the last actions stand below with their reasons."""
    first = machine.start("--memory", "600MiB", "--name", "train")
    assert machine.is_ready(first)
    with book_in(machine.folder) as book:
        (lease,) = book.leases()
        assert book.ask_of(lease, Ask.FROZEN)
        book.note_action(
            Action(
                lease.lease_id,
                "train",
                "FROZEN",
                "it is the youngest",
                7 * MIB,
                6 * MIB,
                None,
                boot_seconds(),
                0.0,
            )
        )
    found = document(machine)
    assert [each["state"] for each in found["jobs"]] == ["frozen"]
    assert [(each["what"], each["why"]) for each in found["actions"]] == [("frozen", "it is the youngest")]
    told = status(machine).stdout
    assert b"frozen  train (7 MiB used of 6 MiB reserved): it is the youngest" in told
    machine.kit.finish(first, b"")


def test_what_the_sentinel_sees_is_the_state(machine: Machine) -> None:
    """While somebody looks, its word is the state, and what waits is told why; one who stopped looking is named as such."""
    with book_in(machine.folder) as book:
        book.ask(wish("train", 100))
        now_s = boot_seconds()
        high = Sight(
            now_s, 77, 1, Pressure.HIGH, now_s - 60, 0.92, 10**9, 10**8, 10**7, 5e6, 18.0, 0.05, 1, 1
        )
        with Beacon(domain_file(machine.folder, "sight", "#1GiB")) as beacon:
            beacon.write(dataclasses.replace(high, at_s=boot_seconds()))
            found = document(machine)
            assert (found["state"], found["sentinel"]["pid"], found["time_to_full_s"]) == ("high", 77, 18.0)
            assert (found["free_for_jobs_bytes"], round(found["sentinel"]["state_for_s"]) >= 60) == (0, True)
            beacon.write(dataclasses.replace(high, at_s=boot_seconds()))
            told = status(machine).stdout.decode()
            assert "state      high for 1 min" in told
            assert "full in 18.0 s at 4.8 MiB/s" in told
            assert "nothing is given out while memory is short" in told
            beacon.write(dataclasses.replace(high, at_s=boot_seconds() - 40))
            assert document(machine)["sentinel"] is None
        book.release("train")


def test_a_killed_wrapper_is_gone_and_status_does_not_strike_it(machine: Machine) -> None:
    """A dead owner's lease is shown as gone and holds nothing; looking leaves it in the ledger."""
    first = machine.start("--memory", "600MiB", "--name", "train")
    assert machine.is_ready(first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    for _ in range(2):
        found = document(machine)
        assert [each["state"] for each in found["jobs"]] == ["gone"]
        assert (found["reserved_bytes"], found["used_bytes"]) == (0, 0)
    assert "train" in machine.leases()


def test_where_no_job_was_nothing_is_made(machine: Machine) -> None:
    """Without a ledger the machine is shown, one line says that there is none, and none is there afterwards."""
    machine.folder.rmdir()
    done = status(machine)
    assert done.returncode == 0
    assert b"ledger     none yet: no job has reserved memory here" in done.stdout
    assert document(machine)["ledger"] == {"path": None, "trouble": None}
    assert not machine.folder.exists()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("head -c 50000 /dev/urandom > ledger.sqlite", b"is damaged"),
        ("mkdir ledger.sqlite", b"could not be used"),
        ("chmod 777 .", b"can be written by others"),
        ("newer", b"newer memguard (version 99"),
    ],
)
def test_a_ledger_that_cannot_be_read_hides_no_machine(machine: Machine, fault: str, told: bytes) -> None:
    """The machine's figures are shown all the same, the status is 0, and one line says what is wrong."""
    if fault == "newer":
        connection = apsw.Connection(str(machine.folder / "ledger.sqlite"))
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        subprocess.run(["/bin/sh", "-c", fault], check=True, cwd=machine.folder)
    done = status(machine)
    assert done.returncode == 0
    assert done.stdout.startswith(b"capacity   1 GiB")
    assert [told in line for line in done.stdout.splitlines() if line.startswith(b"ledger")] == [True]
    assert told.decode() in document(machine)["ledger"]["trouble"]
    machine.folder.chmod(0o700)


def test_a_name_does_not_play_with_the_terminal(machine: Machine) -> None:
    """What a job is called is spelt out, wherever it is shown."""
    first = machine.start("--memory", "600MiB", "--name", "odd\x1b[2J")
    assert machine.is_ready(first)
    told = status(machine).stdout
    assert b"odd\\x1b[2J" in told
    assert b"\x1b" not in told
    machine.kit.finish(first, b"")


def test_the_ledger_that_is_switched_off_is_said_to_be(machine: Machine) -> None:
    """Who looks at the jobs of others from a shell whose own jobs reserve nothing is told so."""
    machine.run("--", "true")
    assert b"reserve nothing" in status(machine, MEMGUARD_LEDGER="off").stderr
    assert b"reserve nothing" not in status(machine).stderr
