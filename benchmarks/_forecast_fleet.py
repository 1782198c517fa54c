"""Forty jobs submitted at once to a machine of 4 GiB: each reserves what its user names, or what is forecast for it.

Every job is a `memguard run` of its own that really holds its memory. It holds it for most of its time and computes
little, so that memory is what they wait for and not processors. The users name twice what a job will take; forecasts
are told nothing of that, but have seen a fleet of the same kinds with other sizes. Only makespan, requeues and
reservations are compared: the jobs are the same.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from _common import Figure, python_environment
from _forecast_fleet_job import needed_bytes

from memguard.guard.spawn import is_sentinel
from memguard.units import GIB, MIB, format_bytes

__all__ = ["figures"]

_CAPACITY_BYTES: Final = 4 * GIB
_JOBS: Final = 40
_TRAINING_OF_EACH: Final = 24
_TRAINED_AT_ONCE: Final = 4
_HOLD_S: Final = 6.0
_TRAINING_HOLD_S: Final = 0.3
_RETRIES: Final = 3
# What the interpreter takes besides.
_BASE_BYTES: Final = 10 * MIB
_MOST_MAKESPAN: Final = 0.7
_MOST_REQUEUED: Final = 0.05
_KINDS: Final = ("table", "pairs", "file", "search", "steady")
_PROGRAM: Final = Path(__file__).with_name("_forecast_fleet_job.py")


@dataclass(frozen=True, slots=True)
class _Job:
    """A job: what it is called with, what its chance is drawn from, and what it takes."""

    words: tuple[str, ...]
    seed: str
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class _Fleet:
    """How a fleet fared."""

    makespan_s: float
    reports: tuple[dict[str, Any], ...]
    held: tuple[tuple[float, float, int], ...]

    @property
    def requeued(self) -> int:
        """How many jobs ran out of memory at least once."""
        return sum(bool(each["attempts"]) or each["outcome"] != "completed" for each in self.reports)

    @property
    def failed(self) -> int:
        """How many did not complete, in all their tries."""
        return sum(each["outcome"] != "completed" for each in self.reports)

    @property
    def most_held_bytes(self) -> int:
        """The most that jobs held at once."""
        return max(
            sum(size for began_s, ended_s, size in self.held if began_s <= moment_s < ended_s)
            for moment_s, _, _ in self.held
        )

    @property
    def byte_seconds(self) -> float:
        """What was held, for how long."""
        return sum((ended_s - began_s) * size for began_s, ended_s, size in self.held)


def figures(jobs: int = _JOBS, hold_s: float = _HOLD_S) -> list[Figure]:
    """Train on one fleet, run another twice, and compare."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        fleet = _drawn(random.Random("fleet"), jobs, scratch)
        trained_s = _train(scratch)
        asked = _run(
            scratch, fleet, {"MEMGUARD_FORECAST": "off", "MEMGUARD_EPISODES": "unset"}, hold_s, named=True
        )
        told = _run(scratch, fleet, {}, hold_s, named=False)
        _wait_for_sentinel(scratch)
    return list(_compared(fleet, asked, told, trained_s))


def _drawn(chance: random.Random, count: int, scratch: Path) -> list[_Job]:
    return [_drawn_one(chance, _KINDS[number % len(_KINDS)], scratch) for number in range(count)]


def _drawn_one(chance: random.Random, kind: str, scratch: Path) -> _Job:
    """Draw a job of 100 to 900 MiB, but for those that are steady."""
    given: Mapping[str, list[str]] = {
        "table": ["--rows", str(chance.randint(150_000, 900_000)), "--columns", str(chance.randint(60, 80))],
        "pairs": ["--items", str(chance.randint(3_600, 10_500))],
        "file": ["--data", str(_file(chance, scratch) if kind == "file" else "")],
        "search": ["--candidates", str(chance.randint(3_000, 20_000)), "--depth", str(chance.randint(8, 20))],
        "steady": [],
    }
    seed = str(chance.random())
    size = needed_bytes(kind, given[kind][1::2], random.Random(seed))
    return _Job((kind, *given[kind]), seed, size + _BASE_BYTES)


def _file(chance: random.Random, scratch: Path) -> Path:
    path = scratch / f"data-{chance.randrange(1 << 40):x}"
    with path.open("wb") as file:
        file.truncate(chance.randint(11 * MIB, 95 * MIB))
    return path


def _environment(scratch: Path) -> dict[str, str]:
    runtime = scratch / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    (scratch / "notes").mkdir(exist_ok=True)
    return {
        **python_environment(),
        "MEMGUARD_CAPACITY": str(_CAPACITY_BYTES),
        "MEMGUARD_RUNTIME_DIR": str(runtime),
        "MEMGUARD_EPISODES": str(scratch / "episodes"),
        "FLEET_NOTES": str(scratch / "notes"),
    }


def _start(job: _Job, environment: Mapping[str, str], options: Sequence[str]) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "memguard", "run", "-q", "--json", *options, "--"]
    return subprocess.Popen(
        [*words, sys.executable, "-I", str(_PROGRAM), *job.words],
        env={**environment, "FLEET_SEED": job.seed},
        stdout=subprocess.PIPE,
        text=True,
    )


