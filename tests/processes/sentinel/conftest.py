"""Small machines with a sentinel: a cgroup with a limit, a ledger, jobs that take what they are told to take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memguard.guard.single import sentinel_of
from memguard.host import Fence, is_alive, kill_processes
from memguard.host.identity import read_stat
from memguard.host.readings import ProcessIdentity
from memguard.ledger.beacon import Sight, domain_file, sight_at
from memguard.ledger.book import LedgerBook
from memguard.ledger.records import Action, Room
from memguard.units import MIB
from tests.support import holder
from tests.support.guarded import eventually
from tests.support.pens import pen

ROOT = Path(__file__).resolve().parents[3]


class Job:
    """A job that holds a lease, and the process that is its tree."""

    def __init__(self, machine: Machine, name: str, mib: int, **more: object) -> None:
        self.name, self._machine = name, machine
        order = {"folder": str(machine.folder), "name": name, "mib": mib, **more}
        self.holder = subprocess.Popen(
            [sys.executable, holder.__file__, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
            preexec_fn=machine.enter,  # noqa: PLW1509 - one write, and there is no other thread here
        )
        self.wait("ready")

    def wait(self, word: str) -> None:
        """Wait until the process says a word."""
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == f"{word}\n"

    def take(self, mib: int, pause_s: float = 0.0) -> None:
        """Tell it to take so much, a MiB at a time; does not wait for it."""
        self.tell(f"{mib} {pause_s}")

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self.holder.stdin is not None
        self.holder.stdin.write(f"{line}\n")
        self.holder.stdin.flush()

    @property
    def pid(self) -> int:
        """The process that takes memory."""
        entry = next(
            self._machine.book.entry(lease)
            for lease in self._machine.book.leases()
            if lease.name == self.name
        )
        return entry.root_pid

    @property
    def asked(self) -> list[str]:
        """What was asked of it so far, as its guard saw it."""
        path = self._machine.folder / f"{self.name}.asked"
        return path.read_text().split() if path.exists() else []

    def is_stopped(self) -> bool:
        """Whether its process is stopped now."""
        return read_stat(self.pid).state == "T"

    def end(self) -> None:
        """End it as a job ends that is done, and wait for that."""
        assert self.holder.stdin is not None
        if not self.holder.stdin.closed:
            self.holder.stdin.close()
        self.holder.wait(20)


class Machine:
    """What the jobs of a test share."""

    def __init__(self, folder: Path, fence: Fence | None) -> None:
        self.folder, self.fence = folder, fence
        self.book = LedgerBook(folder, lambda: Room(2**40, 2**40, "the test"))
        self.domain = fence.path if fence is not None else self.book.domain
        self._jobs: list[Job] = []

    def enter(self) -> None:
        """Go inside; for a process between its fork and its program."""
        if self.fence is not None:
            self.fence.enter()

    def job(self, name: str, mib: int, **more: object) -> Job:
        """Start a job that holds so many MiB, and wait until it runs."""
        self._jobs.append(Job(self, name, mib, **more))
        return self._jobs[-1]

    @property
    def sentinel(self) -> ProcessIdentity | None:
        """The sentinel, if it lives."""
        who = sentinel_of(self.folder, self.domain)
        return who if who is not None and is_alive(who) else None

    def sight(self) -> Sight | None:
        """What the sentinel saw last; ``None`` while none looks."""
        sight = sight_at(domain_file(self.folder, "sight", self.domain))
        return sight if sight is not None and sight.is_fresh() and self.sentinel is not None else None

    def watched(self) -> ProcessIdentity:
        """Wait until a sentinel looks; returns who it is."""

        def looks() -> ProcessIdentity | None:
            who, sight = self.sentinel, self.sight()
            return who if who is not None and sight is not None and sight.pid == who.pid else None

        found: Any = eventually(looks)
        assert found
        return found  # type: ignore[no-any-return]

    def actions(self, name: str, rung: str = "") -> list[Action]:
        """What was done to a job."""
        return [each for each in self.book.actions(name) if not rung or each.rung == rung]

    def log(self) -> list[dict[str, Any]]:
        """What the sentinels logged."""
        path = domain_file(self.folder, "sentinel.log", self.domain)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        """End all that was started."""
        for job in self._jobs:
            job.holder.kill()
            job.holder.wait()
            for stream in (job.holder.stdin, job.holder.stdout):
                if stream is not None:
                    stream.close()
        if (who := self.sentinel) is not None:
            kill_processes([(who.pid, who.start_ticks)])
            assert eventually(lambda: not is_alive(who))
        self.book.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Machine]:
    """A machine of 256 MiB."""
    (tmp_path / "ledger").mkdir(mode=0o700)
    with pen(256 * MIB) as fence:
        machine = Machine(tmp_path / "ledger", fence)
        try:
            yield machine
        finally:
            machine.close()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Machine]:
    """This machine, with a ledger of its own."""
    (tmp_path / "ledger").mkdir(mode=0o700)
    machine = Machine(tmp_path / "ledger", None)
    try:
        yield machine
    finally:
        machine.close()
