"""A job inside the caller's own process: watched, warned, stopped at its own checkpoints. Cooperative, not enforced.

Comes in: a name and a budget. Goes out: a `ManagedJob` to call from the work, and its report. The bound counts what
this process takes beyond its level at entry; another thread's memory counts too, since nothing tells them apart.
What must be enforced runs in a process of its own: `MemoryManager.run`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, TypeVar
from weakref import ref

from memguard.allocator import Reservation
from memguard.aside import complete_aside, outlast, start_aside
from memguard.batching import BatchTeller, InBatches, past_batches
from memguard.cleanup import CleanupManager, CleanupReport
from memguard.errors import MemoryLimitExceeded
from memguard.guard.pressure import Pressure
from memguard.host import OwnMemory, peak_resident_bytes_now, resident_bytes_now
from memguard.jobs import StopRequest
from memguard.leaks.registry import ModelRegistry
from memguard.leasing import Tenure
from memguard.ledger.board import Ask
from memguard.memory import BatchHooks, shed_all
from memguard.memory.rooms import offer_room
from memguard.nesting import Surroundings
from memguard.redact import redact_error
from memguard.report import CallerMemory, CleanupSummary, Evidence, JobReport, Outcome
from memguard.settling import ReportSlot
from memguard.story import tell_death, with_story
from memguard.units import format_bytes
from memguard.worker.asked import LOOK_EVERY_S, Asked
from memguard.worker.compose import JobFrame, compose_report, is_back
from memguard.worker.mapping import held_result_bytes
from memguard.worker.recorder import JobRecorder
from memguard.worker.spec import EndRecord, GuardPlan
from memguard.worker.verdict import Delivery, Ending, delivery_of
from memguard.worker.watch import Notice, UsageWatch

__all__ = ["ManagedBlock", "ManagedJob", "attach_report", "held_around"]

M = TypeVar("M")


class ManagedJob(InBatches):
    """Guards a piece of work in this process; made by `MemoryManager.managed_processing`.

    A thread samples the process; going over the budget raises `MemoryLimitExceeded` at the next `checkpoint` or
    batch, never in between.
    """

    def __init__(
        self,
        frame: JobFrame,
        reservation: Reservation,
        tenure: Tenure,
        plan: GuardPlan,
        registry: ModelRegistry,
        *,
        cleanup: CleanupManager,
        publish: Callable[..., None],
    ) -> None:
        self.name = frame.name
        self.reservation = reservation
        self.budget_bytes = plan.limit_bytes
        self._slot: ReportSlot | None = None
        self.cleanup = cleanup
        self._frame, self._plan, self._registry, self._publish = frame, plan, registry, publish
        self._recorder = JobRecorder(plan.limit_bytes, plan.warn_fraction)
        self._watch = UsageWatch(plan.watch_limits)
        self._over = threading.Event()
        self._chosen_for = ""
        # Weakly: an error holds the frames of the work, and they hold the block.
        self._stop_error: ref[MemoryLimitExceeded] | None = None
        self._degraded: dict[str, None] = {}
        self._ended = threading.Event()
        self._watcher = threading.Thread(
            target=self._keep_watching, name=f"memguard-{frame.name}", daemon=True
        )
        self._told = BatchTeller(frame.job_id, publish)
        self._tenure = tenure
        self.asked = Asked(tenure)
        self.asked.on_shed(shed_all)
        self._batch_peak = 0
        self._models = 0

    @property
    def report(self) -> JobReport | None:
        """The report, once the block has ended."""
        return self._slot.report if self._slot is not None else None

    def begin(self) -> None:
        """Start watching; called on entry of the ``with`` block."""
        self._started_s = time.monotonic()
        self._memory = OwnMemory()
        self._held_before_bytes = held_result_bytes()
        self._before_bytes = self._memory.private_bytes()
        self._highest_mark = peak_resident_bytes_now()
        self._recorder.take({"kind": "started", "fence": "cooperative"}, 0.0)
        self._withdraw_room = offer_room(f"the budget of {self.name}", lambda: self.free_bytes)
        self._watcher.start()

    @property
    def used_bytes(self) -> int:
        """What this process took since the start of the job, now: its own memory, and results of jobs that it keeps."""
        return max(0, self._memory.private_bytes() - self._before_bytes + self._kept_bytes())

    def _kept_bytes(self) -> int:
        return held_result_bytes() - self._held_before_bytes

    @property
    def free_bytes(self) -> int:
        """What is left of the budget, now."""
        return max(0, self.budget_bytes - self.used_bytes)

    def checkpoint(self) -> None:
        """Give the guard a chance to slow the work down or to stop it here.

        Waits while memory of the machine is short and this job is one of those who are to let others finish. What else
        is asked of it tells `asked`: to go on with less, or to end soon. In a coroutine: `acheckpoint`.

        Raises:
            MemoryLimitExceeded: if the job is over its budget now, or was chosen to end for the machine's memory.
        """
        self._observe()
        if self.asked.is_held:
            with self._told_as_held():
                self.asked.heed(self._observe)
        self._stop_where_due()

    async def acheckpoint(self) -> None:
        """Do as `checkpoint`; while the job is made to wait, the event loop goes on with other tasks."""
        self._observe()
        if self.asked.is_held:
            with self._told_as_held():
                self.asked.shed_if_asked()
                while self.asked.is_held:
                    self._observe()
                    await asyncio.sleep(LOOK_EVERY_S)
        self._stop_where_due()

    def _stop_where_due(self) -> None:
        if self.asked.now is Ask.KILL:
            self._chosen_for = self._tenure.why_ended() or "the machine's memory ran short"
            raise self._noted(MemoryLimitExceeded(f"{self.name} was chosen to end: {self._chosen_for}"))
        if not self._over.is_set():
            return
        if self.used_bytes <= self.budget_bytes:
            self._over.clear()
            return
        raise self._noted(
            MemoryLimitExceeded(
                f"{self.name} uses {format_bytes(self.used_bytes)} of its budget of "
                f"{format_bytes(self.budget_bytes)}; work in smaller batches, raise memory=, or use "
                "MemoryManager.run, which enforces it"
            )
        )

    def _noted(self, error: MemoryLimitExceeded) -> MemoryLimitExceeded:
        self._stop_error = ref(error)
        return error

    @contextmanager
    def _told_as_held(self) -> Iterator[None]:
        self._tell_asked(self.asked.now.name, "memguard.job_throttled")
        yield
        self._tell_asked(Ask.NOTHING.name, "memguard.job_released")

    def _tell_asked(self, asked: str, event: str) -> None:
        self._recorder.take({"kind": "asked", "asked": asked, "before": ""}, self._elapsed_s())
        self._publish(event, self._frame.job_id, used_bytes=self._watch.used_bytes)

    def stopped_with(self, error: BaseException) -> bool:
        """Whether an error is this block's own stop at a checkpoint, and not that of a job or block inside it."""
        return self._stop_error is not None and error is self._stop_error()

    def _batch_hooks(self) -> BatchHooks:
        return BatchHooks(
            free_bytes=lambda: self._tenure.room_bytes(self.used_bytes, self.free_bytes),
            used_bytes=lambda: self.used_bytes,
            peak_bytes=self._take_batch_peak,
            pressure=lambda: Pressure(self.asked.state),
            checkpoint=self.checkpoint,
            on_batch=self._told.count,
            on_decision=self._told.decision,
            on_failure=lambda failure: self.warn(self._told.failure(failure)),
            past=past_batches(self._frame.sizing),
        )

    def _take_batch_peak(self) -> int:
        """Return the highest use since the last call, by the samples and by the kernel's own mark.

        A sampling thread sees nothing while C code holds the interpreter; the mark misses nothing that is a new
        maximum of the process, which is what matters before the budget.
        """
        peak, self._batch_peak = self._batch_peak, 0
        try:
            mark, before = peak_resident_bytes_now(), self._highest_mark
            self._highest_mark = mark
            if mark <= before:
                return peak
            shared_bytes = resident_bytes_now() - self._memory.private_bytes()
        except OSError as error:
            self._degraded[f"the peak of a batch could not be read: {error}"] = None
            return peak
        return max(peak, mark - shared_bytes - self._before_bytes + self._kept_bytes())

    def register_model(self, model: M, name: str | None = None) -> M:
        """Register a model weakly: it dies as if it were not registered; returns it.

        Raises:
            TypeError: if it cannot be referenced weakly.
        """
        self._registry.register(model, name=name, job_id=self._frame.job_id)
        self._models += 1
        return model

    def phase(self, name: str, detail: str = "") -> None:
        """Enter a named part of the work."""
        self._recorder.take({"kind": "phase", "name": name, "detail": detail}, self._elapsed_s())
        self._tenure.enter(str(name))

    def warn(self, text: str) -> None:
        """Put a warning into the report."""
        self._recorder.take({"kind": "warning", "text": text}, self._elapsed_s())

    def note(self, key: str, value: Any) -> None:
        """Put a fact into the report's ``notes``; what JSON has no word for is told as text."""
        self._recorder.take({"kind": "note", "key": key, "value": value}, self._elapsed_s())

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _keep_watching(self) -> None:
        while not self._ended.wait(self._watch.next_interval_s()):
            self._observe()
            self.asked.shed_if_asked()

    def _observe(self) -> None:
        used = self.used_bytes
        self._batch_peak = max(self._batch_peak, used)
        self._tenure.note(used)
        for notice in self._watch.observe(used):
            if notice is Notice.EXCEEDED:
                self._over.set()
            else:
                self._recorder.warn_of_nearing(self._watch.used_bytes, self._elapsed_s())
                self._publish(
                    "memguard.budget_neared",
                    self._frame.job_id,
                    used_bytes=self._watch.used_bytes,
                    limit_bytes=self.budget_bytes,
                )

    def finish(self, error: BaseException | None) -> ReportSlot:
        """Stop watching, clean up, report; called on exit of the ``with`` block."""
        try:
            self._observe()
        finally:
            self._ended.set()
            self._withdraw_room()
            self._watcher.join()
        duration_s = self._elapsed_s()
        cleaned = self.cleanup.close("job ended")
        after = self._memory.private_bytes()
        self._recorder.batches = self._told.summary
        self._note_models()
        caller = CallerMemory(
            self._before_bytes, after, after if is_back(self._before_bytes, after) else None
        )
        record = self._end_record(error, duration_s, cleaned)
        text = None if error is None else redact_error(error)
        report = compose_report(self._frame, self._recorder, record, caller, error=text)
        own_stop = error is not None and self.stopped_with(error)
        self._slot = ReportSlot(_as_soft_stop(report, self._chosen_for) if own_stop else report)
        self._memory.close()
        return self._slot

    def _note_models(self) -> None:
        """Count the registered models that are still alive; who holds them is `ModelRegistry.survivors` to tell."""
        if self._models:
            self._recorder.notes["models_registered"] = self._models
            self._recorder.notes["models_alive_at_end"] = self._registry.live_count(self._frame.job_id)

    def _end_record(
        self, error: BaseException | None, duration_s: float, cleaned: CleanupReport
    ) -> EndRecord:
        ending = Ending(
            exit_code=0,
            delivery=Delivery.VALUE if error is None else delivery_of(error),
            stop_reason=None,
            limit_bytes=self.budget_bytes,
            peak_bytes=self._watch.peak_bytes,
            fence_kind="cooperative",
        )
        summary = CleanupSummary(cleaned.duration_s, cleaned.ok, cleaned.failures)
        faults = (*self._degraded, *([self._tenure.degraded] if self._tenure.degraded else []))
        return EndRecord(ending, duration_s, summary, 0, (), faults)


