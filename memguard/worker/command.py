"""Wrapping a command: the whole process tree of any program inside a budget, everything else untouched.

Comes in: the words of a command and a plan. Goes out: its exit status and an `EndRecord`. The command keeps stdin,
stdout, stderr, terminal, process group, working directory, open descriptors and signal settings of the wrapper. Signals
that reach the wrapper alone are passed on; those that reached the whole group are not sent twice.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, NoReturn, Protocol

from memguard.errors import WorkerStartError
from memguard.host import (
    ReceivedSignal,
    SignalStream,
    become_subreaper,
    children_of,
    start_ticks,
    was_started_with,
)
from memguard.ledger.board import Ask
from memguard.ledger.records import LEASE_VARIABLE
from memguard.ledger.seat import Seat
from memguard.worker.fencing import Enclosure, build_enclosure
from memguard.worker.janitor import JOB_VARIABLE, STOP_SIGNALS, Janitor
from memguard.worker.obedience import Obedience
from memguard.worker.reaper import Reaper
from memguard.worker.recorder import JobRecorder
from memguard.worker.spec import BUDGET_VARIABLE, EndRecord, GuardPlan
from memguard.worker.tree_guard import TreeGuard
from memguard.worker.verdict import Delivery, Ending, StopReason
from memguard.worker.watch import Notice

__all__ = ["CommandGuard", "CommandNotStarted", "Follower"]

_ENDING_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
# What a process brings on itself: by a fault, or by writing where nobody reads or no file may grow.
_OWN: Final = frozenset(
    {
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGPIPE,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
        signal.SIGXFSZ,
    }
)
_PASSED_ON: Final = signal.valid_signals() - _OWN - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
_WAITED_FOR: Final = _PASSED_ON | {signal.SIGCHLD}
# What Python changes for itself at start; a command must find the defaults.
_PYTHON_IGNORES: Final = (signal.SIGPIPE, signal.SIGXFSZ)
# In the C locale Python sets this variable for its children (PEP 538); nobody asked for it here.
_PYTHON_SETS: Final = "LC_CTYPE"
_NO_JANITOR: Final = (
    "its janitor was killed: had memguard been killed too, the command would have gone on unguarded"
)
_AT_ONCE: Final = (StopReason.BUDGET, StopReason.PRESSURE)
_SHELL: Final = "/bin/sh"
_NOT_EXECUTED: Final = b"x"
_NOT_ENCLOSED: Final = b"e"


class CommandNotStarted(OSError):  # noqa: N818 - it says what is so, as the whole tree of errors does
    """The command could not be executed; ``errno`` says why."""


class Follower(Protocol):
    """Who holds a command's lease."""

    @property
    def seat(self) -> Seat | None:
        """Where its figures stand, and what is asked of it."""

    def is_helper(self, pid: int) -> bool:
        """Whether a process was started beside the command, and is not the command's."""

    def follow(self, used_bytes: int) -> None:
        """Take note of what its tree uses now."""


