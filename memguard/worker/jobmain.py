"""The job's own process: goes behind its fence, waits for its job, then calls, delivers and ends.

Comes in: a message with the job's `JobSpec`, the streams it writes to and the segment with the call. Goes out: the
value or the exception, in a segment that the keeper provides (so that delivering a result is not charged to the
job's budget), and one ``delivered`` message. Never returns.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn

from memguard.errors import TransferError
from memguard.worker.buffers import Packed, pack, write_packed
from memguard.worker.call import PackedCall, flush_streams, large_files_allowed, unpack_call
from memguard.worker.context import JobContext, current_job, enter_job, leave_job
from memguard.worker.fencing import Enclosure
from memguard.worker.protocol import Channel
from memguard.worker.raised import pack_error
from memguard.worker.spec import JobSpec
from memguard.worker.verdict import Delivery, delivery_of

__all__ = ["run_job_and_exit"]

# What the template may have set for itself; Python's own SIGPIPE setting stays.
_INHERITED_HANDLERS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


def run_job_and_exit(channel: Channel, enclosure: Enclosure, parent_pid: int) -> NoReturn:
    """Be the job, from the fork on."""
    try:
        enclosure.enter(parent_pid)
        received = channel.receive()
    except BaseException:  # noqa: BLE001 - the last line of a process: told, and in its status
        traceback.print_exc()
        os._exit(1)
    if received is None:  # there is no job for it
        os._exit(0)
    message, descriptors = received
    stdout, stderr, arguments = descriptors.give_away()
    _run(JobSpec.from_message(message["spec"]), channel, enclosure, (stdout, stderr), arguments)


def _run(
    spec: JobSpec, channel: Channel, enclosure: Enclosure, stdio: tuple[int, int], arguments: int
) -> NoReturn:
    status = 1
    try:
        enclosure.submit_to(spec.plan, arguments_bytes=os.fstat(arguments).st_size)
        _settle(stdio)
        enter_job(JobContext(spec.job_id, spec.name, spec.plan.limit_bytes, channel, spec.seat))
        delivery, packed = _call(arguments, spec)
        _deliver(channel, delivery, packed)
        status = 0 if delivery is Delivery.VALUE else 1
    except KeyboardInterrupt:  # stopped while it handed over: that it ended without a result tells everything
        pass
    except BaseException:  # noqa: BLE001 - the last line of a process: told, and in its status
        traceback.print_exc()
    finally:
        _leave(status)


def _settle(stdio: tuple[int, int]) -> None:
    for number in _INHERITED_HANDLERS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (stdio[0], 1), (stdio[1], 2)):
        os.dup2(descriptor, target)
        os.close(descriptor)
    _reseed()


def _reseed() -> None:
    """Give numpy's global generator fresh entropy: every job forked from a template would draw the same numbers."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def _call(arguments: int, spec: JobSpec) -> tuple[Delivery, Packed]:
    try:
        # Blocked since before the fork, so that a stop which came too early for the handlers is not lost; others may
        # have been blocked by the thread of the caller that started the template.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        call = unpack_call(arguments)
        os.close(arguments)
        call.surroundings.adopt()
        os.environ.update(spec.variables)  # for the programs that it starts
        return Delivery.VALUE, pack(_loaded(call)(), what="the result")
    except BaseException as error:  # noqa: BLE001 - whatever the job raises is its outcome
        return delivery_of(error), pack_error(error)


def _loaded(call: PackedCall) -> Callable[[], Any]:
    """Load what to call, which imports what it needs; then its threads can be given their share."""
    function = call.load()
    context = current_job()
    if context is not None:
        context.follow_threads()
    return function


def _deliver(channel: Channel, delivery: Delivery, packed: Packed) -> None:
    channel.send({"kind": "need", "bytes": packed.total_bytes})
    received = channel.receive()
    if received is None:
        raise ConnectionError("the keeper is gone")
    message, descriptors = received
    if message["kind"] == "refused":
        refused = (TransferError if message["barred"] else MemoryError)(message["why"])
        if delivery is not Delivery.VALUE:
            raise refused
        return _deliver(channel, delivery_of(refused), pack_error(refused))
    with large_files_allowed():
        write_packed(packed, descriptors.fileno())
    descriptors.close()
    channel.send({"kind": "delivered", "delivery": delivery.value})
    return None


def _leave(status: int) -> NoReturn:
    """End the process as an interpreter would: wait for threads, run exit handlers, flush."""
    try:
        leave_job()
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        flush_streams()
    except KeyboardInterrupt:  # stopped while it waited for its threads: what it had to say was said
        pass
    except BaseException:  # noqa: BLE001 - the last line of a process: told, and in its status
        traceback.print_exc()
    finally:
        os._exit(status)