# What the blocks around this code hold: a job started in them must not wait for their room.
_around: Surroundings[Reservation] = Surroundings("memguard_blocks_around")


def held_around() -> tuple[Reservation, ...]:
    """Return what the managed blocks around this code hold; see `Surroundings` for threads."""
    return _around.current()


class ManagedBlock:
    """`MemoryManager.managed_processing`, for ``with`` and ``async with``; each object for one block."""

    def __init__(self, open_block: Callable[[StopRequest], AbstractContextManager[ManagedJob]]) -> None:
        self._request = StopRequest()
        self._block = open_block(self._request)
        self._reservation: Reservation | None = None

    def __enter__(self) -> ManagedJob:
        return self._surround(self._block.__enter__())

    def _surround(self, job: ManagedJob) -> ManagedJob:
        self._reservation = job.reservation
        _around.enter(job.reservation)
        return job

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self._block.__exit__(kind, error, trace)
        finally:
            self._step_out()

    def _step_out(self) -> None:
        if self._reservation is not None:
            _around.leave(self._reservation)

    async def __aenter__(self) -> ManagedJob:
        # Only waiting for room may block; it happens in a thread.
        entering = start_aside(self._block.__enter__, "memguard-enter", untold=self._undo)
        try:
            return self._surround(await asyncio.shield(entering))
        except asyncio.CancelledError as cancelled:
            self._request.ask()
            await outlast(entering, self._request.ask)
            if entering.exception() is None:  # it had its room already
                self._undo(entering.result(), cancelled)
            raise
        except GeneratorExit:  # thrown away while it waited: nobody is left to wait for
            self._request.ask()
            raise
        finally:
            del entering  # else an error would keep itself, by way of this frame and the future

    def _undo(self, _: ManagedJob, error: BaseException | None = None) -> None:
        """Leave a block that nobody got to see."""
        error = error or asyncio.CancelledError("its event loop was closed")
        self._block.__exit__(type(error), error, error.__traceback__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await complete_aside(lambda: self._block.__exit__(kind, error, trace), "memguard-leave")
        finally:
            self._step_out()


def _as_soft_stop(report: JobReport, chosen_for: str) -> JobReport:
    """Tell a stop at a checkpoint from an allocation that failed."""
    cause = "the machine's memory ran short" if chosen_for else "its use passed its budget"
    fact = Evidence("memguard", f"stopped the job at a checkpoint because {cause}")
    stopped = dataclasses.replace(
        report,
        outcome=Outcome.BUDGET_SOFT_STOP,
        evidence=(fact,),
        death=None,
        recommendations=(),
        pressure=chosen_for,
    )
    return with_story(stopped)


def attach_report(error: MemoryLimitExceeded, report: JobReport) -> None:
    """Give an error raised at a checkpoint its report and the whole story."""
    error.report = report
    error.message = tell_death(report) or error.message
    error.args = (error.message,)