def _train(scratch: Path) -> float:
    """Run a fleet of the same kinds, some at a time; returns the seconds that it took."""
    began_s = time.monotonic()
    jobs = _drawn(random.Random("training"), _TRAINING_OF_EACH * len(_KINDS), scratch)
    environment = {**_environment(scratch), "FLEET_HOLD_S": str(_TRAINING_HOLD_S)}
    for start in range(0, len(jobs), _TRAINED_AT_ONCE):
        some = [
            _start(each, environment, ["--memory", "2GiB"]) for each in jobs[start : start + _TRAINED_AT_ONCE]
        ]
        for process in some:
            process.communicate()
    return time.monotonic() - began_s


def _run(
    scratch: Path, jobs: Sequence[_Job], more: Mapping[str, str], hold_s: float, *, named: bool
) -> _Fleet:
    for path in (scratch / "notes").iterdir():
        path.unlink()
    environment = {**_environment(scratch), "FLEET_HOLD_S": str(hold_s), **more}
    began_s = time.monotonic()
    running = [
        _start(
            job,
            environment,
            ["--retries", str(_RETRIES), *(["--memory", str(2 * job.peak_bytes)] if named else [])],
        )
        for job in jobs
    ]
    told = [process.communicate()[0] for process in running]
    took_s = time.monotonic() - began_s
    notes = [json.loads(path.read_text()) for path in (scratch / "notes").iterdir()]
    held = tuple((each["began_s"], each["ended_s"], each["bytes"]) for each in notes)
    return _Fleet(took_s, tuple(json.loads(each.splitlines()[-1]) for each in told), held)


def _wait_for_sentinel(scratch: Path) -> None:
    """Wait until nobody watches this ledger any more: it goes some seconds after the last job."""
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s and any(_watches(each, scratch) for each in os.listdir("/proc")):
        time.sleep(0.2)


def _watches(name: str, scratch: Path) -> bool:
    if not name.isdecimal() or not is_sentinel(int(name)):
        return False
    try:
        return str(scratch).encode() in Path("/proc", name, "cmdline").read_bytes()
    except OSError:  # it has gone
        return False


def _compared(jobs: Sequence[_Job], asked: _Fleet, told: _Fleet, trained_s: float) -> Iterator[Figure]:
    ratio = told.makespan_s / asked.makespan_s
    peaks = sum(each.peak_bytes for each in jobs)
    about = f"{len(jobs)} jobs, peaks of {format_bytes(peaks)} in all, {format_bytes(_CAPACITY_BYTES)}; "
    yield Figure(
        "together",
        f"{about}{_TRAINING_OF_EACH} others of each of {len(_KINDS)} kinds seen before, in {trained_s:.0f} s",
    )
    yield _fared("together: twice its peak for each job", asked, 2 * peaks)
    yield _fared("together: by forecast", told, sum(map(_reserved, told.reports)))
    yield Figure(
        "together: makespan by forecast, against twice the peak",
        f"{ratio:.2f} x",
        f"<= {_MOST_MAKESPAN} x",
        ratio <= _MOST_MAKESPAN,
        {"ratio": ratio},
    )
    share = told.requeued / len(jobs)
    yield Figure(
        "together: requeued by forecast",
        f"{told.requeued} of {len(jobs)}",
        f"<= {_MOST_REQUEUED:.0%}",
        share <= _MOST_REQUEUED,
        {"share": share},
    )
    missed = sum(_is_missed(each) for each in told.reports)
    promised = [each for each in told.reports if each["sizing"]["promised"]]
    yield Figure(
        "together: more used than forecast",
        f"{missed} of {len(jobs)}; of {len(promised)} promised ones {sum(map(_is_missed, promised))}",
        data={"missed": missed, "promised": len(promised)},
    )


def _fared(what: str, fleet: _Fleet, reserved_bytes: int) -> Figure:
    used = fleet.byte_seconds / (_CAPACITY_BYTES * fleet.makespan_s)
    value = (
        f"{fleet.makespan_s:.1f} s, {format_bytes(reserved_bytes)} reserved, {fleet.requeued} requeued, "
        f"{fleet.failed} failed; at most {fleet.most_held_bytes / _CAPACITY_BYTES:.0%} of the machine in use, "
        f"{used:.0%} over all its time"
    )
    data = {
        "makespan_s": fleet.makespan_s,
        "reserved_bytes": reserved_bytes,
        "requeued": fleet.requeued,
        "failed": fleet.failed,
        "most_held_bytes": fleet.most_held_bytes,
        "used_share": used,
    }
    return Figure(what, value, data=data)


def _reserved(report: Mapping[str, Any]) -> int:
    """Return what was reserved for a job's first try."""
    predicted = report["sizing"]["predicted_bytes"]
    return int(predicted if predicted is not None else report["budget"]["limit_bytes"])


def _is_missed(report: Mapping[str, Any]) -> bool:
    used = max([report["peak_bytes"], *(each["peak_bytes"] for each in report["attempts"])])
    return bool(used > _reserved(report))
