"""Hours of jobs, blocks and commands in minutes: one after the other without a pause, and nothing grows.

Invariant: after a warm-up neither the private memory of caller, templates and sentinel nor the runtime directory grows,
by less than 5 MiB in all and, with 95 % confidence, by less than a page a round; descriptors and threads do not rise;
the sentinel stays the same; and at the end nothing is left.

A round is a job, a block and, each fifth time, a command. A manager keeps the last hundred reports, some KiB each, so
the counting begins when that many jobs have run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import _common
import _machine

from memguard import MemoryManager
from memguard.guard.single import sentinel_of
from memguard.host import children_of, is_alive, read_process_memory
from memguard.leasing import Tenure, leased
from memguard.ledger.book import Wish
from memguard.ledger.room import room_for
from memguard.testing import allocate
from memguard.units import MIB, format_bytes

REQUIREMENTS = ("R1.1", "R1.2", "R2.3", "T7.1")

_WARM_UP = 110
# Below that the interval of a slope says nothing; above that more readings say no more.
_FEWEST, _MOST_READINGS = 30, 300
_MOST_GROWTH_BYTES = 5 * MIB
# As in repeat_jobs.py: an allocator takes a page here or there, which is no leak.
_NO_SLOPE_BYTES = os.sysconf("SC_PAGESIZE")
# SQLite writes its log from the beginning again at a thousand pages, unless somebody reads just then.
_LARGEST_LOG_BYTES = 16 * MIB
_TAKEN_BYTES = 8 * MIB
_COMMAND_EVERY = 5
_COMMAND = "held = bytearray(8 << 20); print(len(held))"


@dataclass(frozen=True, slots=True)
class Reading:
    """What there is after a round; sizes in bytes."""

    caller: int
    templates: int
    sentinel: int
    runtime_directory: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What there is after a round, counted."""

    descriptors: int
    threads: int
    sentinel_descriptors: int
    sentinel_threads: int


def allocating(size_bytes: int) -> bytes:
    """Take memory and return some of it."""
    return bytes(allocate(size_bytes)[: size_bytes // 8])


class Soak:
    """Rounds, and what was read after each."""

    def __init__(self, manager: MemoryManager, tenure: Tenure, checks: _common.Checks) -> None:
        self._manager, self._tenure, self._checks = manager, tenure, checks
        settings = _machine.settings()
        assert settings.runtime_dir is not None
        self._folder, self._domain = settings.runtime_dir, room_for(settings).domain
        self._rounds = 0
        self.sentinels: set[int] = set()
        self.readings: list[Reading] = []
        self.counts: list[Counts] = []
        self.largest_log = 0

    def round(self) -> None:
        """Run a job, a block, and now and then a command."""
        self._rounds += 1
        self._tenure.note(0)  # and sees to it that there is a sentinel
        result = self._manager.run(allocating, _TAKEN_BYTES, memory="64MiB")
        self._checks.check(len(result.value) == _TAKEN_BYTES // 8, "a job returned something else")
        with self._manager.managed_processing("block", memory="64MiB") as block:
            held = allocate(_TAKEN_BYTES)
            block.checkpoint()
            del held
        if self._rounds % _COMMAND_EVERY == 0:
            words = ["run", "-q", "--memory", "64MiB", "--", sys.executable, "-IS", "-c", _COMMAND]
            done = subprocess.run(
                [sys.executable, "-m", "memguard", *words], capture_output=True, text=True, check=False
            )
            self._checks.check(done.stdout == f"{8 << 20}\n", f"a command ended as {done}")

    def look(self) -> None:
        """Read everything."""
        who = sentinel_of(self._folder, self._domain)
        if not self._checks.check(who is not None and is_alive(who), "no sentinel watches"):
            return
        assert who is not None
        self.sentinels.add(who.pid)
        sizes = {path.name: path.stat().st_size for path in self._folder.iterdir()}
        log = sum(size for name, size in sizes.items() if name.endswith("-wal"))
        self.largest_log = max(self.largest_log, log)
        templates = sum(read_process_memory(pid).private_bytes for pid, _ in children_of(os.getpid()))
        self.readings.append(
            Reading(
                read_process_memory().private_bytes,
                templates,
                read_process_memory(who.pid).private_bytes,
                sum(sizes.values()) - log,
            )
        )
        self.counts.append(
            Counts(_common.descriptor_count(), threads(os.getpid()), descriptors(who.pid), threads(who.pid))
        )


def descriptors(pid: int) -> int:
    """Return how many descriptors another process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def soak(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Warm up, go on until the time is over, and judge."""
    # Somebody has a lease all the time: a sentinel may miss those that come and go between its looks, and end.
    stays = Wish(_common.run_id(), "stays", MIB)
    with (
        leased(_machine.settings(), stays, limit_bytes=MIB) as tenure,
        MemoryManager("70%") as manager,
    ):
        it = Soak(manager, tenure, checks)
        for _ in range(parsed.warm_up):
            it.round()
        clock, began_s = _common.Clock(60.0 * parsed.minutes), time.monotonic()
        while clock.left() or len(it.readings) < _FEWEST:
            it.round()
            it.look()
        print(f"{len(it.readings)} rounds in {time.monotonic() - began_s:.0f} s, after {parsed.warm_up}")
        judge(it, checks)


def judge(it: Soak, checks: _common.Checks) -> None:
    """Check that nothing grew."""
    for name in asdict(it.readings[0]):
        judge_growth(name, [getattr(reading, name) for reading in it.readings], checks)
    for name, first in asdict(it.counts[0]).items():
        counts = [getattr(count, name) for count in it.counts]
        # A thread that ends, or a connection that closes, is seen at a single look.
        lowest_late, most = min(counts[len(counts) // 2 :]), max(counts)
        print(f"{name}: {first} at first, {counts[-1]} at last, {min(counts)} to {most}")
        checks.check(lowest_late <= first, f"{name} rose from {first} to {lowest_late} and more")
    print(f"the ledger's log had {format_bytes(it.largest_log)} at most")
    checks.check(it.largest_log <= _LARGEST_LOG_BYTES, f"the ledger's log grew to {it.largest_log} bytes")
    checks.check(len(it.sentinels) == 1, f"there was more than one sentinel: {it.sentinels}")


def judge_growth(name: str, readings: Sequence[int], checks: _common.Checks) -> None:
    """Check a series; the slope is that of every n-th reading, given for one round."""
    step = -(-len(readings) // _MOST_READINGS)
    growth = _common.robust_slope(list(readings[::step]))
    print(f"{name}: {readings[0] / MIB:.2f} MiB at first, {growth}" + (f" x {step}" if step > 1 else ""))
    checks.check(growth.total < _MOST_GROWTH_BYTES, f"{name} grew: {growth}")
    checks.check(growth.low / step < _NO_SLOPE_BYTES, f"{name} grows with each round: {growth}")


def main() -> int:
    """Run the soak."""
    parser = _common.options(__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="to go on after the warm-up (default: 1)")
    parser.add_argument(
        "--warm-up", type=int, default=_WARM_UP, help=f"rounds before it counts (default: {_WARM_UP})"
    )
    parsed = parser.parse_args()
    parsed.duration = 60.0 * parsed.minutes + 3.0 * parsed.warm_up
    return _common.run_in_pen(soak, parsed, is_machine=True)


if __name__ == "__main__":
    sys.exit(main())
