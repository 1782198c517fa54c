"""Launching a job from the caller: hand it to a template, follow it, know its end.

Comes in: a `JobSpec` and a packed call. Goes out: messages while it runs and an `EndedJob`. A `RunningJob` owns its
channel and waits in the calling thread; no thread of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from memguard.errors import TransferError, WorkerStartError
from memguard.host import remove_abandoned, sweep_stale_fences, wait_all_gone
from memguard.host.readings import SharedFile
from memguard.redact import redact_error
from memguard.report import CleanupSummary
from memguard.worker.buffers import Packed, create_segment, unpack, write_packed
from memguard.worker.call import flush_streams
from memguard.worker.protocol import Channel, Message, channel_pair
from memguard.worker.raised import load_error
from memguard.worker.spec import EndRecord, JobSpec
from memguard.worker.templates import Template, TemplatePool, is_open
from memguard.worker.verdict import Delivery, Ending

__all__ = ["EndedJob", "RunningJob", "launch"]

# After its keeper is killed the kernel kills the job's first process at once; this is for a busy machine.
_LOST_WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that has ended.

    Attributes:
        record: what its keeper saw.
        value: what it returned; ``None`` too if it handed over nothing.
        error: what it raised, or ``None``.
        remote_traceback: the text of the traceback that belongs to ``error``.
    """

    record: EndRecord
    value: Any
    error: BaseException | None
    remote_traceback: str


def launch(pool: TemplatePool, modules: frozenset[str], spec: JobSpec, call: Packed) -> RunningJob:
    """Start a job and return at once.

    Raises:
        WorkerStartError: if no worker can be started.
    """
    segment = create_segment(f"memguard-call-{spec.job_id}", call.total_bytes)
    try:
        write_packed(call, segment)
        return RunningJob(_submit(pool, modules, spec, segment), spec)
    finally:
        os.close(segment)


def _submit(pool: TemplatePool, modules: frozenset[str], spec: JobSpec, segment: int) -> Channel:
    ours, theirs = channel_pair()
    try:
        with theirs, _standard_streams() as streams:
            descriptors = [theirs.fileno(), *streams, segment]
            # A template that was killed is noticed at the latest when it is written to; then one more is started.
            for _ in range(2):
                template: Template = pool.template_for(modules)
                if template.submit({"kind": "run", "spec": spec.to_message()}, descriptors):
                    return ours
        raise WorkerStartError("the worker template keeps dying; see its last words above")
    except BaseException:
        ours.close()
        raise


@contextmanager
def _standard_streams() -> Iterator[tuple[int, int]]:
    """Give the descriptors a job writes to: the process's own, flushed so that order is kept.

    A process without one, as a daemon is, gives its jobs the null device.
    """
    flush_streams()
    nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield 1 if is_open(1) else nothing, 2 if is_open(2) else nothing
    finally:
        os.close(nothing)


class RunningJob:
    """A job between its start and its end. Wait for it in one thread; stop it from any."""

    def __init__(self, channel: Channel, spec: JobSpec) -> None:
        self._channel = channel
        self.spec = spec
        self.pid: int | None = None
        self.start_ticks: int | None = None
        self._ended: EndedJob | None = None
        self._began_s = time.monotonic()
        self._began_wall_s = time.time()
        self._shared: tuple[SharedFile, ...] = ()
        self._peak_bytes = 0
        self._fence_kind = "unknown"

    def stop(self) -> None:
        """Ask the job to end with SIGINT, and to be killed after its grace; asked again, it is killed at once."""
        self._channel.send({"kind": "stop"})

    def wait(self, on_message: Callable[[Message], None]) -> EndedJob:
        """Follow the job to its end; call it again after an interruption.

        Args:
            on_message: called with each message of the keeper and the job; what it raises comes out here.
        """
        while self._ended is None:
            received = self._channel.receive()
            if received is None:
                self._ended = self._lost()
                break
            message, descriptors = received
            if message["kind"] == "ended":
                self._take_end(EndRecord.from_message(message["record"]), descriptors)
            elif message["kind"] == "failed":
                self._ended = self._lost(message["why"])
            else:
                self._note(message)
                on_message(message)
        assert self._ended is not None
        return self._ended

    def _take_end(self, record: EndRecord, descriptors: list[int]) -> None:
        self._channel.close()
        # What is known even if Ctrl-C comes while the result is rebuilt.
        self._ended = EndedJob(record, None, None, "")
        self._ended = _collect(record, descriptors)

    def _note(self, message: Message) -> None:
        if message["kind"] == "started":
            self.pid, self.start_ticks = message["pid"], message["start_ticks"]
            self._fence_kind = message["fence"]
        elif message["kind"] == "shared":
            self._shared = tuple(SharedFile(**each) for each in message["files"])
        self._peak_bytes = message.get("peak_bytes", self._peak_bytes)

    def _lost(self, why: str = "the keeper of the job vanished") -> EndedJob:
        self._channel.close()
        gone = True
        if self.pid is not None and self.start_ticks is not None:
            gone = wait_all_gone(((self.pid, self.start_ticks),), _LOST_WAIT_S)
        swept = sweep_stale_fences()
        removed = remove_abandoned(self._shared, self._began_wall_s)
        ending = Ending(
            None, Delivery.NOTHING, None, self.spec.plan.limit_bytes, self._peak_bytes, self._fence_kind
        )
        leftovers = (
            *(f"fence {path} was removed" for path in swept),
            *(f"shared memory {file.path} ({file.allocated_bytes} bytes) was removed" for file in removed),
        )
        cleanup = CleanupSummary(0.0, gone, leftovers)
        record = EndRecord(ending, time.monotonic() - self._began_s, cleanup, 0, (), (why,))
        return EndedJob(record, None, None, "")


def _collect(record: EndRecord, descriptors: list[int]) -> EndedJob:
    if record.ending.delivery is Delivery.NOTHING:
        return EndedJob(record, None, None, "")
    try:
        content = _open_result(descriptors)
    except TransferError as failure:
        return EndedJob(_as_raised(record), None, failure, "")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if record.ending.delivery is Delivery.VALUE:
        return EndedJob(record, content, None, "")
    return EndedJob(record, None, *load_error(content))


def _as_raised(record: EndRecord) -> EndRecord:
    """Turn a value that did not arrive into an error: the job did its part, for the caller it is as if it had raised.

    What the job raised itself stays what it is.
    """
    if record.ending.delivery is not Delivery.VALUE:
        return record
    return replace(record, ending=replace(record.ending, delivery=Delivery.EXCEPTION))


def _open_result(descriptors: list[int]) -> Any:
    if not descriptors:
        raise TransferError(
            "the job's result could not be handed over: this process has no descriptor left for it; "
            "close files, or raise the limit (`ulimit -n`)"
        )
    try:
        return unpack(descriptors[0], give_back=True)
    except Exception as error:  # unpickling runs the classes' own code
        raise TransferError(
            f"the job's result arrived but cannot be rebuilt here: {redact_error(error)}; "
            "import the module of its class, or return plain data"
        ) from error
