"""What every kind of job starts from: an id, the machine as a report shows it, a plan from settings and wishes."""

from __future__ import annotations

import contextvars
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

from memguard.budget import Budget
from memguard.config import Settings
from memguard.errors import WorkerStartError
from memguard.estimate.likeness import Likeness
from memguard.host import MachineReading, read_machine, share_of
from memguard.redact import redact_environment
from memguard.report import CapacityReport, EstimateSummary
from memguard.units import parse_duration
from memguard.worker.compose import JobFrame
from memguard.worker.recorder import JobProgress
from memguard.worker.spec import GuardPlan

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "Call",
    "StopBoard",
    "StopRequest",
    "capacity_report",
    "describe_function",
    "frame_for",
    "machine_for",
    "new_job_id",
    "plan_from",
    "request_here",
    "run_aside",
]

T = TypeVar("T")


# A name is for messages; it travels with each of them.
_LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Call:
    """What to run: function and arguments, the modules it needs, and who follows it."""

    words: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
    modules: frozenset[str]
    on_progress: Callable[[JobProgress], None] | None

    def likeness(self) -> Likeness:
        """Return what tells it from other calls."""
        from memguard.forecasting.calls import likeness_of_call  # noqa: PLC0415 - a wrapped command has no use for it

        return likeness_of_call(*self.words)


class StopRequest:
    """The wish to stop a job wherever it is: waiting in line, starting or running. Asked again, it stops harder."""

    def __init__(self) -> None:
        self._asked = False
        self.start_over()

    def start_over(self) -> None:
        """Forget whom it stops, as a forked child must: that is its parent's."""
        self._lock = threading.RLock()
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

    def cover(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call something whose jobs this request is for."""
        token = _here.set(self)
        try:
            return work(*args, **kwargs)
        finally:
            _here.reset(token)

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


async def run_aside(work: Callable[[], T], name: str) -> T:
    """Run a job without blocking the event loop; cancelling stops the job and waits for its cleanup.

    Args:
        work: what runs it, in a thread of its own.
        name: of that thread.
    """
    import asyncio  # noqa: PLC0415 - loaded wherever there is a loop; `memguard run` starts sooner without

    from memguard.aside import start_aside  # noqa: PLC0415 - it loads asyncio

    request = StopRequest()
    task = start_aside(functools.partial(request.cover, work), name)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        request.ask()
        await request.outlast(task)
        raise
    finally:
        del (
            task
        )  # which has what the job raised, whose frames have this one: a cycle with the arguments in it


_here: contextvars.ContextVar[StopRequest | None] = contextvars.ContextVar(
    "memguard_stop_request", default=None
)


def request_here() -> StopRequest:
    """Return the request that this code is covered by, else a new one."""
    return _here.get() or StopRequest()


class StopBoard:
    """All that can be stopped of one manager; thread-safe.

    Args:
        wake: called when somebody is asked to stop, so that who waits in line notices.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.RLock()  # a signal's handler may close in the midst of a call
        # Weakly: Ctrl-C may keep whoever put one here from taking it out.
        self._requests: WeakSet[StopRequest] = WeakSet()
        self.is_closed = False
        _boards.add(self)

    def start_over(self) -> None:
        """Forget what runs, as a forked child must: it is its parent's, and the lock may be held."""
        self._lock = threading.RLock()
        for request in self._requests:
            request.start_over()
        self._requests = WeakSet()

    @contextmanager
    def under(self, request: StopRequest) -> Iterator[StopRequest]:
        """Let `stop_all` stop what happens in the block.

        Raises:
            WorkerStartError: once all were stopped.
        """
        request.on_ask(self._wake)
        try:
            with self._lock:
                if self.is_closed:
                    raise WorkerStartError("the manager is closed")
                self._requests.add(request)
            yield request
        finally:
            with self._lock:
                self._requests.discard(request)

    def stop_all(self) -> None:
        """Ask what runs to stop, and who waits to give up; take nobody else. Does not wait for them."""
        with self._lock:
            self.is_closed = True
            requests = tuple(self._requests)
        for request in requests:
            request.ask()


def _start_over_in_child() -> None:
    for board in list(_boards):
        board.start_over()


_boards: WeakSet[StopBoard] = WeakSet()
os.register_at_fork(after_in_child=_start_over_in_child)


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
    return (
        machine
        if settings.capacity is None
        else share_of(machine, settings.capacity.resolve(machine.capacity_bytes))
    )


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


def frame_for(
    settings: Settings,
    machine: MachineReading,
    what: str,
    *,
    name: str | None,
    budget: Budget,
    estimate: EstimateSummary | None,
) -> JobFrame:
    """Gather what is known of a job before it starts; ``what`` is a dotted name."""
    return JobFrame(
        job_id=new_job_id(),
        name=(name or what.rpartition(".")[2])[:_LONGEST_NAME],
        kind="function",
        what=what,
        started_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        limit_bytes=budget.limit_bytes,
        budget_source=budget.source,
        capacity=capacity_report(machine),
        estimate=estimate,
        arguments=(),
        environment=redact_environment(os.environ, mode=settings.redact),
    )