class CommandGuard:
    """Runs one command to its end in the calling (main) thread.

    Args:
        job_id: the job's id.
        words: the command.
        plan: how it is held to its budget.
        recorder: notes what happens.
        tenure: what it has of the machine; told what the tree uses, at each look.
    """

    def __init__(
        self,
        job_id: str,
        words: Sequence[str],
        plan: GuardPlan,
        recorder: JobRecorder,
        tenure: Follower | None = None,
    ) -> None:
        self._job_id = job_id
        self._tenure = tenure
        self._seat = tenure.seat if tenure is not None else None  # a forked copy has none of its own
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
            WorkerStartError: if what is needed around it could not be made.
        """
        with ExitStack() as owned:
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
            owned.callback(signal.pthread_sigmask, signal.SIG_SETMASK, self._mask)
            # Where it is inherited as ignored, the kernel would reap the command and nobody learn how it ended.
            self._on_child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            owned.callback(signal.signal, signal.SIGCHLD, self._on_child)
            with _refusing():
                self._signals = SignalStream(_WAITED_FOR)
                owned.callback(self._signals.close)
                owned.callback(self._forget_late_signals)
                become_subreaper()
                self._janitor = Janitor(self._job_id)
                owned.callback(self._janitor.dismiss)
                enclosure = build_enclosure(self._job_id, self._plan.fence, self._plan.limit_bytes)
                pid = self._start(enclosure)
            return self._guard_tree(enclosure, pid)

    def _forget_late_signals(self) -> None:
        """Take what arrived after the command's end; it must not keep the wrapper from telling how that was."""
        while self._signals.wait(0) is not None:
            pass

    def _start(self, enclosure: Enclosure) -> int:
        try:
            pid, failure = self._fork(enclosure)
            if failure:
                os.waitpid(pid, 0)
                self._refuse(failure[:1], failure[1:])
        except BaseException:
            if enclosure.fence is not None:
                enclosure.fence.remove()
            raise
        return pid

    def _refuse(self, stage: bytes, text: bytes) -> NoReturn:
        if stage == _NOT_EXECUTED:
            raise CommandNotStarted(int(text), os.strerror(int(text)), self._words[0])
        raise OSError(text.decode())

    def _fork(self, enclosure: Enclosure) -> tuple[int, bytes]:
        """Return the command's pid, and what it said if it could not become the command."""
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as answer, os.fdopen(writer, "wb", buffering=0) as failing:
            parent_pid = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._execute(enclosure, parent_pid, failing.fileno())
            failing.close()
            return pid, answer.read()

    def _execute(self, enclosure: Enclosure, parent_pid: int, writer: int) -> NoReturn:
        failure = _NOT_ENCLOSED + b"it failed between fork and exec"
        try:
            refusal = _enter(enclosure, parent_pid, self._plan)
            if not refusal:
                self._restore_signals()
                refusal = _become(self._words, self._environment())
            failure = refusal
        finally:
            os.write(writer, failure)
            os._exit(127)

    def _restore_signals(self) -> None:
        for each in _PYTHON_IGNORES:
            signal.signal(each, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, self._on_child)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _environment(self) -> dict[str, str]:
        own = {JOB_VARIABLE: self._job_id, BUDGET_VARIABLE: str(self._plan.limit_bytes)}
        inherited = dict(os.environ)
        if not was_started_with(_PYTHON_SETS):
            inherited.pop(_PYTHON_SETS, None)
        return {**inherited, **own, **({LEASE_VARIABLE: self._seat.lease_id} if self._seat else {})}

    def _guard_tree(self, enclosure: Enclosure, pid: int) -> EndRecord:
        self._started_s = time.monotonic()
        self._recorder.take({"kind": "started", "fence": enclosure.kind}, 0.0)
        self._guard = TreeGuard(
            pid,
            enclosure.fence,
            self._plan.watch_limits,
            adopted=self._adopted,
            shared_before=self._janitor.shared_before,
        )
        self._obedience = Obedience(self._seat)
        self._obedience.note_root(pid, start_ticks(pid) or 0, self._plan.limit_bytes)
        for fault in (enclosure.degraded, self._obedience.degraded):
            if fault:
                self._guard.degraded[fault] = None
        self._note_shared()
        self._reaper = Reaper(pid, on_end=self._janitor.note_end)
        try:
            while not self._reaper.reap():
                self._turn()
        except BaseException:
            self._guard.kill_all()
            self._guard.finish(0.0, remove_shared=True)
            raise
        finally:
            self._obedience.close()
        return self._end(enclosure)

    def _adopted(self) -> tuple[tuple[int, int], ...]:
        return tuple(child for child in children_of(os.getpid()) if not self._is_helper(child[0]))

    def _is_helper(self, pid: int) -> bool:
        if self._janitor.is_alive and pid == self._janitor.pid:
            return True
        return self._tenure is not None and pid != self._guard.root_pid and self._tenure.is_helper(pid)

    def _turn(self) -> None:
        received = self._signals.wait(self._guard.next_wait_s())
        if received is not None:
            if received.number != signal.SIGCHLD:
                self._pass_on(received)
            self._follow_stop()
        self._look()

    def _pass_on(self, received: ReceivedSignal) -> None:
        whole_group = self._janitor.saw(received)
        if not (whole_group and os.getpgid(self._guard.root_pid) == os.getpgrp()):
            self._guard.signal_root(received.number)
        self._passed_on.add(received.number)

    def _follow_stop(self) -> None:
        """Stop too when the command was stopped from the terminal, so that the shell gets it; `fg` wakes both.

        Not for SIGSTOP: whoever sends that to the command alone will also wake the command alone.
        """
        if self._reaper.stopped_by() in STOP_SIGNALS and signal.SIGCONT not in signal.sigpending():
            os.kill(os.getpid(), signal.SIGSTOP)

    def _look(self) -> None:
        now = time.monotonic()
        notices = self._guard.tick()
        self._note_shared()
        if self._tenure is not None:
            self._tenure.follow(self._guard.watch.used_bytes)
        for notice in notices:
            if notice is Notice.NEARED:
                self._recorder.warn_of_nearing(self._guard.watch.used_bytes, now - self._started_s)
            else:
                self._stop_reason = self._stop_reason or StopReason.BUDGET
                self._guard.kill_all()
        self._obey(now)
        self._check_time(now)

    def _obey(self, now_s: float) -> None:
        asked = self._obedience.look(self._guard.watch.used_bytes)
        if asked is None:
            return
        self._recorder.take(
            {"kind": "asked", "asked": asked.name, "before": self._obedience.before.name},
            now_s - self._started_s,
        )
        if asked is Ask.KILL:
            self._stop_reason = self._stop_reason or StopReason.PRESSURE
            self._guard.kill_all()

    def _note_shared(self) -> None:
        try:
            self._janitor.note_shared(self._guard.shared_note)
        except OSError as error:
            self._guard.degraded[f"shared memory of the command could not be noted: {error}"] = None

    def _check_time(self, now_s: float) -> None:
        timeout_s = self._plan.timeout_s
        own_s = now_s - self._started_s - self._obedience.held_s  # made to wait is no time of its own
        if timeout_s is not None and self._stop_reason is None and own_s >= timeout_s:
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
        # Nobody means to die of SIGKILL: whoever sent it, the command had no say in what it left.
        killed = (
            ending.stop_reason is not None
            or bool(ending.fence_oom_kills)
            or ending.exit_code == -signal.SIGKILL
        )
        # What had no say in the budget's kill, because it was forked meanwhile, gets no grace to go on growing.
        grace_s = 0.0 if ending.stop_reason in _AT_ONCE else self._plan.grace_s
        cleanup = self._guard.finish(grace_s, remove_shared=killed)
        self._reaper.reap()
        if not self._janitor.is_alive:
            self._guard.degraded[_NO_JANITOR] = None
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


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except CommandNotStarted:
        raise
    except OSError as error:
        raise WorkerStartError(
            f"the command was not started: {error}; `memguard doctor` tells what this machine allows"
        ) from error


