"""Kill -9 and SIGSTOP at random, of anybody who has to do with the ledger.

Holders and waiters, wrapped commands and their wrappers, managers, their templates, keepers and jobs, the sentinel: one
is killed, or stopped for some seconds and then killed or let go on.

Invariant: never more is promised to the living than there is; a dead owner's lease goes while somebody looks; whoever
was not hit himself finishes with the right value; then a new job works, and nothing is left: no lease, frozen process,
fence, or unknown file.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import _common
import _machine
import _machine_job

from memguard.guard.single import sentinel_of
from memguard.guard.spawn import is_sentinel
from memguard.host import Fence, children_of, is_alive, kill_processes, start_ticks
from memguard.ledger.room import room_for
from memguard.units import MIB

REQUIREMENTS = ("R1.4", "R2.4", "T7.3", "U2")

# Holds a lease of so many MiB with a guard of its own for a while; waits for it first, as a rule.
_HOLDER = """
import sys, time
from memguard.config import load_settings
from memguard.leasing import leased
from memguard.ledger.book import Wish
chosen, size, held_s = load_settings(), int(sys.argv[2]), float(sys.argv[3])
with leased(chosen, Wish(sys.argv[1], sys.argv[1], size), limit_bytes=size) as tenure:
    kept, until = bytearray(size // 2), time.monotonic() + held_s
    while time.monotonic() < until:
        tenure.note(len(kept))
        time.sleep(0.02)
print(len(kept), flush=True)
"""
_JOB_BYTES = 32 * MIB
_NAMED_BYTES = 80 * MIB
# Six holders of a fifth each, and the others: somebody always waits.
_HOLDERS, _COMMANDS, _MANAGERS = 6, 3, 2
_PAUSE_S = 0.4
_LONGEST_STOP_S = 3.0
# Until the leases of the dead are gone at the end: the sentinel looks for them every five seconds, and may have to come
# back first.
_STRUCK_WITHIN_S = 30.0
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(slots=True)
class Party:
    """A process that was started, with all that it starts; what it should print if nobody of it is hit."""

    kind: str
    process: subprocess.Popen[bytes]
    expected: bytes
    errors: Path
    was_hit: bool = False

    def members(self) -> list[tuple[int, int]]:
        """Return all its processes, the sentinel left out."""
        ticks = start_ticks(self.process.pid)
        return [] if ticks is None else list(below(self.process.pid, ticks))


def below(pid: int, ticks: int) -> Iterator[tuple[int, int]]:
    """Give a process and its descendants; the sentinel is nobody's."""
    if not is_sentinel(pid):
        yield pid, ticks
        for child in children_of(pid):
            yield from below(*child)


@dataclass(slots=True)
class Crowd:
    """Those who run now. It starts others where one has ended."""

    chance: random.Random
    folder: Path
    capacity_bytes: int
    checks: _common.Checks
    parties: list[Party] = field(default_factory=list)
    started: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)

    def fill(self) -> None:
        """Start what is missing."""
        for kind, wanted in (("holder", _HOLDERS), ("command", _COMMANDS), ("manager", _MANAGERS)):
            for _ in range(wanted - sum(party.kind == kind for party in self.parties)):
                self.parties.append(self._start(kind))

    def _start(self, kind: str) -> Party:
        self.started[kind] += 1
        name = f"{kind}{self.started[kind]}"
        job = [_machine_job.__file__, str(_JOB_BYTES), f"{self.chance.uniform(0.1, 0.6):.2f}"]
        value = _machine_job.check_value(_JOB_BYTES)
        if kind == "holder":
            size = self.capacity_bytes // 5
            words = [sys.executable, "-c", _HOLDER, name, str(size), f"{self.chance.uniform(0.1, 1.5):.2f}"]
            value = size // 2
        elif kind == "command":
            words = [*memguard_run(name), sys.executable, "-IS", *job]
        else:
            report = str(self.folder / f"{name}.json")
            words = [sys.executable, *job, name, str(_NAMED_BYTES), report, "3"]
        errors = self.folder / f"{name}.err"
        with errors.open("wb") as file:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file, cwd=_ROOT
            )
        return Party(kind, process, f"{value}\n".encode(), errors)

    def reap(self) -> None:
        """Check those who have ended."""
        for party in [each for each in self.parties if each.process.poll() is not None]:
            self.parties.remove(party)
            assert party.process.stdout is not None
            with party.process.stdout as file:
                # Somebody whom a killed one left behind may still have the other end.
                output = file.read1() if party.was_hit else file.read()
            self.finished[f"{party.kind}, {'hit' if party.was_hit else 'not hit'}"] += 1
            if not party.was_hit:
                status, words = party.process.returncode, party.errors.read_text(errors="replace")[-1500:]
                self.checks.check(
                    status == 0 and output == party.expected,
                    f"a {party.kind} that nobody hit ended with {status} and {output!r}: {words}",
                )

    def finish(self) -> None:
        """Wait for all; what does not end runs into the end of the program's time."""
        while self.parties:
            self.reap()
            time.sleep(0.02)


