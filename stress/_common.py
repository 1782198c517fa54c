"""What every stress program shares: a pen to run in, checks that are counted, and a look at what was left behind.

A program's body runs in a child process inside a memory cgroup of its own (the pen), where one can be made. The
process outside waits for it and then looks for anything that outlived it: processes, fences, files. So a body that
crashes or hangs is noticed and cleared away like one that ends well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import _machine

from memguard.host import (
    Fence,
    become_subreaper,
    children_of,
    kill_processes,
    open_fence,
    probe,
    processes_with_environment,
    start_ticks,
    wait_all_gone,
)
from memguard.units import format_bytes, parse_size

__all__ = [
    "RUN_VARIABLE",
    "Checks",
    "Clock",
    "Growth",
    "descriptor_count",
    "options",
    "robust_slope",
    "run_id",
    "run_in_pen",
    "sen_interval",
]

# In the environment of everything that a program starts; names of files it makes contain the value.
RUN_VARIABLE: Final = "STRESS_RUN"
# Beyond its duration a program may still wait for jobs that it started.
_OVERTIME_S: Final = 120.0
_SHARED_MEMORY: Final = Path("/dev/shm")


@dataclass(slots=True)
class Checks:
    """Counts what was checked and tells what did not hold."""

    passed: int = 0
    violations: list[str] = field(default_factory=list)

    def check(self, holds: bool, what: str) -> bool:
        """Count one check; a violation is printed at once."""
        if holds:
            self.passed += 1
        else:
            self.violations.append(what)
            print(f"VIOLATION: {what}", flush=True)
        return holds

    def status(self) -> int:
        """Return the exit status: 0 if everything held and something was checked."""
        return 0 if self.passed and not self.violations else 1


class Clock:
    """Says whether there is time for another round."""

    def __init__(self, duration_s: float) -> None:
        self._end_s = time.monotonic() + duration_s

    def left(self) -> bool:
        """Whether the duration is not over."""
        return time.monotonic() < self._end_s


def options(
    description: str | None, *, count: int | None = None, duration_s: float | None = None
) -> argparse.ArgumentParser:
    """Return a parser with ``--seed``, ``--capacity`` and, where given, ``--count`` or ``--duration``."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n\n")[0])
    parser.add_argument(
        "--seed", type=int, default=1, help="what is chosen at random follows from it (default: 1)"
    )
    parser.add_argument(
        "--capacity", type=_capacity, default=_capacity("1.5GiB"), help="memory of the pen (default: 1.5GiB)"
    )
    # A template and its keepers end within milliseconds of their owner; this is for a busy machine.
    parser.add_argument(
        "--patience", type=float, default=15.0, help="seconds for what was started to be gone (default: 15)"
    )
    if count is not None:
        parser.add_argument("--count", type=int, default=count, help=f"how many (default: {count})")
    if duration_s is not None:
        parser.add_argument(
            "--duration", type=float, default=duration_s, help=f"seconds to go on (default: {duration_s:g})"
        )
    return parser


def _capacity(text: str) -> int:
    return parse_size(text).resolve(0)


def run_id() -> str:
    """Return what marks the processes and files of this run."""
    return os.environ[RUN_VARIABLE]


def run_in_pen(
    body: Callable[[argparse.Namespace, Checks], None],
    parsed: argparse.Namespace,
    *,
    is_machine: bool = False,
) -> int:
    """Run a program's body in a pen, then look for what it left; prints and returns the exit status.

    The program is started a second time for the body: a forked copy would inherit memory that turns private page by
    page, and look as if it grew.

    Args:
        body: what to run.
        parsed: of `options`.
        is_machine: whether the pen stands for a machine, with a ledger and a sentinel of its own; see `_machine`.
    """
    if RUN_VARIABLE in os.environ:
        return _be_body(body, parsed)
    checks = Checks()
    with _pen(parsed.capacity, is_machine=is_machine) as (pen, scratch):
        allowed_s = getattr(parsed, "duration", 600.0) + _OVERTIME_S
        status = _run_again(pen, allowed_s)
        checks.check(status == 0, f"the body ended with status {status}")
        _check_nothing_left(pen, scratch, parsed.patience, checks)
    verdict = "held" if checks.status() == 0 else "VIOLATED"
    print(f"invariant {verdict} (seed {parsed.seed})", flush=True)
    return checks.status()


def _be_body(body: Callable[[argparse.Namespace, Checks], None], parsed: argparse.Namespace) -> int:
    checks = Checks()
    body(parsed, checks)
    print(f"{checks.passed} checks held, {len(checks.violations)} did not", flush=True)
    return checks.status()


