"""The machine becomes smaller while jobs run inside what they were promised, and larger again.

The limit of the cgroup that stands for the machine is lowered, once gently and once to barely more than is used, and
raised again; jobs come and go meanwhile. Where there is no cgroup it says so, and nothing is lowered.

Invariant: as long as what is used fits, the kernel kills nobody; no job that keeps to its promise is killed, though it
has to wait perhaps; who asks while the machine is small gets what he asked for once it is large again; all jobs finish
with the right value, and nothing is left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import _common
import _machine
import _machine_job

from memguard.host import Fence
from memguard.units import MIB, format_bytes

REQUIREMENTS = ("R2.4", "R6.2", "T5.3", "T7.2")

_FILLED_BYTES = 80 * MIB
_NAMED_BYTES = 128 * MIB
_CPU_S = 1.0
# What the machine has beside what is used when it is made small: with less than 5 % the sentinel stops the newest jobs.
_MARGINS = (0.5, 0.3, 0.12, 0.04)
# From here on there is room for the wrapper of one more job, which then waits for its memory.
_ROOM_FOR_ONE = 0.3
# Jobs take what they were promised in this time, so it is still while the machine is small.
_FILLING_S = 0.5
_SMALL_S = 1.5
_LOOK_S = 0.02


class Jobs:
    """Wrapped commands, so many at a time."""

    def __init__(self, folder: Path, checks: _common.Checks) -> None:
        self._folder, self._checks = folder, checks
        self._running: deque[tuple[subprocess.Popen[bytes], Path]] = deque()
        self.started = self.finished = 0

    def start(self, count: int) -> None:
        """Start jobs."""
        for _ in range(count):
            self.started += 1
            errors = self._folder / f"job{self.started}.err"
            job = [sys.executable, "-IS", _machine_job.__file__, str(_FILLED_BYTES), str(_CPU_S)]
            run = ["run", "--memory", str(_NAMED_BYTES), "--name", f"job{self.started}", "--"]
            with errors.open("wb") as file:
                process = subprocess.Popen(
                    [sys.executable, "-m", "memguard", *run, *job],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=file,
                )
            self._running.append((process, errors))

    def wait(self, left: int = 0) -> None:
        """Wait until no more than so many are left, and check how the others ended."""
        while len(self._running) > left:
            process, errors = self._running.popleft()
            output, _ = process.communicate()
            words = errors.read_text(errors="replace")[-1500:]
            expected = f"{_machine_job.check_value(_FILLED_BYTES)}\n".encode()
            self._checks.check(
                process.returncode == 0 and output == expected,
                f"an honest job ended with {process.returncode} and {output!r}: {words}",
            )
            errors.unlink()
            self.finished += 1


def shrink(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Make the machine small and large again until the time is over."""
    chance, clock = random.Random(parsed.seed), _common.Clock(parsed.duration)
    pen, jobs = _machine.own_machine(), Jobs(Path(os.environ["TMPDIR"]), checks)
    smallest, rounds = parsed.capacity, 0
    with (
        _machine.Alarm(pen) as alarm,
        _machine.LedgerWatch(checks, is_fixed=False) as watch,
    ):
        while clock.left() or not rounds:
            jobs.start(parsed.jobs)
            wait_until_filled(pen, checks)
            if pen is not None:
                smallest = min(smallest, lower_for_a_while(pen, chance, parsed.capacity, jobs))
                checks.check(alarm.count() == 0, "the machine was full, and the kernel had to kill somebody")
            jobs.wait()
            rounds += 1
        checks.check(alarm.count() == 0, "the machine was full, and the kernel had to kill somebody")
    checks.check(not _machine.ledger().leases, f"leases were left: {_machine.ledger().leases}")
    print(watch.report())
    if pen is None:
        print("nothing was lowered: there is no cgroup")
    print(f"{rounds} times made smaller, down to {format_bytes(smallest)}; {jobs.finished} jobs finished")
    print(f"the sentinel meanwhile: {what_was_done()}")


def wait_until_filled(pen: Fence | None, checks: _common.Checks) -> None:
    """Wait until what is used has not grown for a while: those who run have taken what they take."""
    if pen is None:
        return
    most, since_s = 0, time.monotonic()
    while time.monotonic() - since_s < _FILLING_S or not any(
        lease.used_bytes >= _FILLED_BYTES for lease in _machine.ledger().leases
    ):
        used = pen.read().used_bytes
        if used > most + MIB:
            most, since_s = used, time.monotonic()
        if not checks.check(time.monotonic() - since_s < 60.0, "nobody began to fill what he was promised"):
            return
        time.sleep(_LOOK_S)


def lower_for_a_while(pen: Fence, chance: random.Random, capacity_bytes: int, jobs: Jobs) -> int:
    """Lower the limit, let one more job ask, and raise it again; returns how low it was."""
    margin = chance.choice(_MARGINS)
    limit = min(capacity_bytes, int(pen.read().used_bytes * (1 + margin)))
    # Where the kernel cannot drop enough file cache at once it refuses (EBUSY), and the machine stays as large.
    with contextlib.suppress(OSError):
        pen.resize(limit)
    try:
        if margin >= _ROOM_FOR_ONE:
            jobs.start(1)
        time.sleep(chance.uniform(0.2, _SMALL_S))
    finally:
        pen.resize(capacity_bytes)
    jobs.start(1)
    return limit


def what_was_done() -> str:
    """Return what the sentinel did, in words."""
    actions = _machine.ledger().actions
    rungs = [action.rung for action in actions]
    return ", ".join(f"{rungs.count(rung)} {rung}" for rung in sorted(set(rungs))) or "nothing"


def main() -> int:
    """Run it."""
    parser = _common.options(__doc__, duration_s=30.0)
    parser.add_argument("--jobs", type=int, default=8, help="jobs a round (default: 8)")
    parser.set_defaults(capacity=1024 * MIB)
    return _common.run_in_pen(shrink, parser.parse_args(), is_machine=True)


if __name__ == "__main__":
    sys.exit(main())
