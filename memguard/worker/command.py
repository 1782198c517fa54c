"""Wrapping a command: the whole process tree of any program inside a budget, everything else untouched.

Comes in: the words of a command and a plan. Goes out: its exit status and an `EndRecord`. The command keeps stdin,
stdout, stderr, terminal, process group, working directory, open descriptors and signal settings of the wrapper. Signals
that reach the wrapper alone are passed on; those that reached the whole group are not sent twice.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from memguard.host import become_subreaper, children_of
from memguard.worker.fencing import Enclosure, build_enclosure
from memguard.worker.janitor import JOB_VARIABLE, Janitor
from memguard.worker.reaper import Reaper
from memguard.worker.recorder import JobRecorder
from memguard.worker.spec import EndRecord, GuardPlan
from memguard.worker.tree_guard import TreeGuard
from memguard.worker.verdict import Delivery, Ending, StopReason
from memguard.worker.watch import Notice

__all__ = ["BUDGET_VARIABLE", "CommandGuard", "CommandNotStarted"]

BUDGET_VARIABLE: Final = "MEMGUARD_JOB_BUDGET"

_STOP_SIGNALS: Final = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
_ENDING_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
_PASSED_ON: Final = (
    _STOP_SIGNALS
    | _ENDING_SIGNALS
    | {signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGWINCH, signal.SIGALRM, signal.SIGURG}
)
_WAITED_FOR: Final = _PASSED_ON | {signal.SIGCHLD}
# si_code of a signal that the kernel made, at the terminal's request: it went to the whole foreground group.
_SI_KERNEL: Final = 0x80
# What Python changes for itself at start; a command must find the defaults.
_PYTHON_IGNORES: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_ERRNO: Final = struct.Struct("<i")


class CommandNotStarted(OSError):  # noqa: N818 - it says what is so, as the whole tree of errors does
    """The command could not be executed; ``errno`` says why."""


class CommandGuard:
    """Runs one command to its end in the calling (main) thread."""

    def __init__(self, job_id: str, words: Sequence[str], plan: GuardPlan, recorder: JobRecorder) -> None:
        self._job_id = job_id
        self._words = tuple(words)
        self._plan = plan
        self._recorder = recorder
        self._stop_reason: StopReason | None = None
        self._deadline_s: float | None = None
        self._passed_on: set[int] = set()

    def run(self) -> EndRecord:
        """Start the command, guard it, leave nothing of it.

        Raises:
            CommandNotStarted: if it cannot be executed.
        """
        become_subreaper()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
        self._janitor = Janitor(self._job_id)
        try:
            enclosure = build_enclosure(self._job_id, self._plan)
            return self._guard_tree(enclosure, self._start(enclosure, mask))
        finally:
            self._janitor.dismiss()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _start(self, enclosure: Enclosure, mask: set[Any]) -> int:
        reader, writer = os.pipe()
        parent_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self._execute(enclosure, parent_pid, mask, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            failure = answer.read(_ERRNO.size)
        if failure:
            os.waitpid(pid, 0)
            if enclosure.fence is not None:
                enclosure.fence.remove()
            number = _ERRNO.unpack(failure)[0]
            raise CommandNotStarted(number, os.strerror(number), self._words[0])
        return pid

    def _execute(self, enclosure: Enclosure, parent_pid: int, mask: set[Any], writer: int) -> NoReturn:
        number = errno.EIO
        try:
            enclosure.enter(parent_pid)
            for each in _PYTHON_IGNORES:
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execvpe(self._words[0], self._words, self._environment())
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os.write(writer, _ERRNO.pack(number))
            os._exit(127)

    def _environment(self) -> dict[str, str]:
        own = {JOB_VARIABLE: self._job_id, BUDGET_VARIABLE: str(self._plan.limit_bytes)}
        return {**os.environ, **own}

    def _guard_tree(self, enclosure: Enclosure, pid: int) -> EndRecord:
        self._started_s = time.monotonic()
        self._recorder.take({"kind": "started", "fence": enclosure.kind}, 0.0)
        self._guard = TreeGuard(pid, enclosure.fence, self._plan.watch_limits, adopted=self._adopted)
        if enclosure.degraded:
            self._guard.degraded[enclosure.degraded] = None
        self._reaper = Reaper(pid)
        try:
            while not self._reaper.reap():
                self._turn()
        except BaseException:
            self._guard.kill_all()
            self._guard.finish(0.0, remove_shared=True)
            raise
        return self._end(enclosure)

    def _adopted(self) -> tuple[tuple[int, int], ...]:
        return tuple(child for child in children_of(os.getpid()) if child[0] != self._janitor.pid)

    def _turn(self) -> None:
        received = signal.sigtimedwait(_WAITED_FOR, self._guard.next_wait_s())
        if received is not None and received.si_signo != signal.SIGCHLD:
            self._pass_on(received)
        self._look()

    def _pass_on(self, received: signal.struct_siginfo) -> None:
        number = received.si_signo
        if received.si_code != _SI_KERNEL and not self._janitor.saw(number):
            self._guard.signal_root(number)
        self._passed_on.add(number)
        if number in _STOP_SIGNALS:
            # Stop like the rest of the group, so that the shell gets its terminal back; SIGCONT wakes both.
            os.kill(os.getpid(), signal.SIGSTOP)

    def _look(self) -> None:
        now = time.monotonic()
        for notice in self._guard.tick():
            if notice is Notice.NEARED:
                self._recorder.warn_of_nearing(self._guard.watch.used_bytes, now - self._started_s)
            elif self._stop_reason is not StopReason.BUDGET:
                self._stop_reason = self._stop_reason or StopReason.BUDGET
                self._guard.kill_all()
        self._check_time(now)

    def _check_time(self, now_s: float) -> None:
        timeout_s = self._plan.timeout_s
        if timeout_s is not None and self._stop_reason is None and now_s - self._started_s >= timeout_s:
            self._stop_reason = StopReason.TIMEOUT
            self._deadline_s = now_s + self._plan.grace_s
            self._guard.signal_root(signal.SIGTERM)
        if self._deadline_s is not None and now_s >= self._deadline_s:
            self._deadline_s = None
            self._guard.kill_all()

    def _end(self, enclosure: Enclosure) -> EndRecord:
        duration_s = time.monotonic() - self._started_s
        self._guard.tick()
        ending = self._ending(enclosure)
        killed = ending.stop_reason is not None or bool(ending.fence_oom_kills)
        cleanup = self._guard.finish(self._plan.grace_s, remove_shared=killed)
        self._reaper.reap()
        return EndRecord(
            ending,
            duration_s,
            cleanup,
            0,
            self._guard.processes_at_peak,
            tuple(self._guard.degraded),
        )

    def _ending(self, enclosure: Enclosure) -> Ending:
        exit_code = self._reaper.exit_code
        assert exit_code is not None
        reason = self._stop_reason
        if reason is None and -exit_code in self._passed_on & _ENDING_SIGNALS:
            reason = StopReason.INTERRUPT
        return self._guard.ending(exit_code, Delivery.NOTHING, reason, enclosure.kind)
