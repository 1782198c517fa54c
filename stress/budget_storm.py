"""Many jobs at once, some of them far over their budgets, in a pen that is barely large enough for the honest ones.

Invariant: each honest job returns its value; each liar dies, and of its own budget; the pen is never full, so the
kernel kills nobody for it; no peak is above its budget; the caller goes on, and nothing is left.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import _common

from memguard import JobReport, JobResult, MemoryManager, Outcome
from memguard.host import machine_oom_kills
from memguard.testing import allocate, fork_tree
from memguard.units import MIB, format_bytes

REQUIREMENTS = ("R1.4", "R2.1", "R2.4", "T7.2", "T7.3")

# What the pen needs beside the jobs: this process, the template and a keeper a job, of some MiB each.
_SPARED_FRACTION = 0.8
_ALLOWED_ENDS = (Outcome.BUDGET_KILL, Outcome.MEMORY_ERROR)


def take_at_once(size_bytes: int, _: str) -> int:
    """Take memory in one piece."""
    return len(allocate(size_bytes))


def take_slowly(size_bytes: int, _: str) -> int:
    """Take memory over about a second, as a loop that appends does."""
    pieces = [allocate(size_bytes // 20, size_bytes) for _ in range(20)]
    return sum(map(len, pieces)) + size_bytes % 20


def take_mapped(size_bytes: int, _: str) -> int:
    """Take memory in an anonymous mapping, outside of Python's allocator."""
    with mmap.mmap(-1, size_bytes) as mapping:
        for start in range(0, size_bytes, mmap.PAGESIZE):
            mapping[start] = 1
        return len(mapping)


def take_in_children(size_bytes: int, _: str) -> int:
    """Take memory in four forked children, in sessions of their own, and leave them behind."""
    each = size_bytes // 4
    return each * len(fork_tree(4, bytes_each=each, new_sessions=True)) + size_bytes % 4


def take_in_program(size_bytes: int, _: str) -> int:
    """Take memory in another program that is deaf to SIGTERM."""
    hog = [sys.executable, "-m", "memguard.testing.hog", "--ignore-sigterm", "--mib", str(size_bytes / MIB)]
    done = subprocess.run(hog, stdout=subprocess.DEVNULL, check=False)
    if done.returncode == -signal.SIGKILL:
        raise MemoryError("the program was killed")
    return size_bytes


def take_shared(size_bytes: int, mark: str) -> int:
    """Take shared memory with a name, and do not remove the name if all goes wrong."""
    path = Path(f"/dev/shm/{mark}-{os.getpid()}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    for start in range(0, size_bytes, MIB):
        os.posix_fallocate(descriptor, start, min(MIB, size_bytes - start))
    size = os.fstat(descriptor).st_size
    path.unlink()
    return size


WAYS: tuple[Callable[[int, str], int], ...] = (
    take_at_once,
    take_slowly,
    take_mapped,
    take_in_children,
    take_in_program,
    take_shared,
)


@dataclass(frozen=True, slots=True)
class Order:
    """One job: how it takes how much of which budget."""

    way: Callable[[int, str], int]
    size_bytes: int
    budget_bytes: int

    @property
    def is_honest(self) -> bool:
        """Whether it stays inside its budget."""
        return self.size_bytes < self.budget_bytes

    def __str__(self) -> str:
        return f"{self.way.__name__} of {format_bytes(self.size_bytes)} in {format_bytes(self.budget_bytes)}"


def draw(chance: random.Random, largest_bytes: int) -> Order:
    """Draw an honest job (up to 70 % of its budget) or a liar (1.5 to 5 times its budget)."""
    budget = chance.randrange(64 * MIB, largest_bytes)
    share = chance.uniform(1.5, 5.0) if chance.random() < 0.35 else chance.uniform(0.1, 0.5)
    return Order(chance.choice(WAYS), int(budget * share), budget)


def storm(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Send rounds of jobs until the time is over."""
    chance, clock, ends = random.Random(parsed.seed), _common.Clock(parsed.duration), Counter[str]()
    kills_before = machine_oom_kills()
    with (
        MemoryManager(f"{_SPARED_FRACTION:.0%}") as manager,
        ThreadPoolExecutor(parsed.parallel) as threads,
    ):
        largest = manager.budget.limit_bytes // parsed.parallel
        while clock.left():
            orders = [draw(chance, largest) for _ in range(parsed.parallel)]
            for order, result in zip(
                orders, threads.map(lambda order: send(manager, order), orders), strict=True
            ):
                judge(order, result, checks)
                ends[f"{'honest' if order.is_honest else 'liar'} {result.report.outcome.value}"] += 1
        checks.check(manager.allocator.free_bytes == manager.budget.limit_bytes, "reservations were left")
    print(f"out-of-memory kills by the kernel meanwhile, machine-wide: {machine_oom_kills() - kills_before}")
    for name, times in sorted(ends.items()):
        print(f"  {name:<24} {times}")


def send(manager: MemoryManager, order: Order) -> JobResult:
    """Run one job."""
    return manager.run(order.way, order.size_bytes, _common.run_id(), memory=order.budget_bytes, check=False)


def judge(order: Order, result: JobResult, checks: _common.Checks) -> None:
    """Check one ending."""
    report = result.report
    if order.is_honest:
        came_back = report.outcome is Outcome.COMPLETED and result.value == order.size_bytes
        checks.check(came_back, f"honest {order} ended as {tell(report)}, value {result.value}")
    else:
        checks.check(report.outcome in _ALLOWED_ENDS, f"liar {order} ended as {tell(report)}")
    checks.check(
        report.peak_bytes <= order.budget_bytes, f"{order} peaked at {format_bytes(report.peak_bytes)}"
    )
    checks.check(report.cleanup.verified, f"the cleanup of {order} was not verified: {report.cleanup}")


def tell(report: JobReport) -> str:
    """Return an outcome with what it rests on."""
    return f"{report.outcome.value} ({'; '.join(each.fact for each in report.evidence)}; {report.error})"


def main() -> int:
    """Run the storm."""
    parser = _common.options(__doc__, duration_s=20.0)
    parser.add_argument("--parallel", type=int, default=6, help="jobs at once (default: 6)")
    return _common.run_in_pen(storm, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
