"""One guarded job as its caller holds it: started, followed, ended, reported.

Comes in: a function with arguments, a frame and a plan. Goes out: a `JobResult`. The caller's thread does the waiting;
on Ctrl-C the job is stopped first and the interruption raised afterwards, so that nothing is left running.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from memguard.errors import JobCrashed, JobError, JobInterrupted, JobLost, JobTimeout, MemoryLimitExceeded
from memguard.host import OwnMemory
from memguard.redact import redact_error
from memguard.report import CallerMemory, JobReport, Outcome
from memguard.settling import ReportSlot
from memguard.story import tell_death
from memguard.worker.call import pack_call
from memguard.worker.compose import JobFrame, compose_report, is_back
from memguard.worker.context import text_of
from memguard.worker.launch import EndedJob, RunningJob
from memguard.worker.preload import modules_used_by
from memguard.worker.protocol import Message
from memguard.worker.recorder import JobProgress, JobRecorder
from memguard.worker.refusal import explained
from memguard.worker.spec import EndRecord, JobSpec
from memguard.worker.templates import TemplatePool
from memguard.worker.verdict import Delivery, StopReason

__all__ = ["GuardedJob", "JobResult", "RemoteTraceback", "raise_free"]

T = TypeVar("T")


class RemoteTraceback(Exception):  # noqa: N818 - the name says what it carries; it is a cause, never raised itself
    """The traceback of an exception that happened in another process, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class JobResult(Generic[T]):
    """How a job ended; of the type that its function returns.

    Attributes:
        value: what it returned, also when it was asked to stop (at the end of its time) and returned all the same: look
            at the outcome to know whether it completed. ``None`` if it returned nothing.
        error: what it raised itself, or ``None``.
        slot: where its report stands.
    """

    __slots__ = ("error", "slot", "value")

    def __init__(self, value: T, report: JobReport, error: BaseException | None) -> None:
        self.value = value
        self.slot = ReportSlot(report)
        self.error = error

    @property
    def report(self) -> JobReport:
        """The report in its current version; see `memguard.settling`."""
        return self.slot.report

    def __repr__(self) -> str:
        return f"JobResult({self.report.name!r}, {self.report.outcome.value}, peak={self.report.peak_bytes})"

    def raise_for_outcome(self) -> None:
        """Raise what the ending calls for; do nothing if the job completed.

        Raises:
            MemoryLimitExceeded: budget, kernel or a failed allocation.
            JobTimeout: its time was up.
            JobCrashed: a signal from elsewhere.
            JobLost: its supervisor vanished.
            JobInterrupted: it was stopped.
            BaseException: what the job raised, with the remote traceback as its cause.
        """
        error = self._called_for()
        try:
            if error is not None:
                raise error
        finally:
            del self, error  # the traceback has this frame, which must not lead back to it

    def take_error(self) -> BaseException | None:
        """Return what the ending calls for, which nobody has from here any more; ``None`` if the job completed."""
        error = self._called_for()
        self.error = None
        return error

    def _called_for(self) -> BaseException | None:
        report = self.report
        if report.outcome is Outcome.COMPLETED:
            return None
        if report.outcome is Outcome.RAISED and self.error is not None:
            return self.error
        kind = _ERRORS.get(report.outcome, JobError)
        error = kind(tell_death(report) or report.error or report.outcome.value, report=report)
        error.__cause__ = self.error
        return error


def raise_free(error: BaseException | None) -> None:
    """Raise an error, if there is one, without a cycle: its frames hold a job's arguments, and nobody collects here."""
    try:
        if error is not None:
            raise error
    finally:
        del error


_ERRORS: Mapping[Outcome, type[JobError]] = {
    Outcome.MEMORY_ERROR: MemoryLimitExceeded,
    Outcome.BUDGET_KILL: MemoryLimitExceeded,
    Outcome.BUDGET_SOFT_STOP: MemoryLimitExceeded,
    Outcome.KERNEL_OOM: MemoryLimitExceeded,
    Outcome.SIGNAL: JobCrashed,
    Outcome.TIMEOUT: JobTimeout,
    Outcome.LOST: JobLost,
    Outcome.INTERRUPTED: JobInterrupted,
}


