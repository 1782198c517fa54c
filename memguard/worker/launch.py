"""Launching a job from the caller: hand it to a template, follow it, know its end.

Comes in: a `JobSpec` and a packed call. Goes out: messages while it runs and an `EndedJob`. A `RunningJob` owns its
channel and waits in the calling thread; no thread of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from weakref import WeakSet

from memguard.errors import TransferError, WorkerStartError
from memguard.host import shared_memory_there, sweep_stale_fences, wait_all_gone
from memguard.host.descriptors import Descriptors
from memguard.redact import redact_error
from memguard.report import CleanupSummary
from memguard.worker.buffers import Packed, create_segment, unpack, write_packed
from memguard.worker.call import flush_streams
from memguard.worker.protocol import Message, channel_pair
from memguard.worker.raised import load_error
from memguard.worker.shared_traces import SharedNote, SharedTraces
from memguard.worker.spec import EndRecord, JobSpec
from memguard.worker.templates import Template, TemplatePool, is_open
from memguard.worker.verdict import Delivery, Ending

__all__ = ["EndedJob", "RunningJob"]

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


@contextmanager
def _standard_streams() -> Iterator[tuple[int, int]]:
    """Give the descriptors a job writes to: the process's own, flushed so that order is kept.

    A process without one, as a daemon is, gives its jobs the null device.
    """
    flush_streams()
    nothing = Descriptors(map(os.open, [os.devnull], [os.O_WRONLY | os.O_CLOEXEC]))
    try:
        yield 1 if is_open(1) else nothing.fileno(), 2 if is_open(2) else nothing.fileno()
    finally:
        nothing.close()


class RunningJob:
    """A job from its launch to its end. Launch it and wait for it in one thread; stop it from any, at any time.

    Owns its channel until `close`: the job does not outlive that. A forked copy of the caller has no part in it.

    Attributes:
        may_run: whether it was handed over, or is being handed over; False where nothing can be left of it.
        was_heard: whether it, or its keeper, has said anything.
    """

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.may_run = False
        self.was_heard = False
        self.pid: int | None = None
        self.start_ticks: int | None = None
        self._ended: EndedJob | None = None
        self._is_copy = False
        self._began_s = time.monotonic()
        self._began_wall_s = time.time()
        self._shared = SharedNote()
        self._shared_before = shared_memory_there()
        self._peak_bytes = 0
        self._fence_kind = "unknown"
        self._channel, self._theirs = channel_pair()
        _running.add(self)

    def launch(self, pool: TemplatePool, modules: frozenset[str], call: Packed) -> None:
        """Hand it to a template and return at once; what was asked before, to stop above all, is waiting for it.

        Raises:
            WorkerStartError: if no worker can be started.
            OSError: if the machine refuses what its call needs.
        """
        with (
            closing(create_segment(f"memguard-call-{self.spec.job_id}", call.total_bytes)) as segment,
            self._theirs,
            _standard_streams() as streams,
        ):
            write_packed(call, segment.fileno())
            self._submit(pool, modules, [self._theirs.fileno(), *streams, segment.fileno()])

    def _submit(self, pool: TemplatePool, modules: frozenset[str], descriptors: list[int]) -> None:
        # A template that was killed is noticed at the latest when it is written to; then one more is started.
        for _ in range(2):
            template: Template = pool.template_for(modules)
            self.may_run = True
            if template.submit({"kind": "run", "spec": self.spec.to_message()}, descriptors):
                return
            self.may_run = False
        raise WorkerStartError("the worker template keeps dying; see its last words above")

    def close(self) -> None:
        """Let go of the job, which is killed if it runs still, and of what it handed over."""
        self._theirs.close()
        self._channel.hang_up()
        self._ended = None

    def abandon(self) -> None:
        """Let go in a forked copy of the caller: the job is not this one's."""
        self.may_run, self._is_copy = False, True
        self._theirs.abandon()
        self._channel.abandon()

    def stop(self) -> None:
        """Ask the job to end with SIGINT, and to be killed after its grace; asked again, it is killed at once."""
        self._channel.send({"kind": "stop"})

    def wait(self, on_message: Callable[[Message], None]) -> EndedJob:
        """Follow the job to its end; call it again after an interruption.

        Args:
            on_message: called with each message of the keeper and the job; what it raises comes out here.

        Raises:
            RuntimeError: in a forked copy of the caller.
        """
        self._theirs.close()  # else the end of the job's side could not be seen here
        while self._ended is None:
            received = self._channel.receive()
            if received is None:
                self._ended = self._lost()
                break
            message, descriptors = received
            self.was_heard = True
            if message["kind"] == "ended":
                self._take_end(EndRecord.from_message(message["record"]), descriptors)
            elif message["kind"] == "failed":
                self._ended = self._lost(message["why"])
            else:
                self._note(message)
                on_message(message)
        assert self._ended is not None
        return self._ended

    def _take_end(self, record: EndRecord, descriptors: Descriptors) -> None:
        self._channel.close()
        # What is known even if Ctrl-C comes while the result is rebuilt.
        self._ended = EndedJob(record, None, None, "")
        self._ended = _collect(record, descriptors)

    def _note(self, message: Message) -> None:
        if message["kind"] == "started":
            self.pid, self.start_ticks = message["pid"], message["start_ticks"]
            self._fence_kind = message["fence"]
        elif message["kind"] == "shared":
            self._shared = SharedNote.from_message(message)
        self._peak_bytes = message.get("peak_bytes", self._peak_bytes)

    def _lost(self, why: str = "the keeper of the job vanished") -> EndedJob:
        if self._is_copy:
            raise RuntimeError("a forked copy of the process that started a job cannot wait for it")
        self._channel.close()
        ending = Ending(
            None, Delivery.NOTHING, None, self.spec.plan.limit_bytes, self._peak_bytes, self._fence_kind
        )
        cleanup = self._clear_up()
        record = EndRecord(ending, time.monotonic() - self._began_s, cleanup, 0, (), (why,))
        return EndedJob(record, None, None, "")

    def _clear_up(self) -> CleanupSummary:
        """Do what the keeper cannot do any more; the template, which its job's processes come to, kills them."""
        first = () if self.pid is None or self.start_ticks is None else ((self.pid, self.start_ticks),)
        gone = wait_all_gone(first, _LOST_WAIT_S)
        swept = sweep_stale_fences()
        gone = wait_all_gone(self._shared.makers, _LOST_WAIT_S) and gone
        traces = SharedTraces(self._shared_before, self._shared)
        told, cleared = traces.clear(first, self._began_wall_s)
        leftovers = (*(f"fence {path} was removed" for path in swept), *told)
        return CleanupSummary(0.0, gone and cleared, leftovers)


def _collect(record: EndRecord, descriptors: Descriptors) -> EndedJob:
    if record.ending.delivery is Delivery.NOTHING:
        return EndedJob(record, None, None, "")
    try:
        content = _open_result(descriptors)
    except TransferError as failure:
        return EndedJob(_as_raised(record), None, failure, "")
    finally:
        descriptors.close()
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


def _open_result(descriptors: Descriptors) -> Any:
    if not descriptors:
        raise TransferError(
            "the job's result could not be handed over: this process has no descriptor left for it; "
            "close files, or raise the limit (`ulimit -n`)"
        )
    try:
        return unpack(descriptors.fileno(), give_back=True)
    except Exception as error:  # unpickling runs the classes' own code
        raise TransferError(
            f"the job's result arrived but cannot be rebuilt here: {redact_error(error)}; "
            "import the module of its class, or return plain data"
        ) from error


def _abandon_in_child() -> None:
    for job in list(_running):
        job.abandon()


_running: WeakSet[RunningJob] = WeakSet()
os.register_at_fork(after_in_child=_abandon_in_child)