class Stops:
    """Lets those go on who were stopped, or kills them, each in his time."""

    def __init__(self) -> None:
        self._timers: list[threading.Timer] = []

    def stop(self, who: tuple[int, int], for_s: float, then: signal.Signals) -> None:
        """Stop one, and send him another signal later."""
        kill_processes([who], signal.SIGSTOP)
        timer = threading.Timer(for_s, kill_processes, ([who], then))
        timer.start()
        self._timers.append(timer)

    def wait(self) -> None:
        """Wait until all of them had their second signal."""
        for timer in self._timers:
            timer.join()


def chaos(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Hit somebody again and again until the time is over, then let all others finish."""
    chance, clock, hits = random.Random(parsed.seed), _common.Clock(parsed.duration), Counter[str]()
    capacity = room_for(_machine.settings()).capacity_bytes
    folder, pen, stops = Path(os.environ["TMPDIR"]), _machine.own_machine(), Stops()
    crowd = Crowd(chance, folder, capacity, checks)
    with _machine.Alarm(pen) as alarm, _machine.LedgerWatch(checks) as watch:
        while clock.left():
            crowd.fill()
            time.sleep(chance.uniform(0.0, 2 * _PAUSE_S))
            hits[hit(crowd, chance, stops)] += 1
            crowd.reap()
        stops.wait()
        crowd.finish()
        checks.check(alarm.count() == 0, "the machine was full, and the kernel had to kill somebody")
        check_nobody_stopped(pen, checks)
        check_new_job(checks)
    print(watch.report())
    for title, counter in (("hit", hits), ("ended", crowd.finished)):
        print(f"{title}: {', '.join(f'{times} {what}' for what, times in sorted(counter.items()))}")
    for path in folder.iterdir():
        if path.suffix in (".json", ".err", ".part"):
            path.unlink()


def hit(crowd: Crowd, chance: random.Random, stops: Stops) -> str:
    """Kill or stop somebody; returns what was done to whom."""
    if chance.random() < 0.15:
        who, name = the_sentinel(), "sentinel"
    else:
        party = chance.choice(crowd.parties)
        members = party.members()
        inner = members[1:] if chance.random() < 0.6 else []
        who = chance.choice(inner or members) if members else None
        party.was_hit = party.was_hit or who is not None
        name = f"{party.kind}'s own" if who and who[0] == party.process.pid else f"{party.kind}'s descendant"
    if who is None:
        return "nobody there"
    if chance.random() < 0.5:
        kill_processes([who], signal.SIGKILL)
        return f"{name} killed"
    then = chance.choice((signal.SIGCONT, signal.SIGKILL))
    stops.stop(who, chance.uniform(0.2, _LONGEST_STOP_S), then)
    return f"{name} stopped"


def the_sentinel() -> tuple[int, int] | None:
    """Return who watches, if anybody does."""
    chosen = _machine.settings()
    assert chosen.runtime_dir is not None
    who = sentinel_of(chosen.runtime_dir, room_for(chosen).domain)
    return (who.pid, who.start_ticks) if who is not None and is_alive(who) else None


def memguard_run(name: str) -> list[str]:
    """Return the words that wrap a command."""
    return [sys.executable, "-m", "memguard", "run", "--memory", str(_NAMED_BYTES), "--name", name, "--"]


def check_new_job(checks: _common.Checks) -> None:
    """A new job works, strikes what the dead left, and sees to the sentinel."""
    done = subprocess.run([*memguard_run("last"), "true"], check=False, capture_output=True, text=True)
    checks.check(done.returncode == 0, f"a new job ended with {done.returncode}: {done.stderr}")
    until_s = time.monotonic() + _STRUCK_WITHIN_S
    while (leases := _machine.ledger().leases) and time.monotonic() < until_s:
        time.sleep(0.1)
    checks.check(not leases, f"leases were left: {', '.join(map(_machine.told, leases))}")


def check_nobody_stopped(pen: Fence | None, checks: _common.Checks) -> None:
    """Nobody stays stopped who was stopped, by this program or by the sentinel."""
    frozen = [pid for pid in (pen.pids() if pen is not None else ()) if is_stopped(pid)]
    checks.check(not frozen, f"processes are still stopped: {frozen}")


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def main() -> int:
    """Run the chaos."""
    return _common.run_in_pen(chaos, _common.options(__doc__, duration_s=60.0).parse_args(), is_machine=True)


if __name__ == "__main__":
    sys.exit(main())
