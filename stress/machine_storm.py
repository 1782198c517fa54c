"""Commands and scripts that share a machine of 1 GiB: honest ones, liars, and those whose memory nobody named.

Invariant: never more is promised than there is; the machine is never full, so the kernel kills nobody for it; each job
that keeps to what it named finishes with the right value; a liar ends of what it named, and is told why; who named
nothing finishes, or is told why not; nothing is left: no lease, process, fence or file, the sentinel gone too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _common
import _machine
import _machine_job

from memguard.units import MIB, format_bytes

REQUIREMENTS = ("R2.4", "R6.2", "R6.4", "T5.3", "T7.2", "T7.3", "U2")

# Beside what it fills: an interpreter, and pages that an allocator rounds up.
_INTERPRETER_BYTES = 40 * MIB
_CPU_S = 0.4
# A manager is three more processes that nobody reserved anything for.
_MOST_SCRIPTS = 3
_TOLD_ENDS = frozenset({"budget_kill", "memory_error"})
_KINDS = ("honest", "honest", "honest", "liar", "unnamed")


@dataclass(frozen=True, slots=True)
class Order:
    """One job: what it fills, what it says that it needs (0 for nothing), and whether a manager runs it."""

    name: str
    kind: str
    fill_bytes: int
    named_bytes: int
    is_script: bool

    def words(self, report: Path) -> list[str]:
        """Return the command line."""
        job = [sys.executable, _machine_job.__file__, str(self.fill_bytes), str(_CPU_S)]
        if self.is_script:
            return [*job, self.name, str(self.named_bytes), str(report)]
        named = ["--memory", str(self.named_bytes)] if self.named_bytes else []
        run = ["run", *named, "--name", self.name, "--report", str(report), "--"]
        return [sys.executable, "-m", "memguard", *run, job[0], "-IS", *job[1:]]

    def __str__(self) -> str:
        how = "script" if self.is_script else "command"
        return f"{self.name} ({how}, fills {format_bytes(self.fill_bytes)}, named {format_bytes(self.named_bytes)})"


def draw(chance: random.Random, number: int, is_script: bool, capacity_bytes: int) -> Order:
    """Draw a job; whatever it fills would fit if it were alone."""
    kind = chance.choice(_KINDS)
    name = f"{kind}{number}"
    if kind == "liar":
        named = chance.randrange(capacity_bytes // 20, capacity_bytes // 6)
        return Order(name, kind, int(named * chance.uniform(1.5, 4.0)), named, is_script)
    fill = chance.randrange(capacity_bytes // 40, capacity_bytes // 4)
    return Order(name, kind, fill, fill + _INTERPRETER_BYTES if kind == "honest" else 0, is_script)


class Running:
    """A job that was started."""

    def __init__(self, order: Order, folder: Path) -> None:
        self.order, self._folder = order, folder
        self._report = folder / f"{order.name}.json"
        with open(folder / f"{order.name}.err", "wb") as errors:
            self._process = subprocess.Popen(
                order.words(self._report), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )

    def end(self, checks: _common.Checks) -> str:
        """Wait for its end, check it, and return it in a word."""
        output, _ = self._process.communicate()
        words = (self._folder / f"{self.order.name}.err").read_text(errors="replace")
        report = self._read_report()
        outcome = str(report["outcome"]) if report is not None else f"status {self._process.returncode}"
        is_done = (
            outcome == "completed"
            and output.strip() == str(_machine_job.check_value(self.order.fill_bytes)).encode()
        )
        why = tell(report, words)
        if self.order.kind == "honest":
            checks.check(is_done, f"{self.order} ended as {outcome}, with {output!r}: {why}")
        elif self.order.kind == "liar" or not is_done:
            checks.check(outcome in _TOLD_ENDS, f"{self.order} ended as {outcome}, with {output!r}: {why}")
            self._check_story(report, words, checks)
        pressed = report is not None and report.get("pressure")
        return f"{self.order.kind} {'stopped by the sentinel' if pressed else outcome}"

    def _read_report(self) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = json.loads(self._report.read_text())
        except FileNotFoundError:
            return None
        return document

    def _check_story(self, report: dict[str, Any] | None, words: str, checks: _common.Checks) -> None:
        death = (report or {}).get("death") or {}
        checks.check(
            all(death.get(part) for part in ("who", "why_now", "what_next")),
            f"{self.order} was not told why it ended: {death}; {words[-500:]}",
        )
        if not self.order.is_script:
            checks.check(self.order.name in words, f"{self.order} said nothing on stderr: {words[-500:]}")


def tell(report: dict[str, Any] | None, words: str) -> str:
    """Return what there is to say about an end."""
    if report is None:
        return f"no report; {words[-800:]}"
    return f"{report['evidence']} {report.get('pressure')} {report.get('guard_degraded')} {words[-800:]}"


def storm(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Send waves of jobs until the time is over."""
    chance, clock, ends = random.Random(parsed.seed), _common.Clock(parsed.duration), Counter[str]()
    folder, pen = Path(os.environ["TMPDIR"]), _machine.own_machine()
    waves, began_s = 0, time.monotonic()
    with _machine.Alarm(pen) as alarm, _machine.LedgerWatch(checks) as watch:
        while clock.left() or not waves:
            orders = [
                draw(chance, number, number < _MOST_SCRIPTS, parsed.capacity) for number in range(parsed.jobs)
            ]
            ends.update(send(chance.sample(orders, len(orders)), folder, checks))
            checks.check(alarm.count() == 0, "the machine was full, and the kernel had to kill somebody")
            waves += 1
    print(f"{waves} waves of {parsed.jobs} jobs in {time.monotonic() - began_s:.0f} s")
    print(watch.report())
    if pen is not None:
        high = pen.read().high_water_bytes
        print(
            f"charged at most, file cache included: {format_bytes(high) if high is not None else 'not told'}"
        )
    for name, times in sorted(ends.items()):
        print(f"  {name:<34} {times}")


def send(orders: Sequence[Order], folder: Path, checks: _common.Checks) -> list[str]:
    """Start jobs all at once, and return how they ended."""
    running = [Running(order, folder) for order in orders]
    ends = [each.end(checks) for each in running]
    checks.check(not _machine.ledger().leases, f"leases were left: {_machine.ledger().leases}")
    for path in folder.iterdir():
        if path.suffix in (".json", ".err"):
            path.unlink()
    return ends


def main() -> int:
    """Run the storm."""
    parser = _common.options(__doc__, duration_s=30.0)
    parser.add_argument("--jobs", type=int, default=10, help="jobs at once (default: 10)")
    parser.set_defaults(capacity=1024 * MIB)
    return _common.run_in_pen(storm, parser.parse_args(), is_machine=True)


if __name__ == "__main__":
    sys.exit(main())
