"""A command or a process, watched from outside: one sample for each tick of the clock."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from memguard.cli.exits import EXIT_NOT_FOUND, EXIT_NOT_STARTED, say
from memguard.errors import DataError
from memguard.leaks.endings import cautious
from memguard.leaks.findings import Findings
from memguard.leaks.judge import judge
from memguard.leaks.outside import OutsideWatch
from memguard.leaks.records import Kind
from memguard.units import format_duration

__all__ = ["look_from_outside"]

_DEFAULT_TIME_S: Final = 600.0
_SAY_EVERY_S: Final = 10.0
# `memguard run` asks its command to end, waits for the time of grace, and kills.
_END_WITHIN_S: Final = 30.0
_SEEN: Final = (Kind.FD, Kind.THREAD, Kind.SHARED_MEMORY)
_NO_NAMES: Final = "from outside nobody can say who holds it: run the work as MODULE:FUNCTION for that"


def look_from_outside(
    pid: int | None,
    command: Sequence[str],
    memory: str | None,
    interval_s: float,
    time_s: float | None,
    *,
    quiet: bool,
) -> Findings:
    """Watch a process, or a command that is started for it, and say whether it leaks.

    Args:
        pid: the process; ``None`` for a command.
        command: its words.
        memory: its budget, ``None`` for the setting.
        interval_s: seconds between two samples.
        time_s: seconds to look at most; ``None`` for ten minutes.
        quiet: whether nothing is said meanwhile.

    Raises:
        DataError: if there is no such process.
    """
    seconds = _DEFAULT_TIME_S if time_s is None else time_s
    if pid is not None:
        watch = OutsideWatch(pid)
        if not watch.sample():
            raise DataError(
                "there is no such process", subject=f"--pid {pid}", remedy="see `ps` for those there are"
            )
        stopped = _watch(watch, pid, interval_s, seconds, quiet=quiet)
        return _findings(f"process {pid}", watch, interval_s, stopped)
    return _look_at_command(command, memory, interval_s, seconds, quiet=quiet)


def _look_at_command(
    command: Sequence[str], memory: str | None, interval_s: float, seconds: float, *, quiet: bool
) -> Findings:
    with _started(command, memory) as wrapper:
        watch = OutsideWatch(wrapper.pid, left_out=frozenset({wrapper.pid}))
        stopped = _watch(watch, wrapper.pid, interval_s, seconds, quiet=quiet)
        status = wrapper.poll()
    found = _findings(command[0], watch, interval_s, stopped)
    never_ran = status is not None and EXIT_NOT_STARTED <= status <= EXIT_NOT_FOUND
    return Findings(
        found.target, found.report, found.unit, found.stopped, status=status if never_ran else None
    )


@contextlib.contextmanager
def _started(command: Sequence[str], memory: str | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command inside a budget, as `memguard run` does; end it afterwards if it has not ended."""
    budget = () if memory is None else ("--memory", memory)
    words = (sys.executable, "-m", "memguard", "run", *budget, "--", *command)
    with subprocess.Popen(words) as wrapper:
        try:
            yield wrapper
        finally:
            if wrapper.poll() is None:
                wrapper.terminate()
                try:
                    wrapper.wait(_END_WITHIN_S)
                except subprocess.TimeoutExpired:
                    wrapper.kill()


def _watch(watch: OutsideWatch, pid: int, interval_s: float, seconds: float, *, quiet: bool) -> str:
    """Take samples until the time is up, it ends, or Ctrl-C; return why no more were taken."""
    began_s = said_s = time.monotonic()
    try:
        with _death_of(pid) as death:
            while (now_s := time.monotonic()) - began_s < seconds:
                # Not at once: a program that starts is not yet the program.
                if select.select([death], [], [], interval_s)[0]:
                    return "it ended"
                watch.sample()
                if not quiet and now_s - said_s >= _SAY_EVERY_S:
                    said_s = now_s
                    say(f"{watch.series.iterations} samples in {format_duration(now_s - began_s)}")
    except KeyboardInterrupt as interruption:
        if getattr(interruption, "exit_status", 128 + signal.SIGINT) != 128 + signal.SIGINT:
            raise
        return "you pressed Ctrl-C"
    except ProcessLookupError:
        return "it ended"
    return ""


@contextlib.contextmanager
def _death_of(pid: int) -> Iterator[int]:
    """Give a descriptor that can be read when a process has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _findings(target: str, watch: OutsideWatch, interval_s: float, stopped: str) -> Findings:
    report = cautious(judge(watch.series))
    if report.is_leaking:
        # Private memory is all that is seen; what of it is Python's only the process itself could tell.
        kind = report.kind if report.kind in _SEEN else None
        report = dataclasses.replace(report, kind=kind, advice=_NO_NAMES)
    return Findings(target, report, unit=f"sample of {format_duration(interval_s)}", stopped=stopped)
