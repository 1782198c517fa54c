"""A lease follows its job from part to part: what the peak needed is another's once the peak has passed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memguard import MemoryManager, current_job
from memguard.config import load_settings
from memguard.events import Event
from memguard.ledger.book import LedgerBook
from memguard.ledger.place import ledger_folder
from memguard.ledger.room import room_for
from memguard.report import EstimateSummary
from tests.support.guarded import MIB, by_value, eventually

by_value(__name__)

HOLDS = """
import sys
from memguard import MemoryManager
with MemoryManager("800MiB") as manager, manager.managed_processing("theirs", memory=sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def big_then_small(folder: str, mib: int) -> None:
    """Use much until told to go on, then little until told to end."""
    job = current_job()
    assert job is not None
    job.phase("big")
    held = bytearray(mib * MIB)
    wait_for(folder, "shrink")
    del held
    job.phase("small")
    wait_for(folder, "end")


def big_and_stays(folder: str, mib: int) -> None:
    """Use much to the end."""
    job = current_job()
    assert job is not None
    job.phase("big")
    held = bytearray(mib * MIB)
    wait_for(folder, "stay")
    time.sleep(0.3)  # so that its use is told
    job.phase("small")
    wait_for(folder, "end")
    del held


def small_then_big(folder: str, mib: int) -> None:
    """Go back to the part that needs much."""
    job = current_job()
    assert job is not None
    for phase in ("big", "small", "big"):
        job.phase(phase)
        wait_for(folder, phase)
        time.sleep(0.05)  # so that a use is told within the part


def wait_for(folder: str, name: str) -> None:
    while not os.path.exists(os.path.join(folder, name)):
        time.sleep(0.01)


class Machine:
    """A machine of 1 GiB, of which 921 MiB are for jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = ledger_folder(folder)
        self.settings = load_settings(
            {"capacity": "1GiB", "runtime_dir": str(self.folder), "episodes": folder / "past"}
        )
        self.manager = MemoryManager("800MiB", settings=self.settings)
        self.book = LedgerBook(self.folder, lambda: room_for(self.settings))
        self.changes: list[tuple[str, int]] = []
        self.manager.events.subscribe(self._note)

    def _note(self, event: Event) -> None:
        if event.name == "memguard.reservation_changed":
            self.changes.append((str(event.fields["phase"]), int(event.fields["reserved_bytes"] or 0) // MIB))

    def begin(self, function: Any, *args: Any, phases: dict[str, int]) -> threading.Thread:
        """Run a job in a thread, its parts forecast in MiB by first principles."""
        sizes = {name: size * MIB for name, size in phases.items()}
        most = max(sizes.values())
        estimate = EstimateSummary(most, most, ("counted",), "", sizes)
        running = threading.Thread(
            target=self.manager.run, args=(function, *args), kwargs={"estimate": estimate}
        )
        running.start()
        return running

    def held_mib(self) -> int:
        """What is promised to the jobs of this process."""
        return sum(each.reserved_bytes for each in self.book.leases() if each.owner.pid == os.getpid()) // MIB

    def other(self, memory: str) -> subprocess.Popen[str]:
        """Start another process that wants so much."""
        environment = {**os.environ, "MEMGUARD_CAPACITY": "1GiB", "MEMGUARD_RUNTIME_DIR": str(self.folder)}
        return subprocess.Popen(
            [sys.executable, "-c", HOLDS, memory], env=environment, stdin=-1, stdout=-1, text=True
        )

    def close(self) -> None:
        self.manager.close()
        self.book.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "ledger")
    yield made
    made.close()


def test_another_job_is_admitted_when_the_first_has_passed_its_peak(machine: Machine, tmp_path: Path) -> None:
    """While the first part runs another process waits; when the second has begun it has its memory."""
    running = machine.begin(big_then_small, str(tmp_path), 300, phases={"big": 500, "small": 60})
    assert eventually(lambda: machine.held_mib() == 500)
    other = machine.other("600MiB")
    assert eventually(lambda: any(not each.is_granted for each in machine.book.leases()))
    (tmp_path / "shrink").touch()
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert running.is_alive()
    assert 60 <= machine.held_mib() < 300
    assert machine.changes[-1][0] == "small"
    other.communicate()
    (tmp_path / "end").touch()
    running.join()
    assert other.returncode == 0


def test_what_is_given_back_is_never_what_is_in_use(machine: Machine, tmp_path: Path) -> None:
    """A job that holds on to more than its second part was forecast to need keeps that, and some more."""
    running = machine.begin(big_and_stays, str(tmp_path), 200, phases={"big": 700, "small": 30})
    assert eventually(lambda: machine.held_mib() == 700)
    (tmp_path / "stay").touch()
    assert eventually(lambda: machine.held_mib() < 700)
    held = machine.held_mib()
    (tmp_path / "end").touch()
    running.join()
    assert 232 <= held < 300


def test_it_grows_at_once_before_a_larger_part_begins_and_waits_for_nobody(
    machine: Machine, tmp_path: Path
) -> None:
    """Coming back to the large part it has all of it promised before it uses any; what is not free it does without."""
    running = machine.begin(small_then_big, str(tmp_path), 0, phases={"big": 500, "small": 60})
    (tmp_path / "big").touch()
    assert eventually(lambda: machine.changes and machine.held_mib() == 60)
    (tmp_path / "small").touch()
    running.join()
    assert machine.changes == [("small", 60), ("big", 500)]


def test_a_refused_part_goes_on_without(machine: Machine, tmp_path: Path) -> None:
    """Where others have the memory meanwhile the job enters its large part all the same."""
    running = machine.begin(small_then_big, str(tmp_path), 0, phases={"big": 500, "small": 60})
    (tmp_path / "big").touch()
    assert eventually(lambda: machine.held_mib() == 60)
    other = machine.other("700MiB")
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    (tmp_path / "small").touch()
    running.join()
    assert machine.changes == [("small", 60)]
    other.communicate()


def learn(used_mib: int) -> None:
    """A job of two parts, the first of which uses much."""
    job = current_job()
    assert job is not None
    job.phase("big")
    held = bytearray(used_mib * MIB)
    time.sleep(0.2)  # so that a use is told, here and below
    del held
    time.sleep(0.2)
    job.phase("small")
    time.sleep(0.2)


def test_parts_are_forecast_from_past_jobs(machine: Machine) -> None:
    """The fourth run of a function gives back in its second part what three runs before did not use there."""
    reports = [machine.manager.run(learn, 200).report for _ in range(3)]
    assert machine.changes == []
    last = machine.manager.run(learn, 200).report
    assert last.sizing is not None
    assert list(last.sizing.phases) == ["big", "small"]
    assert last.sizing.phases["small"] < last.sizing.phases["big"] / 2
    assert {each.peak_bytes > 200 * MIB for each in (last, *reports)} == {True}
    assert [phase for phase, _ in machine.changes] == ["small"]
    assert machine.changes[0][1] < 100
