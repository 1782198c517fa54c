"""A fleet of mixed jobs whose sizes drift, sized by each other's past from many processes at once, with some killed.

Wrapped commands and managers' scripts, all with one store: a wave is submitted before the former has ended, sizes grow
and leap, and now and then a caller or a job is killed with signal 9.

Invariant: whoever was not hit completes, and a job is run again only if it used more than was reserved for itself; each
job that completed is in the store exactly once; of promised forecasts no more are missed than the rate allows (one run
of a thousand may by chance); what is remembered is bounded, also on disk; and nothing is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import _common
import _machine

from memguard.config import load_settings
from memguard.episodes import Episode, EpisodeStore
from memguard.episodes.recorder import INCOMING
from memguard.estimate.calibration import binomial_tail
from memguard.forecasting import Forecaster
from memguard.forecasting.past import past_of
from memguard.units import MIB, format_bytes

REQUIREMENTS = ("R2.4", "U2")

# Takes so much and holds it for a moment; its pid tells whom to kill.
_JOB = """
import os, sys, time
open(sys.argv[3], "w").write(str(os.getpid()))
kind, size = sys.argv[1], int(sys.argv[2])
held = bytearray({"line": 3 * size, "square": size * size // 8000, "steady": 20_000}[kind] * 1024)
held[::4096] = b"x" * len(range(0, len(held), 4096))
time.sleep(0.6)
"""
# The same as functions of a manager, three of them one after another; what was reported, a line each.
_MANAGER = """
import json, os, sys, time
from memguard import MemoryManager
from memguard.report import report_to_json
def hold(size):
    held = bytearray(4096 * size)
    held[::4096] = b"x" * size
    time.sleep(0.2)
with MemoryManager("200MiB") as manager:
    open(sys.argv[1], "w").write(str(os.getpid()))
    for size in map(int, sys.argv[2:]):
        report = manager.run(hold, size, retries=2, check=False).report
        print(json.dumps(report_to_json(report)), flush=True)
"""
_KINDS = ("line", "square", "steady")
_RETRIES = 2
_WAVE = 6
_HITS_A_SECOND = 0.4
_LOOK_EVERY_S = 0.01
_GROWTH = 2.5
# Far below what would let a rate of 5 % pass unseen.
_CHANCE = 0.001
# What one kind takes when all that is remembered of it is written down, as JSON.
_MOST_STATE_BYTES = 512 * 1024


@dataclass(slots=True)
class Caller:
    """A process that runs jobs, and what it is to be told by."""

    process: subprocess.Popen[str]
    pid_file: Path
    is_manager: bool
    is_hit: bool = False


@dataclass(slots=True)
class Fleet:
    """All callers, in the order in which they were started."""

    folder: Path
    chance: random.Random
    running: list[Caller] = field(default_factory=list)
    count: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    reports: list[dict[str, object]] = field(default_factory=list)

    def submit(self, progress: float) -> None:
        """Start a wave; what is drawn grows with the progress from 0 to 1, and leaps in the midst of it."""
        scale = (1 + (_GROWTH - 1) * progress) * (1.3 if progress > 0.5 else 1.0)
        for _ in range(_WAVE):
            self.count += 1
            self.running.append(self._manager(scale) if self.chance.random() < 0.2 else self._command(scale))

    def _command(self, scale: float) -> Caller:
        kind = self.chance.choice(_KINDS)
        size, told = int(scale * self.chance.randint(2_000, 12_000)), self._pid_file()
        words = ["run", "-q", "--json", "--retries", str(_RETRIES), "--"]
        job = [sys.executable, "-I", "-c", _JOB, kind, str(size), str(told)]
        return self._started(["-m", "memguard", *words, *job], told, is_manager=False)

    def _manager(self, scale: float) -> Caller:
        sizes = [str(int(scale * self.chance.randint(1_000, 8_000))) for _ in range(3)]
        told = self._pid_file()
        return self._started(["-c", _MANAGER, str(told), *sizes], told, is_manager=True)

    def _pid_file(self) -> Path:
        return self.folder / f"caller-{self.count}.pid"

    def _started(self, words: list[str], told: Path, *, is_manager: bool) -> Caller:
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        return Caller(process, told, is_manager)

    def hit(self) -> None:
        """Kill a caller, or the job of a wrapped command."""
        victims = [each for each in self.running if not each.is_hit and each.process.poll() is None]
        if not victims:
            return
        jobs = {at: pid for at, each in enumerate(victims) if (pid := _job_of(each)) is not None}
        if jobs and self.chance.random() < 0.5:
            at = self.chance.choice(list(jobs))
        else:
            at = self.chance.randrange(len(victims))
            jobs = {}
        victim, pid = victims[at], jobs.get(at)
        try:
            os.kill(victim.process.pid if pid is None else pid, signal.SIGKILL)
        except ProcessLookupError:  # the job has ended by itself
            return
        self.hits["callers" if pid is None else "jobs"] += 1
        victim.is_hit = True

    def gather(self, checks: _common.Checks, at_most: int) -> None:
        """Wait until only so many run, and take the reports of the others."""
        while len(self.running) > at_most:
            ended = [each for each in self.running if each.process.poll() is not None]
            if not ended:
                # A report is short: it waits in the pipe for its reader.
                time.sleep(_LOOK_EVERY_S)
                if self.chance.random() < _HITS_A_SECOND * _LOOK_EVERY_S:
                    self.hit()
            for each in ended:
                self.running.remove(each)
                self._take(each, checks)

    def _take(self, caller: Caller, checks: _common.Checks) -> None:
        told = caller.process.communicate()[0]
        reports = [json.loads(line) for line in told.splitlines() if line.endswith("}")]
        self.reports += reports
        if caller.is_hit:
            return
        wanted = 3 if caller.is_manager else 1
        outcomes = [each["outcome"] for each in reports]
        checks.check(
            outcomes == ["completed"] * wanted,
            f"a caller that was not hit ended with {outcomes}: {told[-400:]}",
        )
        for each in reports:
            check_tries(each, checks)


def _job_of(caller: Caller) -> int | None:
    """Return the process of a wrapped command while it runs, told from another that took its number over."""
    try:
        pid = int(caller.pid_file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):  # it has not come so far, or has ended
        return None
    return pid if str(caller.pid_file).encode() in words and not caller.is_manager else None


def check_tries(report: dict[str, object], checks: _common.Checks) -> None:
    """Check that a job that ran out of memory had used more than was reserved for it, and not another."""
    sizing, attempts = report["sizing"], report["attempts"]
    assert isinstance(sizing, dict)
    assert isinstance(attempts, list)
    reserved = sizing["predicted_bytes"]
    for each in attempts[:1]:
        bound = min(reserved or each["limit_bytes"], each["limit_bytes"])
        checks.check(
            each["peak_bytes"] >= 0.95 * bound,
            f"{report['name']} was ended at {format_bytes(each['peak_bytes'])}, and had {format_bytes(bound)}",
        )


def sail(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Submit waves until the time is over, then look at what the store has."""
    folder = Path(os.environ["TMPDIR"])
    os.environ["MEMGUARD_EPISODES"] = str(folder / "store")
    fleet = Fleet(folder, random.Random(parsed.seed))
    began_s, clock = time.monotonic(), _common.Clock(parsed.duration)
    with _machine.LedgerWatch(checks) as watch:
        while clock.left() or fleet.count < 2 * _WAVE:
            fleet.submit(min(1.0, (time.monotonic() - began_s) / max(1.0, parsed.duration)))
            fleet.gather(checks, _WAVE // 2)
        fleet.gather(checks, 0)
    check_store(fleet, checks)
    print(watch.report())
    for path in folder.glob("*.pid"):
        path.unlink()
    shutil.rmtree(folder / "store")


def check_store(fleet: Fleet, checks: _common.Checks) -> None:
    """Check that each completed job is there once, that promises were kept, and that memory is bounded."""
    with EpisodeStore(fleet.folder / "store") as store:
        kept = list(store.episodes(kind="job"))
    done = {f"job-{each['job_id']}" for each in fleet.reports if each["outcome"] == "completed"}
    ids = Counter(each.id for each in kept)
    missing = done - set(ids)
    checks.check(not missing, f"{len(missing)} completed jobs are not in the store: {sorted(missing)[:3]}")
    checks.check(all(count == 1 for count in ids.values()), "jobs are in the store twice")
    left = [each for each in os.listdir(fleet.folder / "store" / INCOMING) if not each.endswith(".part")]
    checks.check(not left, f"what was recorded was not taken in: {left[:3]}")
    missed, promised = promises(kept)
    rate = load_settings().miss_rate
    checks.check(
        binomial_tail(missed, promised, rate) >= _CHANCE,
        f"{missed} of {promised} promised forecasts were missed, at a rate of {rate:.0%}",
    )
    state = check_state(fleet.folder / "store", kept, checks)
    callers, jobs = fleet.hits["callers"], fleet.hits["jobs"]
    print(
        f"{fleet.count} callers, {len(done)} jobs completed, {len(kept)} recorded; killed: {callers} callers, {jobs} "
        f"jobs; {promised} forecasts promised, {missed} of them missed; a kind remembers {state / 1024:.0f} KiB at most"
    )


def promises(kept: list[Episode]) -> tuple[int, int]:
    """Return how many promised forecasts were missed, and how many there were."""
    pairs = [(job, each) for each in kept if (job := past_of(each.id, each.metadata)) is not None]
    told = [
        max(job.peak_bytes or 0, job.exceeded_bytes or 0) > (job.predicted_bytes or 0)
        for job, each in pairs
        if each.metadata["sizing"].get("promised") and not each.metadata["attempts"]
    ]
    return sum(told), len(told)


def check_state(folder: Path, kept: list[Episode], checks: _common.Checks) -> int:
    """Learn all of it in one process, and a thousand jobs more; returns what the largest kind takes, in bytes."""
    forecaster = Forecaster(folder, load_settings().miss_rate)
    for kind in sorted(_kinds(kept)):
        forecaster.refresh(kind)
        for number in range(1000):
            forecaster.estimator.observe(
                kind, {"size": number}, peak_bytes=MIB * (1 + number % 7), job_id=f"{number}"
            )
    sizes = [len(json.dumps(each)) for each in forecaster.estimator.state_dict()["kinds"]]
    largest = max(sizes, default=0)
    checks.check(
        largest <= _MOST_STATE_BYTES, f"a kind takes {format_bytes(largest)} when it is written down"
    )
    return largest


def _kinds(kept: list[Episode]) -> Iterator[str]:
    seen = set()
    for each in kept:
        kind = str((each.metadata.get("sizing") or {}).get("kind", ""))
        if kind and kind not in seen:
            seen.add(kind)
            yield kind


def main() -> int:
    """Run the fleet."""
    parser = _common.options(__doc__, duration_s=120.0)
    return _common.run_in_pen(sail, parser.parse_args(), is_machine=True)


if __name__ == "__main__":
    sys.exit(main())
