"""Sixty-four processes on one ledger that ask for memory, use it, ask for more and give it back, as chance has it.

Invariant: never more is promised than there is, and the kernel kills nobody; nobody starves: while one waits the others
have ten turns each at most; all of them come to an end, and no lease is left. The longest wait is told.

Each tells of its use a moment late, as guards do that look now and then.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import struct
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from typing import NoReturn

import _common
import _machine

from memguard.config import Settings
from memguard.guard.spawn import ensure_sentinel
from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.place import ledger_folder
from memguard.ledger.room import room_for
from memguard.ledger.waiting import HeldLease, acquire
from memguard.units import MIB

REQUIREMENTS = ("R7.3", "T1.2", "T7.3")

# Of what there is, one asks for at most so much; half of them ask for a tenth of it.
_LARGEST_PART = 0.4
# Used of it: what all of them take and give back within a look of the sentinel must be little beside the reserve, or
# it takes them for somebody who fills the machine, and rightly lets nobody begin.
_MOST_USED_BYTES = 8 * MIB
_LONGEST_HOLD_S = 0.03
_LATE_S = 0.01
# Turns of each other process while one waits: first come is first served but for those who fit in beside him.
_MOST_OVERTAKEN = 10


@dataclass(slots=True)
class Tally:
    """What one process met."""

    turns: int = 0
    waited: int = 0
    longest_wait_s: float = 0.0
    most_overtaken: int = 0
    grown: int = 0
    refused: int = 0


class Turns:
    """How many turns each process had, where all of them see it."""

    _FIELD = struct.Struct("=Q")

    def __init__(self, processes: int) -> None:
        self._memory = mmap.mmap(-1, processes * self._FIELD.size)

    def count(self, number: int) -> None:
        """Count a turn of one, who alone writes there."""
        at = number * self._FIELD.size
        self._FIELD.pack_into(self._memory, at, self._FIELD.unpack_from(self._memory, at)[0] + 1)

    def total(self) -> int:
        """Return the turns of all."""
        return sum(count for (count,) in self._FIELD.iter_unpack(self._memory[:]))


class Worker:
    """One process that has its turns until the time is over."""

    def __init__(self, number: int, book: LedgerBook, chosen: Settings, seed: int, turns: Turns) -> None:
        self._number, self._book, self._settings, self._turns = number, book, chosen, turns
        self._chance = random.Random(f"{seed}.{number}")
        self._most_bytes = int(_LARGEST_PART * book.room().capacity_bytes)
        self.tally = Tally()

    def work(self, clock: _common.Clock) -> Tally:
        """Have turns; the last one begins before the time is over, and there are two at least."""
        while clock.left() or self.tally.turns < 2:
            self._take_turn()
        return self.tally

    def _take_turn(self) -> None:
        most = self._most_bytes if self._chance.random() < 0.5 else self._most_bytes // 10
        wanted = self._chance.randrange(MIB, most)
        name = f"process{self._number}.{self.tally.turns}"
        began_s, before, waited = time.monotonic(), self._turns.total(), list[int]()
        with acquire(self._book, Wish(name, name, wanted), on_wait=lambda _: waited.append(1)) as lease:
            self.tally.longest_wait_s = max(self.tally.longest_wait_s, time.monotonic() - began_s)
            self.tally.most_overtaken = max(self.tally.most_overtaken, self._turns.total() - before)
            self.tally.waited += len(waited)
            self._turns.count(self._number)
            ensure_sentinel(self._settings, self._book.folder, self._book.domain)
            self._use(lease, wanted)
        self.tally.turns += 1

    def _use(self, lease: HeldLease, promised_bytes: int) -> None:
        """Use a part of it, perhaps more of it, and perhaps nothing again while it is still promised."""
        used = self._chance.randrange(min(promised_bytes, _MOST_USED_BYTES))
        with mmap.mmap(-1, promised_bytes, flags=mmap.MAP_PRIVATE) as memory:
            take(memory, used, lease)
            if self._chance.random() < 0.5:
                self._grow(lease, self._chance.randrange(MIB, 8 * MIB))
            time.sleep(self._chance.uniform(0, _LONGEST_HOLD_S))
            memory.madvise(mmap.MADV_DONTNEED)
            time.sleep(_LATE_S)
            lease.note_used(0)
            if self._chance.random() < 0.3:  # it was promised, so it may be taken again
                take(memory, used, lease)

    def _grow(self, lease: HeldLease, extra_bytes: int) -> None:
        if lease.grow_nowait(extra_bytes):
            self.tally.grown += 1
            if self._chance.random() < 0.5:
                lease.grow_nowait(-extra_bytes)
        else:
            self.tally.refused += 1


def take(memory: mmap.mmap, count_bytes: int, lease: HeldLease) -> None:
    """Take memory for real, and tell of it on the way, as a guard does."""
    for start in range(0, count_bytes, MIB):
        end = min(start + MIB, count_bytes)
        for page in range(start, end, mmap.PAGESIZE):
            memory[page] = 1
        lease.note_used(end)


def crowd(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Start them all, and look at the ledger until the last one has ended."""
    chosen, pen = _machine.settings(), _machine.own_machine()
    ledger_folder(chosen.runtime_dir)
    began_s = time.monotonic()
    # Forked before there is a thread here, and let go all at once.
    start, go = os.pipe()
    turns = Turns(parsed.processes)
    workers = {
        number: fork_worker(number, chosen, parsed, turns, (start, go)) for number in range(parsed.processes)
    }
    os.close(start)
    with _machine.Alarm(pen) as alarm, _machine.LedgerWatch(checks) as watch:
        os.close(go)
        tallies = [hear(number, *worker, checks) for number, worker in workers.items()]
        checks.check(alarm.count() == 0, "the machine was full, and the kernel had to kill")
    took_s = time.monotonic() - began_s
    checks.check(not _machine.ledger().leases, f"leases were left: {_machine.ledger().leases}")
    overtaken = max(tally.most_overtaken for tally in tallies)
    most = _MOST_OVERTAKEN * parsed.processes
    checks.check(overtaken <= most, f"while one waited the others had {overtaken} turns, more than {most}")
    print(watch.report())
    tell(tallies, took_s)


