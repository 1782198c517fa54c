"""`MemoryManager`: the face that users hold. Joins budget, allocator, workers, cleanup; decides nothing itself.

Comes in: functions to run, work to watch, a budget. Goes out: results with reports, or errors that say why. Owns the
worker templates and the cleanup manager, and ends them at `close`, at the end of its ``with`` block, or at exit.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from memguard.allocator import Reservation, ResourceAllocator
from memguard.budget import Budget, OuterBound, resolve_budget
from memguard.cleanup import CleanupManager
from memguard.config import Settings, load_settings
from memguard.errors import MemoryLimitExceeded
from memguard.events import Event, EventBus
from memguard.host import MachineReading, identify
from memguard.jobs import StopRequest, capacity_report, describe_function, machine_for, new_job_id, plan_from
from memguard.leaks.registry import ModelRegistry
from memguard.log import log_event
from memguard.managed import ManagedBlock, ManagedJob, attach_report, held_around
from memguard.redact import redact_environment
from memguard.report import EstimateSummary, JobReport
from memguard.settling import ReportSlot, Settler
from memguard.tracking import AllocationTracker
from memguard.units import Size
from memguard.worker import current_job
from memguard.worker.command import BUDGET_VARIABLE
from memguard.worker.compose import JobFrame
from memguard.worker.job import GuardedJob, JobResult
from memguard.worker.protocol import Message
from memguard.worker.recorder import JobProgress
from memguard.worker.spec import JobSpec
from memguard.worker.templates import TemplatePool

__all__ = ["MemoryManager", "current_manager", "open_managers"]

ProgressCallback = Callable[[JobProgress], None]

# Reports are small; a manager that lives for weeks keeps the last ones only.
_KEPT_REPORTS: Final = 100
# A name is for messages; it travels with each of them.
_LONGEST_NAME: Final = 200
_open_managers: weakref.WeakSet[MemoryManager] = weakref.WeakSet()
_current: contextvars.ContextVar[MemoryManager | None] = contextvars.ContextVar(
    "memguard_manager", default=None
)


class MemoryManager:
    """Runs and watches jobs inside one memory budget.

    Args:
        budget: bound for all jobs of this manager together: ``"4GiB"``, ``"80%"``, bytes. ``None`` takes the enclosing
            manager's or job's, else the setting ``memory`` (80 % of the capacity).
        name: what to call it in messages.
        preload: modules every job needs; imported once, in the template that jobs are forked from.
        settings: read from file and environment where not given.

    Does not promise anything about memory of processes it did not start. Thread-safe; one `with` block per manager.

    Raises:
        CapacityExceeded: for a budget larger than the machine, a cgroup or an enclosing budget allows.
        SizeSyntaxError, ConfigError: for an unreadable or useless one.
    """

    def __init__(
        self,
        budget: str | int | Size | None = None,
        *,
        name: str = "memguard",
        preload: Iterable[str] = (),
        settings: Settings | None = None,
    ) -> None:
        self.name = name
        self.settings = settings or load_settings()
        self.events = EventBus()
        self.events.subscribe(log_event)
        outer, bound = _enclosing()
        self.budget = resolve_budget(
            budget, self.status(), default=self.settings.memory, outer=bound, source="budget"
        )
        self.allocator: ResourceAllocator = ResourceAllocator(
            self.budget.limit_bytes, name=name, parent=outer.allocator if outer is not None else None
        )
        self.models = ModelRegistry()
        self.allocations = AllocationTracker()
        self._slots: deque[ReportSlot] = deque(maxlen=_KEPT_REPORTS)
        self._settler = Settler()
        self.cleanup = CleanupManager(events=self.events)
        self._preload = frozenset(preload)
        self._pool = TemplatePool(self.settings.fence)
        self.cleanup.register("worker templates", self._pool.close)
        self.cleanup.register("reports that settle", self._settler.close)
        self._token: contextvars.Token[MemoryManager | None] | None = None
        _open_managers.add(self)

    def status(self) -> MachineReading:
        """Read the machine as this manager sees it."""
        return machine_for(self.settings)

    def run(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        memory: str | int | Size | None = None,
        name: str | None = None,
        timeout: str | float | None = None,
        preload: Iterable[str] = (),
        on_progress: ProgressCallback | None = None,
        estimate: EstimateSummary | None = None,
        check: bool = True,
        **kwargs: Any,
    ) -> JobResult:
        """Run a function in a guarded process of its own and wait for it.

        Args:
            function: any callable that cloudpickle can pickle: closures, lambdas and notebook cells too.
            *args: its arguments; arrays and frames cross without a copy on arrival, and its changes to them stay there.
            memory: bound for the job's whole process tree; ``None`` takes the manager's whole budget.
            name: for messages and the report; else the function's name.
            timeout: seconds, or ``"5m"``; ``None`` takes the setting.
            preload: further modules to import in the template.
            on_progress: called in this thread with where the job is, some times a second.
            estimate: what was predicted, for the report.
            check: raise if the job did not complete.
            **kwargs: its keyword arguments.

        Returns:
            The value and the report.

        Raises:
            BaseException: with ``check``, what the job raised itself, with the remote traceback as its cause.
            MemoryLimitExceeded: it ran out of memory; ``error.report`` has all of it.
            JobTimeout, JobCrashed, JobLost, JobInterrupted: see `memguard.errors`.
            TransferError: if function or arguments cannot be pickled.
            KeyboardInterrupt: on Ctrl-C, after the job was stopped and cleaned up.
        """
        budget = self._job_budget(memory)
        frame = self._frame(function, name, budget, estimate)
        with self._reserved(frame):
            job = self._start(
                (function, args, kwargs), frame, timeout=timeout, preload=preload, on_progress=on_progress
            )
            return self._conclude(job, check)

    async def arun(
        self, function: Callable[..., Any], /, *args: Any, check: bool = True, **options: Any
    ) -> JobResult:
        """`run` without blocking the event loop; cancelling the task stops the job and waits for its cleanup."""
        request = StopRequest()
        request.on_ask(self.allocator.wake_waiters)
        work = functools.partial(self._run_stoppable, request, function, *args, check=check, **options)
        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            request.ask()
            await request.outlast(task)
            raise

    def _run_stoppable(
        self, request: StopRequest, function: Callable[..., Any], *args: Any, **options: Any
    ) -> JobResult:
        token = _stop_request.set(request)
        try:
            return self.run(function, *args, **options)
        finally:
            _stop_request.reset(token)

    def _start(
        self,
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        frame: JobFrame,
        *,
        timeout: str | float | None,
        preload: Iterable[str],
        on_progress: ProgressCallback | None,
    ) -> GuardedJob:
        plan = plan_from(self.settings, frame.limit_bytes, timeout)
        spec = JobSpec(frame.job_id, frame.name, identify(), plan)

        def on_message(message: Message, progress: JobProgress) -> None:
            self._publish_message(frame, message)
            if on_progress is not None:
                on_progress(progress)

        job = GuardedJob(
            self._pool,
            *call,
            frame=frame,
            spec=spec,
            preload=self._preload | frozenset(preload),
            on_message=on_message,
        )
        request = _stop_request.get()
        if request is not None:
            request.on_ask(job.stop)
        return job

    def _conclude(self, job: GuardedJob, check: bool) -> JobResult:
        try:
            result = job.wait()
        finally:
            if job.result is not None:
                self._note_end(job.result)
        if check:
            result.raise_for_outcome()
        return result

    def _note_end(self, result: JobResult) -> None:
        report = result.report
        self._keep_report(result.slot)
        self._publish(
            "memguard.job_ended", report.job_id, outcome=report.outcome.value, peak_bytes=report.peak_bytes
        )

    def _publish_message(self, frame: JobFrame, message: Message) -> None:
        match message["kind"]:
            case "started":
                self._publish(
                    "memguard.job_started", frame.job_id, pid=message["pid"], fence=message["fence"]
                )
            case "neared":
                self._publish(
                    "memguard.budget_neared",
                    frame.job_id,
                    used_bytes=message["used_bytes"],
                    limit_bytes=frame.limit_bytes,
                )
            case "phase":
                self._publish("memguard.phase_entered", frame.job_id, phase=message["name"])

    def _publish(self, event: str, job_id: str, **fields: Any) -> None:
        self.events.publish(Event(event, job_id=job_id, fields=fields))

    @contextmanager
    def _managed(self, name: str, memory: str | int | Size | None) -> Iterator[ManagedJob]:
        frame = dataclasses.replace(self._frame(None, name, self._job_budget(memory), None), kind="managed")
        with self._reserved(frame) as reservation:
            job = ManagedJob(
                frame,
                reservation,
                plan_from(self.settings, frame.limit_bytes, None),
                self.models,
                lambda _: self._publish(
                    "memguard.budget_neared", frame.job_id, limit_bytes=frame.limit_bytes
                ),
            )
            job.begin()
            try:
                yield job
            except BaseException as error:
                self._keep_report(job.finish(error))
                if isinstance(error, MemoryLimitExceeded) and job.report is not None:
                    attach_report(error, job.report)
                raise
            self._keep_report(job.finish(None))

    def _keep_report(self, slot: ReportSlot) -> None:
        self._slots.append(slot)
        self._settler.settle(slot)

    @property
    def reports(self) -> tuple[JobReport, ...]:
        """The reports of the last hundred jobs, oldest first."""
        return tuple(slot.report for slot in self._slots)

    def managed_processing(
        self, name: str = "job", *, memory: str | int | Size | None = None
    ) -> ManagedBlock:
        """Guard a block of work in this process, cooperatively.

        Args:
            name: for messages and the report.
            memory: bound on what the block takes beyond this process's level at entry; ``None`` takes the manager's.

        Returns:
            A context manager, for ``with`` and ``async with`` alike, that gives the `ManagedJob`.

        Raises:
            MemoryLimitExceeded: from `ManagedJob.checkpoint` and between its batches.
        """
        return ManagedBlock(functools.partial(self._managed, name, memory))

    def _job_budget(self, memory: str | int | Size | None) -> Budget:
        outer = OuterBound(self.budget.limit_bytes, f"the budget of {self.name}")
        return resolve_budget(memory, self.status(), default=self.settings.memory, outer=outer)

    def _frame(
        self,
        function: Callable[..., Any] | None,
        name: str | None,
        budget: Budget,
        estimate: EstimateSummary | None,
    ) -> JobFrame:
        machine = self.status()
        what = describe_function(function) if function is not None else name or "block"
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
            environment=redact_environment(os.environ, mode=self.settings.redact),
        )

    @contextmanager
    def _reserved(self, frame: JobFrame) -> Iterator[Reservation]:
        request = _stop_request.get()
        with self.allocator.reserve(
            frame.limit_bytes,
            frame.name,
            held=held_around(),
            withdrawn=request.is_asked if request is not None else None,
        ) as reservation:
            self._publish("memguard.reservation_granted", frame.job_id, reserved_bytes=frame.limit_bytes)
            try:
                yield reservation
            finally:
                self._publish("memguard.reservation_released", frame.job_id, reserved_bytes=frame.limit_bytes)

    def close(self) -> None:
        """End the workers and run the cleanup handlers; once or many times.

        Raises:
            CleanupFailed: if a handler failed; all were run.
        """
        self.cleanup.close("manager closed").raise_if_failed()

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
            self._token = None
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
            self._token = None
        await asyncio.to_thread(self.close)


_stop_request: contextvars.ContextVar[StopRequest | None] = contextvars.ContextVar(
    "memguard_stop_request", default=None
)


def current_manager() -> MemoryManager | None:
    """Return the manager whose ``with`` block encloses this code, if there is one."""
    return _current.get()


def open_managers() -> tuple[MemoryManager, ...]:
    """Return the managers of this process that are in use."""
    return tuple(_open_managers)


def _enclosing() -> tuple[MemoryManager | None, OuterBound | None]:
    """Find whose budget a new manager shares: a manager's here, the job's that this process is, a wrapper's."""
    manager = _current.get()
    if manager is not None:
        return manager, OuterBound(manager.budget.limit_bytes, f"the budget of {manager.name}")
    job = current_job()
    if job is not None:
        return None, OuterBound(job.budget_bytes, f"the budget of job {job.name}")
    text = os.environ.get(BUDGET_VARIABLE, "")
    return None, OuterBound(int(text), "the budget of `memguard run`") if text.isdecimal() else None
