"""The measurements of `guarded_job`; each runs in a fresh interpreter and returns plain data in seconds and bytes."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _autofeat_job import answer, fit, fit_small, note_start

from memguard import MemoryManager
from memguard.host import read_process_memory

__all__ = ["growth_guarded", "growth_plain", "peak_guarded", "peak_plain", "start_up", "warm_fits"]

_PRELOADED = ["autofeat", "sklearn.datasets", "_autofeat_job"]
_SPAWNS = 5


def start_up(count: int) -> dict[str, list[float]]:
    """Seconds from the call to the first line of the function, autofeat imported there."""
    forkserver, spawn = _forkserver(), multiprocessing.get_context("spawn")
    jobs, whole, forks = [], [], []
    with MemoryManager("70%", preload=("autofeat",)) as manager:
        manager.run(note_start, memory="1GiB")
        for _ in range(count):
            began_s = time.monotonic()
            jobs.append(manager.run(note_start, memory="1GiB").value - began_s)
            whole.append(time.monotonic() - began_s)
            forks.append(_since_call(lambda: _run_in(forkserver, note_start)))
    spawns = [_since_call(lambda: _run_in(spawn, note_start)) for _ in range(_SPAWNS)]
    return {"jobs": jobs, "whole": whole, "forks": forks, "spawns": spawns}


def _since_call(run: Callable[[], float]) -> float:
    began_s = time.monotonic()
    return run() - began_s


def _forkserver() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    _run_in(context, note_start)
    return context


def _run_in(context: Any, function: Callable[[], Any]) -> Any:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=answer, args=(sender, function))
    process.start()
    sender.close()
    value = receiver.recv()
    process.join()
    receiver.close()
    return value


def warm_fits(count: int) -> dict[str, list[float]]:
    """Seconds of the fit alone, in a plain fork of a process that has autofeat, and as a warm job; they take turns."""
    forkserver = _forkserver()
    plain, guarded = [], []
    with MemoryManager("70%", preload=("autofeat",)) as manager:
        manager.run(note_start, memory="1GiB")
        for _ in range(count):
            plain.append(_seconds(lambda: _run_in(forkserver, fit)))
            guarded.append(_seconds(lambda: manager.run(fit, memory="2GiB")))
    return {"plain": plain, "guarded": guarded}


def _seconds(run: Callable[[], Any]) -> float:
    began_s = time.monotonic()
    run()
    return time.monotonic() - began_s


def peak_guarded() -> dict[str, int]:
    """Bytes by which the caller's highest resident set rises while a guarded fit runs; and what the fit took."""
    with MemoryManager("70%") as manager:
        manager.run(note_start, memory="1GiB")
        before = _reset_high_water()
        report = manager.run(fit, memory="2GiB").report
        return {"rise": _high_water() - before, "job": report.peak_bytes}


def peak_plain() -> dict[str, int]:
    """Bytes by which a plain process's highest resident set rises for the import and for the fit."""
    before = _reset_high_water()
    note_start()
    imported = _high_water()
    fit()
    return {"import": imported - before, "rise": _high_water() - imported}


def _reset_high_water() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _high_water()


def _high_water() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def growth_guarded(count: int) -> list[int]:
    """Private bytes of the caller before and after each of ``count`` guarded fits; a first one is not counted."""
    with MemoryManager("70%") as manager:
        manager.run(fit_small, memory="1GiB")
        readings = [read_process_memory().private_bytes]
        for _ in range(count):
            manager.run(fit_small, memory="1GiB")
            readings.append(read_process_memory().private_bytes)
    return readings


def growth_plain(count: int) -> list[int]:
    """The same for fits in one plain process."""
    fit_small()
    readings = [read_process_memory().private_bytes]
    for _ in range(count):
        fit_small()
        readings.append(read_process_memory().private_bytes)
    return readings