def _enter(enclosure: Enclosure, parent_pid: int, plan: GuardPlan) -> bytes:
    """Go behind the fence; returns why not, or nothing."""
    try:
        enclosure.enter(parent_pid)
        enclosure.submit_to(plan)
    except OSError as error:
        return _NOT_ENCLOSED + str(error).encode()
    return b""


def _become(words: tuple[str, ...], environment: Mapping[str, str]) -> bytes:
    """Execute a command in place of this process; returns only if that failed, and why.

    As execvp(3) does it, and not as `os.execvpe`, which goes on searching where it has found a script.
    """
    failures = [errno.ENOENT]
    for path in _places_of(words[0], environment):
        try:
            _replace(path, words, environment)
        except OSError as error:
            failures.append(error.errno or errno.EIO)
    telling = [each for each in failures if each not in (errno.ENOENT, errno.ENOTDIR)]
    return _NOT_EXECUTED + str((telling or failures)[0]).encode()


def _places_of(word: str, environment: Mapping[str, str]) -> list[str]:
    if "/" in word:
        return [word]
    if not word:  # it would name every folder
        return []
    return [os.path.join(folder, word) for folder in os.get_exec_path(environment)]


def _replace(path: str, words: tuple[str, ...], environment: Mapping[str, str]) -> None:
    try:
        os.execve(path, words, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without a first line that names its interpreter.
    os.execve(_SHELL, [_SHELL, path, *words[1:]], environment)