class GuardedJob:
    """A job that its caller is to `run`; `stop` it from any thread, at any time.

    Attributes:
        result: how it ended, also where `run` raised; ``None`` before, and if it never began.

    Raises:
        OSError: if the machine has not what it takes to follow a job.
    """

    def __init__(
        self,
        frame: JobFrame,
        spec: JobSpec,
        on_message: Callable[[Message, JobProgress], None],
        tenure: Tenancy | None = None,
    ) -> None:
        self.result: JobResult[Any] | None = None
        self._tenure = tenure
        self._frame = frame
        self._on_message = on_message
        self._recorder = JobRecorder(spec.plan.limit_bytes, spec.plan.warn_fraction)
        self._started_s = time.monotonic()
        self._memory = OwnMemory()
        self._before_bytes = self._memory.private_bytes()
        self._running = RunningJob(spec)

    @property
    def recorder(self) -> JobRecorder:
        """What the job has told so far."""
        return self._recorder

    def stop(self) -> None:
        """Ask the job to end; asked twice, it is killed."""
        self._running.stop()

    def run(
        self,
        pool: TemplatePool,
        call: tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]],
        preload: frozenset[str],
    ) -> JobResult[Any]:
        """Launch it and wait for its end; whatever is raised, nothing of it goes on afterwards.

        Raises:
            WorkerStartError: if no worker can be started.
            TransferError: if function or arguments cannot cross.
            KeyboardInterrupt: on Ctrl-C, after the job was stopped and cleaned up.
        """
        try:
            self._launch(pool, call, preload)
            self.result = self._finish(self._running.wait(self._take))
        except BaseException as interruption:
            self._stop_for(interruption)
            raise
        finally:
            self._running.close()
            self._memory.close()
        return self.result

    def _launch(
        self,
        pool: TemplatePool,
        call: tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]],
        preload: frozenset[str],
    ) -> None:
        function, args, kwargs = call
        with explained():
            modules = preload | modules_used_by(function, (*args, *kwargs.values()))
            self._running.launch(pool, modules, pack_call(function, args, kwargs))

    def _stop_for(self, interruption: BaseException) -> None:
        if not self._running.may_run:
            return
        self._running.stop()
        ended = self._end_interrupted()
        if self._running.was_heard:  # else it was not handed over
            self.result = self._finish(ended)
            interruption.add_note(f"memguard: job {self._frame.name} was stopped and cleaned up")

    def _end_interrupted(self) -> EndedJob:
        try:
            return self._running.wait(self._recorder_only)
        except KeyboardInterrupt:
            self._running.stop()
            return self._running.wait(self._recorder_only)

    def _recorder_only(self, message: Message) -> None:
        self._recorder.take(message, time.monotonic() - self._started_s)

    def _take(self, message: Message) -> None:
        self._follow_on(message)
        self._on_message(message, self._recorder.take(message, time.monotonic() - self._started_s))

    def _follow_on(self, message: Message) -> None:
        if self._tenure is None:
            return
        if message["kind"] == "use":
            self._tenure.follow(message["used_bytes"])
        elif message["kind"] == "phase":
            self._tenure.enter(text_of(message["name"]))

    def _with_faults(self, record: EndRecord) -> EndRecord:
        if self._tenure is None or not self._tenure.degraded:
            return record
        return replace(record, degraded=(*record.degraded, self._tenure.degraded))

    def _why_ended(self, ended: EndedJob) -> str:
        chosen = ended.record.ending.stop_reason is StopReason.PRESSURE
        return self._tenure.why_ended() if chosen and self._tenure is not None else ""

    def _finish(self, ended: EndedJob) -> JobResult[Any]:
        after = self._memory.private_bytes()
        settled = after if is_back(self._before_bytes, after) else None
        error = ended.error
        if error is not None and ended.remote_traceback:
            error.__cause__ = RemoteTraceback(ended.remote_traceback)
        report = compose_report(
            self._frame,
            self._recorder,
            self._with_faults(ended.record),
            CallerMemory(self._before_bytes, after, settled),
            error=_one_line(ended),
            pressure=self._why_ended(ended),
        )
        return JobResult(ended.value, report, error)


class Tenancy(Protocol):
    """Who holds a job's lease.

    Attributes:
        degraded: what is amiss with it, or ``""``.
    """

    degraded: str

    def follow(self, used_bytes: int) -> None:
        """Take note of what its tree uses now."""

    def enter(self, phase: str) -> None:
        """Take note of the part of its work that it begins."""

    def why_ended(self) -> str:
        """Return why the sentinel ended the job."""


def _one_line(ended: EndedJob) -> str | None:
    error, ending = ended.error, ended.record.ending
    if error is not None:
        return redact_error(error)
    if ending.delivery is Delivery.NOTHING and ending.exit_code is not None and ending.exit_code >= 0:
        return f"the job ended its process with exit status {ending.exit_code} before it returned"
    return None
