"""A sentinel that fails while wrapped commands fill the machine: who was made to wait goes on, and nobody else is hurt."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard.guard.single import sentinel_of
from memguard.host import Fence, is_alive, kill_processes, start_ticks, wait_all_gone
from memguard.host.identity import read_stat
from memguard.host.readings import ProcessIdentity
from memguard.ledger.beacon import Sight, domain_file, sight_at
from memguard.ledger.place import ledger_folder
from memguard.ledger.snapshot import Snapshot, take_snapshot
from tests.support.pens import pen
from tests.support.programs import HOLDS
from tests.support.sentinels import sentinels_of

MIB = 1024**2
PATIENCE_S = 30.0
# Takes memory slowly, with no burst, and says what it has at its end.
TAKES = """
import sys, time
kept = []
for _ in range(int(sys.argv[1])):
    kept.append(b"x" * (1 << 20))
    time.sleep(0.002)
print(len(kept), flush=True)
"""


class Machine:
    """A machine of 512 MiB, on which one command keeps to its reservation, and one outgrows it and is stopped."""

    def __init__(self, kit: Any, fence: Fence) -> None:
        self.kit, self.fence = kit, fence
        self.folder = ledger_folder(kit.folder / "ledger")
        self.honest = self._start("honest", "--memory", "200MiB", "--", *_python(HOLDS, 150))
        assert kit.line(self.honest.stdout) == "ready"
        self.greedy = self._start("greedy", "--report", "greedy.json", "--", *_python(TAKES, 330))
        kit.wait_until(self.is_held, "the greedy one is stopped")

    def _start(self, name: str, *words: str) -> Any:
        environment = {"MEMGUARD_RUNTIME_DIR": str(self.folder), "MEMGUARD_LEDGER": "auto"}
        return self.kit.guard(
            "--name", name, *words, environment=environment, preexec_fn=self.fence.enter, stdin=-1
        )

    def look(self) -> Snapshot:
        return take_snapshot(self.folder, self.fence.path)

    def is_held(self) -> bool:
        """Whether the command that is over its reservation is stopped now."""
        seen = self.look()
        roots = [seen.entry(lease).root_pid for lease in seen.leases if lease.name == "greedy"]
        return [read_stat(pid).state for pid in roots if pid] == ["T"]

    def has_gone_on(self) -> bool:
        """Whether it was let go on, so far as is written down."""
        return any((each.name, each.rung) == ("greedy", "thawed") for each in self.look().actions)

    @property
    def holder(self) -> ProcessIdentity | None:
        """Who has the sentinel's lock, if he lives."""
        who = sentinel_of(self.folder, self.fence.path)
        return who if who is not None and is_alive(who) else None

    def sight(self) -> Sight | None:
        return sight_at(domain_file(self.folder, "sight", self.fence.path))

    def looks(self) -> bool:
        """Whether the sentinel that has the lock has looked."""
        who, sight = self.holder, self.sight()
        return who is not None and sight is not None and (sight.pid, sight.is_fresh()) == (who.pid, True)

    def end_well(self) -> None:
        """End the one that works: the other one goes on where it was, and both finish."""
        assert self.is_held()
        assert not self.has_gone_on()
        assert self.kit.finish(self.honest, b"").returncode == 0
        done = self.kit.finish(self.greedy, b"")
        assert (done.returncode, done.stdout) == (0, b"330\n"), done.stderr
        report = json.loads((self.kit.folder / "greedy.json").read_text())
        assert report["outcome"] == "completed"
        assert self.fence.read().oom_kills == 0
        assert {each.rung for each in self.look().actions if each.name == "honest"} <= {"shed"}

    def close(self) -> None:
        if who := self.holder:
            kill_processes([(who.pid, who.start_ticks)])


def _python(program: str, mib: int) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", program, str(mib))


@pytest.fixture
def machine(kit: Any) -> Iterator[Machine]:
    """The machine, with one of its commands stopped."""
    with pen(512 * MIB) as fence:
        made = Machine(kit, fence)
        try:
            yield made
        finally:
            kit.end()
            made.close()


def killed(who: ProcessIdentity) -> None:
    assert kill_processes([(who.pid, who.start_ticks)])
    assert wait_all_gone([(who.pid, who.start_ticks)], PATIENCE_S)


@pytest.mark.requirement("T5.2", "T5.3", "R6.3")
def test_one_that_is_killed_while_it_holds_somebody(machine: Machine) -> None:
    """Who was stopped stays stopped without it; the next one, which a wrapper starts, lets it go on in its turn."""
    first = machine.holder
    assert first is not None
    killed(first)
    assert machine.is_held()
    machine.kit.wait_until(machine.looks, "the next one looks")
    assert machine.holder != first
    machine.end_well()


@pytest.mark.requirement("T5.2", "T5.3", "R6.3")
def test_one_that_is_frozen_while_it_holds_somebody(machine: Machine) -> None:
    """Stopped with SIGSTOP it keeps its lock and sees nothing: a wrapper kills it, and another one takes over."""
    first = machine.holder
    assert first is not None
    os.kill(first.pid, signal.SIGSTOP)
    machine.kit.wait_until(lambda: not is_alive(first), "it is killed")
    machine.kit.wait_until(machine.looks, "the next one looks")
    machine.end_well()


STEPS: dict[str, Callable[[Machine], set[int]]] = {
    "is started": lambda machine: sentinels_of(machine.folder),
    "has the lock": lambda machine: {who.pid for who in (machine.holder,) if who is not None},
    "has looked": lambda machine: STEPS["has the lock"](machine) if machine.looks() else set(),
}


@pytest.mark.requirement("T5.2", "T5.3")
@pytest.mark.parametrize("step", STEPS)
def test_one_that_is_killed_while_it_takes_over(machine: Machine, step: str) -> None:
    """At whatever step the next one dies as well, the one after it finds who was stopped, and lets it go on."""
    first = machine.holder
    assert first is not None
    killed(first)
    machine.kit.wait_until(lambda: STEPS[step](machine), f"the next one {step}")
    # Two wrappers may have started one each, of which the second would go by itself.
    next_ones = {pid: ticks for pid in STEPS[step](machine) if (ticks := start_ticks(pid)) is not None}
    kill_processes(next_ones.items())
    assert wait_all_gone(next_ones.items(), PATIENCE_S)
    assert machine.is_held()
    machine.kit.wait_until(machine.looks, "a third one looks")
    assert machine.holder is not None
    assert machine.holder.pid not in {first.pid, *next_ones}
    machine.end_well()