def fork_worker(
    number: int, chosen: Settings, parsed: argparse.Namespace, turns: Turns, gate: tuple[int, int]
) -> tuple[int, int]:
    """Fork one; returns its pid, and where it tells what it met."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(gate[1])
        os.close(reader)
        be_worker(number, chosen, parsed, turns, (gate[0], writer))
    os.close(writer)
    return pid, reader


def be_worker(
    number: int, chosen: Settings, parsed: argparse.Namespace, turns: Turns, pipes: tuple[int, int]
) -> NoReturn:
    """Work from the common start on, and tell; never returns into the copy of the program."""
    status, (start, writer) = 1, pipes
    try:
        folder = ledger_folder(chosen.runtime_dir)
        with LedgerBook(folder, lambda: room_for(chosen)) as book:
            worker = Worker(number, book, chosen, parsed.seed, turns)
            os.read(start, 1)  # ends when the other end is closed
            tally = worker.work(_common.Clock(parsed.duration))
        os.write(writer, json.dumps(asdict(tally)).encode())
        status = 0
    except BaseException:  # noqa: BLE001 - told here; nothing of it may reach the copied stack
        traceback.print_exc()
    finally:
        os._exit(status)


def hear(number: int, pid: int, reader: int, checks: _common.Checks) -> Tally:
    """Wait for the end of one, and check it."""
    with open(reader, "rb") as file:
        told = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    checks.check(status == 0, f"process {number} ended with status {status}")
    return Tally(**json.loads(told)) if told else Tally()


def tell(tallies: list[Tally], took_s: float) -> None:
    """Print the figures."""
    turns = [tally.turns for tally in tallies]
    waited = sum(tally.waited for tally in tallies)
    longest = max(tally.longest_wait_s for tally in tallies)
    grown, refused = sum(tally.grown for tally in tallies), sum(tally.refused for tally in tallies)
    print(
        f"{len(tallies)} processes: {sum(turns)} turns in {took_s:.1f} s ({sum(turns) / took_s:.0f} a second), "
        f"{min(turns)} to {max(turns)} each"
    )
    print(
        f"{waited} turns had to wait, the longest for {longest:.2f} s, and for at most "
        f"{max(tally.most_overtaken for tally in tallies)} turns of others; grown {grown} times, refused {refused}"
    )


def main() -> int:
    """Run the crowd."""
    parser = _common.options(__doc__, duration_s=20.0)
    parser.add_argument("--processes", type=int, default=64, help="how many (default: 64)")
    return _common.run_in_pen(crowd, parser.parse_args(), is_machine=True)


if __name__ == "__main__":
    sys.exit(main())
