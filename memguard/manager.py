"""`MemoryManager`: the face that users hold. Joins budget, allocator, workers, cleanup; decides nothing itself.

Comes in: functions to run, work to watch, a budget. Goes out: results with reports, or errors that say why. Owns the
worker templates and the cleanup manager, and ends them at `close`, at the end of its ``with`` block, or at exit.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from memguard.allocator import Reservation, ResourceAllocator
from memguard.announcing import Announcer, ProgressCallback
from memguard.aside import complete_aside
from memguard.budget import OuterBound, resolve_budget
from memguard.cleanup import CleanupManager
from memguard.config import Settings, load_settings
from memguard.enclosure import bound_of_process, budgets_around, cleanup_for
from memguard.errors import MemoryLimitExceeded
from memguard.estimate.likeness import Likeness
from memguard.events import Event, EventBus
from memguard.foresight import Foresight, block_likeness
from memguard.host import MachineReading, identify
from memguard.jobs import (
    Call,
    StopBoard,
    StopRequest,
    describe_function,
    frame_for,
    machine_for,
    new_job_id,
    plan_from,
    request_here,
    run_aside,
)
from memguard.leaks.registry import ModelRegistry
from memguard.leasing import Tenure
from memguard.managed import ManagedBlock, ManagedJob, attach_report
from memguard.nesting import Nesting
from memguard.report import EstimateSummary, JobReport, OuterBudget
from memguard.requeue import next_frame, next_limit, tries
from memguard.reserving import Room, reserved
from memguard.settling import ReportSlot, Settler
from memguard.tracking import AllocationTracker
from memguard.units import Size
from memguard.worker.compose import JobFrame
from memguard.worker.job import GuardedJob, JobResult, raise_free
from memguard.worker.refusal import explained
from memguard.worker.spec import GuardPlan, JobSpec
from memguard.worker.templates import TemplatePool

__all__ = ["MemoryManager", "current_manager", "open_managers"]

T = TypeVar("T")

# Reports are small; a manager that lives for weeks keeps the last ones only.
_KEPT_REPORTS: Final = 100
_open_managers: weakref.WeakSet[MemoryManager] = weakref.WeakSet()


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
        self._announcer = Announcer(self.settings)
        self._foresight = Foresight(self.settings, self._announcer.publish)
        enclosing, bound = _enclosing()
        self.enclosing: MemoryManager | None = enclosing
        self._is_named = budget is not None or self.settings.origins["memory"] != "default"
        self.budget = resolve_budget(
            budget, self.status(), default=self.settings.memory, outer=bound, source="budget"
        )
        above = enclosing.allocator if enclosing is not None else None
        self.allocator: ResourceAllocator = ResourceAllocator(
            self.budget.limit_bytes, name=name, parent=above
        )
        self.models = ModelRegistry()
        self.allocations = AllocationTracker()
        self._slots: deque[ReportSlot] = deque(maxlen=_KEPT_REPORTS)
        self._settler = Settler()
        self._stops = StopBoard(self.allocator.wake_waiters)
        outer, around = (enclosing.outer, enclosing.cleanup) if enclosing is not None else (None, None)
        self.outer: tuple[OuterBudget, ...] = budgets_around(self.budget.limit_bytes, name, outer, bound)
        self.cleanup: CleanupManager = cleanup_for(self.settings, self._announcer.bus, around)
        self._preload = frozenset(preload)
        self._pool = TemplatePool(self.settings.fence)
        self._register_endings()
        self._token: contextvars.Token[MemoryManager | None] | None = None
        _open_managers.add(self)

    def _register_endings(self) -> None:
        # Without a deadline: each of the three ends by itself, and the templates need their jobs' time of grace.
        self.cleanup.register("worker templates", self._pool.close, deadline_s=None)
        self.cleanup.register("reports that settle", self._settler.close, deadline_s=None)
        # Before the templates, which wait for their jobs to end.
        self.cleanup.register("running jobs", self._stops.stop_all, deadline_s=None)

    def start_over(self) -> None:
        """Have a forked child end what it starts itself; its cleanup has forgotten all that is its parent's."""
        if not self.cleanup.is_closed:
            self._register_endings()

    @property
    def events(self) -> EventBus:
        """Where to subscribe to what happens to the jobs; what a subscriber raises is logged and harms no job."""
        return self._announcer.bus

    def announce(self, event: Event) -> None:
        """Publish what happened to a job, for whoever runs it in this manager; no subscriber can harm it."""
        self._announcer.announce(event)

    def status(self) -> MachineReading:
        """Read the machine as this manager sees it."""
        return machine_for(self.settings)

    def run(
        self,
        function: Callable[..., T],
        /,
        *args: Any,
        memory: str | int | Size | None = None,
        name: str | None = None,
        timeout: str | float | None = None,
        preload: Iterable[str] = (),
        on_progress: ProgressCallback | None = None,
        estimate: EstimateSummary | None = None,
        likeness: Likeness | None = None,
        check: bool = True,
        retries: int | None = None,
        **kwargs: Any,
    ) -> JobResult[T]:
        """Run a function in a guarded process of its own and wait for it.

        Args:
            function: any callable that cloudpickle can pickle: closures, lambdas and notebook cells too.
            *args: its arguments; arrays and frames cross without a copy on arrival, and its changes to them stay there.
            memory: bound for the job's whole process tree; ``None`` takes the manager's whole budget.
            name: for messages and the report; else the function's name.
            timeout: seconds, or ``"5m"``, of the job's own time: waiting for memory or for the imports of the first
                worker does not count; ``None`` takes the setting.
            preload: further modules to import in the template.
            on_progress: called in this thread with where the job is, some times a second.
            estimate: what was predicted from first principles.
            likeness: which past jobs it resembles; ``None``: those with this function, by the sizes of the arguments.
            check: raise if the job did not complete.
            retries: how often it is run again if it ran out of memory, each time with more; ``None`` takes the setting.
            **kwargs: its keyword arguments.

        Returns:
            The value and the report.

        Raises:
            BaseException: with ``check``, what the job raised itself, with the remote traceback as its cause.
            MemoryLimitExceeded: it ran out of memory; ``error.report`` has all of it.
            JobTimeout, JobCrashed, JobLost, JobInterrupted: see `memguard.errors`.
            TransferError: if function or arguments cannot be pickled.
            CapacityExceeded: for more than the budget, or than is left beside the blocks around the call.
            ReservationTimeout: if it would wait for ever, see `ResourceAllocator.reserve`.
            WorkerStartError: if no worker can be started, or the manager is closed.
            KeyboardInterrupt: on Ctrl-C, after the job was stopped and cleaned up.
        """
        with explained():
            frame = self._frame(function, name, memory, estimate)
            plan = plan_from(self.settings, frame.limit_bytes, timeout)
        frame = dataclasses.replace(frame, timeout_s=plan.timeout_s)
        call = Call((function, args, kwargs), self._preload | frozenset(preload), on_progress)
        frame = self._foresight.framed(frame, likeness or call.likeness, is_requested=memory is not None)
        is_named = self._is_named or memory is not None
        for tries_left in tries(self.settings.retries if retries is None else retries):
            result: JobResult[T] = self._run_once(frame, plan, call, is_named=is_named)
            limit_bytes = next_limit(result.report, tries_left, self._foresight.retry_bytes)
            if limit_bytes is None:
                break
            self._announcer.requeued(result.report, limit_bytes)
            frame, is_named = next_frame(frame, result.report, limit_bytes, new_job_id()), True
            plan = dataclasses.replace(plan, limit_bytes=limit_bytes)
        if check:
            raise_free(result.take_error())
        return result

    async def arun(
        self, function: Callable[..., T], /, *args: Any, check: bool = True, **options: Any
    ) -> JobResult[T]:
        """`run` without blocking the event loop; cancelling the task stops the job and waits for its cleanup."""
        work = functools.partial(self.run, function, *args, check=check, **options)
        return await run_aside(work, "memguard-run")

    def _run_once(self, frame: JobFrame, plan: GuardPlan, call: Call, *, is_named: bool) -> JobResult[Any]:
        with (
            self._stops.under(request_here()) as request,
            self._reserved(frame, request, is_named=is_named) as (_, tenure),
        ):
            with explained():
                spec = JobSpec(frame.job_id, frame.name, identify(), plan, tenure.seat)
                job = GuardedJob(frame, spec, self._announcer.listener(frame, call.on_progress), tenure)
            request.on_ask(job.stop)
            return self._follow(job, call)

    def _follow(self, job: GuardedJob, call: Call) -> JobResult[Any]:
        try:
            return job.run(self._pool, call.words, call.modules)
        finally:
            if job.result is not None:
                self._keep_report(job.result.slot, call)
                self._announcer.ended(job.result.report)

    @contextmanager
    def _managed(
        self, name: str, memory: str | int | Size | None, request: StopRequest
    ) -> Iterator[ManagedJob]:
        frame = dataclasses.replace(self._frame(None, name, memory, None), kind="managed")
        frame = self._foresight.framed(frame, block_likeness(name), is_requested=memory is not None)
        is_named = self._is_named or memory is not None
        with self._admitted(frame, request, is_named=is_named) as (reservation, tenure):
            job = ManagedJob(
                frame,
                reservation,
                tenure,
                plan_from(self.settings, frame.limit_bytes, None),
                self.models,
                cleanup=cleanup_for(self.settings, None, self.cleanup),
                publish=self._announcer.publish,
            )
            job.begin()
            try:
                yield job
            except BaseException as error:
                self._keep_report(job.finish(error))
                if isinstance(error, MemoryLimitExceeded) and job.report and job.stopped_with(error):
                    attach_report(error, job.report)
                raise
            self._keep_report(job.finish(None))

    def _keep_report(self, slot: ReportSlot, call: Call | None = None) -> None:
        slot.report = self._foresight.learned(slot.report)
        self._slots.append(slot)
        self._settler.settle(slot)
        self._announcer.consequences(slot.report, call)

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

    def _frame(
        self,
        function: Callable[..., Any] | None,
        name: str | None,
        memory: str | int | Size | None,
        estimate: EstimateSummary | None,
    ) -> JobFrame:
        machine = self.status()
        outer = OuterBound(self.budget.limit_bytes, f"the budget of {self.name}")
        budget = resolve_budget(memory, machine, default=self.settings.memory, outer=outer)
        what = describe_function(function) if function is not None else name or "block"
        frame = frame_for(self.settings, machine, what, name=name, budget=budget, estimate=estimate)
        return dataclasses.replace(frame, outer=self.outer)

    @contextmanager
    def _admitted(
        self, frame: JobFrame, request: StopRequest, *, is_named: bool
    ) -> Iterator[tuple[Reservation, Tenure]]:
        """Give a block its room; only waiting for it can be stopped, the block itself is the caller's."""
        with ExitStack() as stoppable:
            stoppable.enter_context(self._stops.under(request))
            with self._reserved(frame, request, is_named=is_named) as room:
                stoppable.close()
                yield room

    @contextmanager
    def _reserved(
        self, frame: JobFrame, request: StopRequest, *, is_named: bool
    ) -> Iterator[tuple[Reservation, Tenure]]:
        room = Room(self.allocator, self.settings, self._announcer.publish)
        with self._foresight.expecting(frame), reserved(room, frame, request, is_named=is_named) as place:
            yield place

    def close(self) -> None:
        """Stop running and waiting jobs, end the workers, run the cleanup handlers; once or many times.

        Whoever waits for a job that is stopped gets `JobInterrupted`.

        Raises:
            CleanupFailed: if a handler failed; all were run.
        """
        report = self.cleanup.close("manager closed")
        # Handlers are called once. What Ctrl-C kept them from is done by whoever closes again.
        self._pool.close()
        self._settler.close()
        self._announcer.close()
        report.raise_if_failed()

    @property
    def is_closed(self) -> bool:
        """Whether it has begun to end; it takes no further jobs then."""
        return self._stops.is_closed

    def __enter__(self) -> Self:
        self._token = _nesting.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._step_out()
        self.close()

    def _step_out(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            _nesting.leave(self, token)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._step_out()
        await complete_aside(self.close, "memguard-close")


_nesting: Nesting[MemoryManager] = Nesting("memguard_manager")


def _start_over_in_child() -> None:
    for manager in list(_open_managers):
        manager.start_over()


os.register_at_fork(after_in_child=_start_over_in_child)


def current_manager() -> MemoryManager | None:
    """Return the manager whose ``with`` block encloses this code, if there is one.

    A thread that was started inside a block counts as inside, unless independent managers are in use.
    """
    return _nesting.current()


def open_managers() -> tuple[MemoryManager, ...]:
    """Return the managers of this process that are in use."""
    return tuple(_open_managers)


def _enclosing() -> tuple[MemoryManager | None, OuterBound | None]:
    """Find whose budget a new manager shares: a manager's here, the job's that this process is, a wrapper's."""
    manager = current_manager()
    if manager is not None:
        return manager, OuterBound(manager.budget.limit_bytes, f"the budget of {manager.name}")
    return None, bound_of_process()