@contextlib.contextmanager
def _pen(capacity_bytes: int, *, is_machine: bool) -> Iterator[tuple[Fence | None, Path]]:
    os.environ[RUN_VARIABLE] = f"stress{os.getpid()}{secrets.token_hex(4)}"
    become_subreaper()  # what loses its parent inside comes here, and is seen
    scratch = Path(tempfile.mkdtemp(prefix=run_id()))
    os.environ["TMPDIR"] = str(scratch)
    if is_machine:
        pen = _machine.open_machine(capacity_bytes)
        _machine.prepare(pen, scratch, capacity_bytes)
    else:
        pen = open_fence("stress", capacity_bytes)
    where = f"{pen.path} of {format_bytes(capacity_bytes)}" if pen else f"none: {probe().fence.reason}"
    print(f"pen: {where}", flush=True)
    try:
        yield pen, scratch
    finally:
        if pen is not None:
            pen.kill_all()
            pen.remove()
        shutil.rmtree(scratch)


def _run_again(pen: Fence | None, allowed_s: float) -> int:
    pid = os.fork()
    if pid == 0:
        _become_body(pen)
    handle = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    if not poll.poll(allowed_s * 1000):
        print(f"VIOLATION: still running after {allowed_s:g} s", flush=True)
        os.kill(pid, signal.SIGKILL)
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _become_body(pen: Fence | None) -> NoReturn:
    try:
        if pen is not None:
            pen.enter()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError as error:
        print(f"the body could not be started: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(125)


def _check_nothing_left(pen: Fence | None, scratch: Path, patience_s: float, checks: Checks) -> None:
    left = _relatives(pen)
    gone = wait_all_gone(left, patience_s)
    named = ", ".join(f"{pid} {_command_of(pid)}" for pid, _ in _relatives(pen))
    checks.check(gone and not named, f"processes outlived the program: {named}")
    kill_processes(left, signal.SIGKILL)
    _reap_orphans()
    if pen is not None:
        inside = [name for _, names, _ in os.walk(pen.path) for name in names if name.startswith("memguard-")]
        checks.check(not inside, f"fences were left: {inside}")
    for trouble in _machine.clear_ledger(scratch):
        checks.check(False, trouble)
    files = [*scratch.iterdir(), *(path for path in _SHARED_MEMORY.iterdir() if run_id() in path.name)]
    checks.check(not files, f"files were left: {[str(path) for path in files[:5]]}, {len(files)} in all")


def _relatives(pen: Fence | None) -> tuple[tuple[int, int], ...]:
    """Return everything alive that the program started: marked by the environment, adopted, or inside the pen."""
    known = {*processes_with_environment(RUN_VARIABLE, run_id()), *children_of(os.getpid())}
    known |= {(pid, ticks) for pid in (pen.pids() if pen else ()) if (ticks := start_ticks(pid))}
    return tuple((pid, ticks) for pid, ticks in known if pid != os.getpid() and start_ticks(pid) == ticks)


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80]
    except OSError:
        return "(gone)"


def _reap_orphans() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def descriptor_count() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd")) - 1  # the listing itself holds one


@dataclass(frozen=True, slots=True)
class Growth:
    """How a series of readings grew: from its first to its last, and a slope a step with its 95 % interval."""

    total: float
    slope: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.total / 1024:+.0f} KiB in all, {self.slope / 1024:+.2f} KiB a job "
            f"(95 %: {self.low / 1024:+.2f} to {self.high / 1024:+.2f})"
        )


def robust_slope(readings: list[int]) -> Growth:
    """Fit a slope that single outliers do not move (Theil 1950, Sen 1968): the median of all pairwise slopes."""
    slopes = sorted(
        (later - earlier) / (j - i)
        for i, earlier in enumerate(readings)
        for j, later in enumerate(readings[i + 1 :], i + 1)
    )
    low, high = sen_interval(len(readings), len(slopes))
    middle = len(slopes) // 2
    median = slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2
    return Growth(readings[-1] - readings[0], median, slopes[low], slopes[high])


def sen_interval(readings: int, slopes: int) -> tuple[int, int]:
    """Return the ranks that bound the slope with 95 % confidence, from the variance of Kendall's statistic."""
    spread = 1.96 * (readings * (readings - 1) * (2 * readings + 5) / 18) ** 0.5
    low = max(0, int((slopes - spread) / 2))
    return low, min(slopes - 1, int((slopes + spread) / 2) + 1)
