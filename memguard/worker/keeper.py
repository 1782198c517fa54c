"""The keeper: forked from the template for one job, it forks the job, guards its tree and leaves nothing of it.

Comes in: from the template, a `JobSpec`, the caller's channel, the caller's stdout and stderr, the segment with
function and arguments; until they come, the job's process waits (`memguard.worker.standby`). Goes out: progress
messages, and one ``ended`` message with an `EndRecord` and the segment of the result. It is the subreaper of
everything the job starts, so an orphan comes to it and not to init. If the caller dies or closes its manager, the job
is stopped; if the keeper dies, the kernel kills the job and the template sweeps up (`memguard.worker.template`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final

from memguard.errors import TransferError
from memguard.host import (
    become_subreaper,
    children_of,
    identify,
    is_alive,
    resident_bytes_now,
    shared_memory_there,
)
from memguard.ledger.board import Ask
from memguard.worker.advice import Advice, Delivered, Need, understand
from memguard.worker.obedience import Obedience
from memguard.worker.protocol import Channel, GarbledMessageError, Message, leading_that_fit
from memguard.worker.reaper import Reaper
from memguard.worker.result_room import ResultRoom
from memguard.worker.spec import EndRecord, JobSpec
from memguard.worker.standby import Standby, fitting_standby
from memguard.worker.tree_guard import TreeGuard
from memguard.worker.verdict import Delivery, StopReason
from memguard.worker.watch import Notice

__all__ = ["wait_and_keep"]

_PROGRESS_EVERY_S: Final = 0.1
# Messages that wait for a caller who does not read; some hundred bytes each.
_LONGEST_BACKLOG: Final = 1000
# Of the 64 KiB that a message may have. A path may have 4 KiB.
_MOST_TOLD_BYTES: Final = 48 * 1024
_MOST_MAKERS_BYTES: Final = 8 * 1024
_MOST_DEGRADED_BYTES: Final = 8 * 1024
_LONGEST_TEXT: Final = 4000
_GARBLED: Final = "the job wrote something into the guard's channel that is no message"


def wait_and_keep(template: Channel, closing: int, fence: str) -> None:
    """Wait for a job, and run it from its start to its verified end.

    Args:
        template: where the job comes from; closed before it runs.
        closing: an eventfd that becomes readable when the caller closes its manager.
        fence: the kind that jobs are expected to ask for.
    """
    os.setsid()
    become_subreaper()
    standby = None
    with contextlib.suppress(
        OSError
    ):  # no process can be made at the moment; a job that comes will try again
        standby = Standby(fence, lambda: _close_all(template.fileno(), closing))
    received = template.receive()
    template.close()
    if received is not None:
        message, descriptors = received
        connection, stdout, stderr, arguments = descriptors.give_away()
        with Channel.adopt(connection) as caller:
            spec = JobSpec.from_message(message["spec"])
            if _keep(spec, caller, (stdout, stderr), arguments, closing=closing, standby=standby):
                return
    if standby is not None:
        standby.discard()


def _keep(
    spec: JobSpec,
    caller: Channel,
    stdio: tuple[int, int],
    arguments: int,
    *,
    closing: int,
    standby: Standby | None,
) -> bool:
    """Run one job; returns False, and leaves the standby alone, if nobody wants it any more."""
    owner = _open_pidfd(spec.owner.pid)
    if owner < 0 or not is_alive(spec.owner):
        return False
    shared_before = shared_memory_there()
    try:
        own = (caller.fileno(), *stdio, arguments, closing, owner)
        standby, degraded = fitting_standby(standby, spec, lambda: _close_all(*own))
    except OSError as error:
        _tell_failure(caller, "no process could be made for the job", error)
        raise
    baseline_bytes = resident_bytes_now()  # all of it is shared with the template
    fence = standby.enclosure.fence
    limits = spec.plan.watch_limits
    guard = TreeGuard(standby.pid, fence, limits, adopted=_own_children, shared_before=shared_before)
    guard.ignore_shared(arguments)  # its pages are the caller's
    if degraded:
        guard.degraded[degraded] = None
    standby.start(spec, stdio, arguments)
    _close_all(*stdio, arguments)
    keeper = _Keeper(
        spec, caller, standby, guard=guard, owner=owner, closing=closing, baseline_bytes=baseline_bytes
    )
    try:
        keeper.run()
    except BaseException as error:
        keeper.abandon(error)
        raise
    return True


def _tell_failure(caller: Channel, what: str, error: BaseException) -> None:
    caller.send({"kind": "failed", "why": f"{what}: {error}"[:_LONGEST_TEXT]})


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


def _close_all(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class _Keeper:
    def __init__(
        self,
        spec: JobSpec,
        caller: Channel,
        standby: Standby,
        *,
        guard: TreeGuard,
        owner: int,
        closing: int,
        baseline_bytes: int,
    ) -> None:
        self._spec, self._caller, self._job = spec, caller, standby.channel
        self._fence_kind = standby.enclosure.kind
        self._guard = guard
        self._reaper = Reaper(guard.root_pid)
        self._start_ticks = identify(guard.root_pid).start_ticks
        self._baseline_bytes = baseline_bytes
        self._obedience = Obedience(spec.seat)
        self._obedience.note_root(guard.root_pid, self._start_ticks, spec.plan.limit_bytes)
        if self._obedience.degraded:
            guard.degraded[self._obedience.degraded] = None
        self._started_s = time.monotonic()
        self._told_at_s = 0.0
        self._told_shared = guard.shared_note
        self._ask_deadline_s: float | None = None
        self._close_deadline_s: float | None = None
        self._stop_reason: StopReason | None = None
        self._delivery = Delivery.NOTHING
        self._room = ResultRoom(spec.job_id)
        self._backlog: deque[Message] = deque()
        self._job_talks = True
        self._pidfd = os.pidfd_open(guard.root_pid)
        self._owner = owner
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._watch_for(self._job.fileno(), self._hear_job)
        self._watch_for(caller.fileno(), self._hear_caller)
        self._watch_for(owner, self._lose_owner)
        self._closing = closing
        self._watch_for(closing, self._hear_close)

    def _watch_for(self, descriptor: int, handler: Callable[[], None]) -> None:
        self._poll.register(descriptor, select.POLLIN)
        self._handlers[descriptor] = handler

    def _forget(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def run(self) -> None:
        self._tell(
            {
                "kind": "started",
                "pid": self._guard.root_pid,
                "start_ticks": self._start_ticks,
                "fence": self._fence_kind,
                "baseline_bytes": self._baseline_bytes,
            }
        )
        self._poll.register(self._pidfd, select.POLLIN)
        while not self._turn():
            pass
        self._end()

    def abandon(self, error: BaseException) -> None:
        """Leave nothing behind after a fault of the keeper itself, and tell the caller."""
        self._guard.kill_all()
        self._guard.finish(self._spec.plan.grace_s, remove_shared=True)
        _tell_failure(self._caller, type(error).__name__, error)

    def _turn(self) -> bool:
        """Wait for one thing to happen or the next look to be due; returns whether the job has ended."""
        for descriptor, event in self._poll.poll(self._guard.next_wait_s() * 1000):
            handler = self._handlers.get(descriptor)
            if handler is not None and event & ~select.POLLOUT:
                handler()
        self._catch_up()
        self._look()
        return self._reaper.reap()

    def _look(self) -> None:
        for notice in self._guard.tick():
            if notice is Notice.NEARED:
                self._tell(self._use_message("neared"))
            elif self._stop_reason is not StopReason.BUDGET:
                self._stop_reason = self._stop_reason or StopReason.BUDGET
                self._guard.kill_all()
        self._tell_shared()
        self._obey()
        now = time.monotonic()
        self._check_deadlines(now)
        if now - self._told_at_s >= _PROGRESS_EVERY_S:
            self._told_at_s = now
            if not self._backlog and self._caller.send_nowait(self._use_message("use")):
                self._guard.watch.start_anew()

    def _obey(self) -> None:
        asked = self._obedience.look(self._guard.watch.used_bytes)
        if asked is None:
            return
        self._tell({"kind": "asked", "asked": asked.name, "before": self._obedience.before.name})
        if asked is Ask.KILL:
            self._stop_reason = self._stop_reason or StopReason.PRESSURE
            self._guard.kill_all()

    def _tell_shared(self) -> None:
        """Tell the caller which shared memory is the job's: he removes what is left if this keeper is killed."""
        note = self._guard.shared_note
        if not note.says_the_same(self._told_shared):
            self._told_shared = note
            files = leading_that_fit([asdict(file) for file in note.files], _MOST_TOLD_BYTES)
            makers = leading_that_fit(note.makers, _MOST_MAKERS_BYTES)
            self._tell({"kind": "shared", "files": files, "makers": makers})

    def _use_message(self, kind: str) -> Message:
        return {"kind": kind, **self._guard.watch.figures()}

    def _tell(self, message: Message) -> None:
        """Pass a message on, later if the caller is slow to read: the guard never waits for him.

        A job that talks faster than its caller listens is not listened to either until he has caught up.
        """
        if not self._backlog and self._caller.send_nowait(message):
            return
        self._backlog.append(message)
        self._want_room(True)
        if len(self._backlog) >= _LONGEST_BACKLOG:
            self._forget(self._job.fileno())

    def _catch_up(self) -> None:
        while self._backlog and self._caller.send_nowait(self._backlog[0]):
            self._backlog.popleft()
        if not self._backlog:
            self._want_room(False)
        paused = self._job_talks and self._job.fileno() not in self._handlers
        if paused and len(self._backlog) < _LONGEST_BACKLOG // 2:
            self._watch_for(self._job.fileno(), self._hear_job)

    def _want_room(self, wanted: bool) -> None:
        if self._caller.fileno() in self._handlers:
            self._poll.modify(self._caller.fileno(), select.POLLIN | (select.POLLOUT if wanted else 0))

    def _check_deadlines(self, now_s: float) -> None:
        timeout_s = self._spec.plan.timeout_s
        own_s = now_s - self._started_s - self._obedience.held_s  # made to wait is no time of its own
        if timeout_s is not None and self._stop_reason is None and own_s >= timeout_s:
            self._ask_to_stop(StopReason.TIMEOUT, signal.SIGTERM)
        if self._ask_deadline_s is not None and now_s >= self._ask_deadline_s:
            self._ask_deadline_s = None
            self._guard.kill_all()

    def _ask_to_stop(self, reason: StopReason, number: int) -> None:
        """Ask the job to end; it is killed when the grace is over. Asked twice, it is killed at once."""
        if self._stop_reason is not None:
            self._guard.kill_all()
            return
        self._stop_reason = reason
        self._ask_deadline_s = time.monotonic() + self._spec.plan.grace_s
        self._guard.signal_root(number)

    def _hear_caller(self) -> None:
        if self._caller.receive() is None:
            self._lose_owner()
        else:
            self._ask_to_stop(StopReason.INTERRUPT, signal.SIGINT)

    def _hear_close(self) -> None:
        self._forget(self._closing)
        self._close_deadline_s = time.monotonic() + self._spec.plan.grace_s
        if self._stop_reason is None:
            self._ask_to_stop(StopReason.INTERRUPT, signal.SIGINT)

    def _lose_owner(self) -> None:
        self._forget(self._owner)
        self._forget(self._caller.fileno())
        self._stop_reason = self._stop_reason or StopReason.OWNER_GONE
        self._guard.kill_all()

    def _hear_job(self) -> None:
        try:
            received = self._job.receive()
        except GarbledMessageError:
            self._guard.degraded[_GARBLED] = None
            return
        if received is None:
            self._job_talks = False
            self._forget(self._job.fileno())
            return
        message, descriptors = received
        descriptors.close()  # the job has none to give
        match understand(message):
            case Need(size_bytes):
                self._provide_segment(size_bytes)
            case Delivered(delivery):
                self._delivery = delivery
            case Advice(message):
                self._told_at_s *= message["kind"] != "phase"  # what was used before is the former one's
                self._look()
                self._tell(message)
            case None:
                self._guard.degraded[_GARBLED] = None

    def _provide_segment(self, size_bytes: int) -> None:
        """Give the job a segment for its result whose pages are charged to the caller's side, not to its budget."""
        self._guard.look_before_end()
        barred = False
        try:
            refusal = self._room.provide(size_bytes, on_made=self._guard.ignore_shared, on_step=self._look)
        except TransferError as error:
            refusal, barred = str(error), True
        # Without waiting: a job that asks again and again and does not listen must not stop the guard.
        if refusal:
            self._job.send_nowait({"kind": "refused", "why": refusal[:_LONGEST_TEXT], "barred": barred})
        else:
            self._job.send_nowait({"kind": "segment"}, [self._room.descriptor])

    def _end(self) -> None:
        self._drain_job()
        self._guard.tick()
        duration_s = time.monotonic() - self._started_s
        assert self._reaper.exit_code is not None
        ending = replace(
            self._guard.ending(self._reaper.exit_code, self._delivery, self._stop_reason, self._fence_kind),
            owes_value=True,
        )
        cleanup = self._guard.finish(self._grace_left_s(), remove_shared=True)
        self._reaper.reap()
        record = EndRecord(
            ending=ending,
            duration_s=duration_s,
            cleanup=cleanup,
            baseline_bytes=self._baseline_bytes,
            processes=self._guard.processes_at_peak,
            degraded=tuple(leading_that_fit(self._guard.degraded, _MOST_DEGRADED_BYTES)),
        )
        for message in self._backlog:
            self._caller.send(message)
        keeps_result = self._room.descriptor >= 0 and ending.delivery is not Delivery.NOTHING
        self._caller.send(
            {"kind": "ended", "record": record.to_message()}, [self._room.descriptor] if keeps_result else []
        )

    def _grace_left_s(self) -> float:
        """Return how long what the job left may take to end: not beyond what a closing manager grants the job."""
        grace_s = self._spec.plan.grace_s
        if self._close_deadline_s is None:
            return grace_s
        return min(grace_s, max(0.0, self._close_deadline_s - time.monotonic()))

    def _drain_job(self) -> None:
        """Read what the job said before it ended. Not until end of file: a straggler may hold its end open."""
        waiting = select.poll()
        waiting.register(self._job.fileno(), select.POLLIN)
        while self._job_talks and waiting.poll(0):
            self._hear_job()


def _own_children() -> tuple[tuple[int, int], ...]:
    return children_of(os.getpid())
