"""A memory cgroup of its own for each storm: who was started in it, whom the kernel killed in it, and its end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import _common
import _storm_driver
import _storm_job
from _storm_mix import Job

from memguard.host import Fence, kill_processes, start_ticks, wait_all_gone
from memguard.testing.pen import NoPenError, open_pen

__all__ = ["NoPenError", "Trial", "end_all", "end_on_sigterm", "run_storm"]

# Killed processes are gone in a fraction of it; who is not is killed by the fence, with an error if that fails.
_LEAVE_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """How one storm went.

    Attributes:
        contender: who ran it.
        jobs: the jobs.
        ends: what became of each, by name; one that its contender lost sight of is missing.
        done: names of jobs whose check value is there and right.
        makespan_s: from the first start to the last end.
        kills: processes that the kernel killed for the capacity, by the cgroup's own counter and by reports.
        full: how often the capacity was reached and nothing could be given back, where the kernel tells.
        high_water_bytes: the most that was charged, file cache included.
        lost: what went wrong with the contender itself, or ``""``.
        words: what those said that did not finish.
    """

    contender: str
    jobs: tuple[Job, ...]
    ends: Mapping[str, Mapping[str, Any]]
    done: frozenset[str]
    makespan_s: float
    kills: int
    full: int | None
    high_water_bytes: int | None
    lost: str = ""
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)


def run_storm(contender: str, jobs: tuple[Job, ...], capacity_bytes: int, allowed_s: float) -> Trial:
    """Run one storm in a cgroup of its own, and remove it and all that was started, on every path.

    Raises:
        NoPenError: where no cgroup can be made.
    """
    with _folder() as folder, _pen(capacity_bytes) as pen, _Alarm(pen) as alarm:
        began_s = time.monotonic()
        told = json.dumps([dataclasses.astuple(job) for job in jobs])
        lost = _drive(pen, [contender, str(folder), str(capacity_bytes), told], folder, allowed_s)
        took_s = time.monotonic() - began_s
        reading = pen.read()
        full = alarm.count()
        outcome = _outcome(folder) or {"makespan_s": took_s, "ends": {}}
        return Trial(
            contender=contender,
            jobs=jobs,
            ends=outcome["ends"],
            done=frozenset(job.name for job in jobs if _is_done(folder, job)),
            makespan_s=outcome["makespan_s"],
            kills=reading.oom_kills + _told_kills(outcome["ends"]),
            full=full,
            high_water_bytes=reading.high_water_bytes,
            lost=lost,
            words={job.name: text for job in jobs if (text := _words(folder, job))},
        )


def _told_kills(ends: Mapping[str, Mapping[str, Any]]) -> int:
    """Count kills in cgroups below, which are gone by now: their owner tells which were not for his own limit."""
    return sum(each["ending"] == "kernel_oom" for each in ends.values())


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Not in /dev/shm: what is written there would be charged to the pen.
    folder = Path(tempfile.mkdtemp(prefix="memguard-storm-"))
    try:
        (folder / "ledger").mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _pen(capacity_bytes: int) -> Iterator[Fence]:
    pen = open_pen("storm", capacity_bytes)
    try:
        yield pen
    finally:
        end_all(pen)
        pen.remove()
        _reap_orphans()


def end_all(pen: Fence) -> None:
    """Kill everybody inside; but the trackers of multiprocessing and loky last of all.

    Once all others are gone they remove the semaphores that were left, whose names tell nobody whose they were.
    """
    with contextlib.suppress(TimeoutError):
        deadline_s = time.monotonic() + _LEAVE_S
        while others := _others_than_trackers(pen):
            # Who has no words is about to become another program, perhaps a tracker: it is looked at again.
            known = [each for each, words in others.items() if words]
            kill_processes(known)
            _wait_or_give_up(known, deadline_s)
            if not known:
                time.sleep(0.001)  # no event tells when a program has begun
        _wait_or_give_up(_inside(pen), deadline_s)
    pen.kill_all()


def _inside(pen: Fence) -> list[tuple[int, int]]:
    return [(pid, ticks) for pid in pen.pids() if (ticks := start_ticks(pid)) is not None]


def _others_than_trackers(pen: Fence) -> dict[tuple[int, int], bytes]:
    words = {each: _words_of(each[0]) for each in _inside(pen)}
    return {each: said for each, said in words.items() if b"resource_tracker" not in said}


def _words_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _wait_or_give_up(processes: list[tuple[int, int]], deadline_s: float) -> None:
    gone = wait_all_gone(processes, deadline_s - time.monotonic())
    if not gone or time.monotonic() > deadline_s:
        raise TimeoutError


def _reap_orphans() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class _Alarm:
    """Counts how often a cgroup was out of memory for its own limit or one above, and not for one below.

    Version 1 tells by an eventfd and counts nothing itself; version 2 counts in ``memory.events.local``.
    """

    def __init__(self, pen: Fence) -> None:
        self._pen = pen
        self._events = -1
        self._control = -1

    def __enter__(self) -> _Alarm:
        if self._pen.kind == "cgroup-v1":
            self._events = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._control = os.open(f"{self._pen.path}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            # A kernel built without CONFIG_MEMCG_V1's events refuses: then nobody knows.
            with contextlib.suppress(OSError):
                Path(self._pen.path, "cgroup.event_control").write_text(f"{self._events} {self._control}")
                return self
            self._close()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        for descriptor in (self._events, self._control):
            if descriptor >= 0:
                os.close(descriptor)
        self._events = self._control = -1

    def count(self) -> int | None:
        """Return the count, or ``None`` where the kernel does not tell."""
        if self._events >= 0:
            try:
                return os.eventfd_read(self._events)
            except BlockingIOError:
                return 0
        local = Path(self._pen.path, "memory.events.local")
        if not local.exists():
            return None
        return int(dict(line.split() for line in local.read_text().splitlines())["oom"])


def _drive(pen: Fence, arguments: list[str], folder: Path, allowed_s: float) -> str:
    """Run the driver inside the pen to its end; returns what went wrong with it."""
    with open(folder / "driver.err", "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", _storm_driver.__file__, *arguments],
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            preexec_fn=pen.enter,  # noqa: PLW1509 - one write, and there is no other thread here
        )
    try:
        status = process.wait(allowed_s)
    except subprocess.TimeoutExpired:
        return f"not over after {allowed_s:g} s"
    finally:
        end_all(pen)
        process.wait()
    if status == 0:
        return ""
    return f"its driver ended with {_storm_driver.status_told(status)}: {_tail(folder / 'driver.err')}"


def _environment(folder: Path) -> dict[str, str]:
    return {
        **_common.python_environment(),
        # What the caller's own path has comes after: so another copy of memguard can be measured.
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
        ),
        "TMPDIR": str(folder),
        "MEMGUARD_RUNTIME_DIR": str(folder / "ledger"),
    }


def _outcome(folder: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads((folder / _storm_driver.OUTCOME).read_text())
    except FileNotFoundError:
        return None
    return document


def _is_done(folder: Path, job: Job) -> bool:
    try:
        return int((folder / f"{job.name}.done").read_text()) == _storm_job.check_value(job.fill_bytes)
    except FileNotFoundError:
        return False


def _words(folder: Path, job: Job) -> str:
    return "" if _is_done(folder, job) else _tail(folder / f"{job.name}.err")


def _tail(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[-2000:].strip()
    except FileNotFoundError:
        return ""


def end_on_sigterm() -> None:
    """Let SIGTERM end this program as Ctrl-C does, so that what it made is removed."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
