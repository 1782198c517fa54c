"""What every kind of job starts from: an id, the machine as a report shows it, a plan from settings and wishes."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from memguard.config import Settings
from memguard.host import MachineReading, read_machine
from memguard.report import CapacityReport
from memguard.units import parse_duration
from memguard.worker.spec import GuardPlan

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "StopRequest",
    "capacity_report",
    "describe_function",
    "machine_for",
    "new_job_id",
    "plan_from",
]


class StopRequest:
    """The wish to stop a job wherever it is: waiting in line, starting or running. Asked again, it stops harder."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._stops: list[Callable[[], None]] = []

    def is_asked(self) -> bool:
        """Whether somebody asked."""
        return self._asked

    def on_ask(self, stop: Callable[[], None]) -> None:
        """Have ``stop`` called when somebody asks; at once if he has asked already."""
        with self._lock:
            self._stops.append(stop)
            late = self._asked
        if late:
            stop()

    def ask(self) -> None:
        """Ask to stop."""
        with self._lock:
            self._asked = True
            stops = tuple(self._stops)
        for stop in stops:
            stop()

    async def outlast(self, task: asyncio.Future[Any]) -> None:
        """Wait until a job that was asked to stop is gone; each further cancellation asks harder."""
        import asyncio  # noqa: PLC0415 - loaded wherever there is a task; `memguard run` starts 20 ms sooner without

        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                self.ask()
        if not task.cancelled():
            task.exception()  # how it ended is in its report; the caller gets the cancellation


def new_job_id() -> str:
    """Return an id that sorts by time and is unique on the machine."""
    return f"{time.strftime('%Y%m%d.%H%M%S')}.{os.urandom(3).hex()}"


def describe_function(function: Callable[..., Any]) -> str:
    """Return a callable's dotted name; that of what is inside a partial."""
    target = function.func if isinstance(function, functools.partial) else function
    name = getattr(target, "__qualname__", type(target).__qualname__)
    module = getattr(target, "__module__", None) or ""
    return f"{module}.{name}" if module else name


def machine_for(settings: Settings) -> MachineReading:
    """Read the machine, bounded by the share of it that the settings give to guarded jobs."""
    machine = read_machine()
    if settings.capacity is None:
        return machine
    return read_machine(capacity_bytes=settings.capacity.resolve(machine.capacity_bytes))


def capacity_report(machine: MachineReading) -> CapacityReport:
    """Return the machine as a report shows it."""
    return CapacityReport(
        machine.capacity_bytes, machine.available_bytes, machine.binding.source, machine.binding.path
    )


def plan_from(settings: Settings, limit_bytes: int, timeout: str | float | None) -> GuardPlan:
    """Join settings and a job's own wishes."""
    return GuardPlan(
        limit_bytes=limit_bytes,
        warn_fraction=settings.warn_at_fraction,
        timeout_s=settings.timeout_s if timeout is None else parse_duration(timeout),
        grace_s=settings.grace_s,
        shortest_interval_s=settings.sample_interval_min_s,
        longest_interval_s=settings.sample_interval_max_s,
        fence=settings.fence,
        oom_score_adj=settings.oom_score_adj,
    )
