"""The janitor of a wrapped command: a small process that cleans up if the wrapper itself is killed.

It also tells a signal to the whole process group from one to the wrapper alone: it sits in the same group with every
signal blocked, so a group signal is pending on it too. Only the latter must be passed on to the command, which has
otherwise received it already.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from dataclasses import asdict
from operator import itemgetter
from typing import Any, Final, NoReturn

from memguard.host import (
    ReceivedSignal,
    SharedMemoryFinder,
    kill_processes,
    pending_signals,
    processes_with_environment,
    shared_memory_there,
    start_ticks,
    sweep_stale_fences,
    wait_all_gone,
)
from memguard.worker.protocol import above_streams
from memguard.worker.shared_traces import SharedNote, SharedTraces

__all__ = ["JOB_VARIABLE", "STOP_SIGNALS", "Janitor"]

# How a terminal stops a group; SIGSTOP, which cannot be waited for, is not one of them.
STOP_SIGNALS: Final = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
JOB_VARIABLE: Final = "MEMGUARD_JOB_ID"
# The kernel signals a group one process after the other, in microseconds; this is for a busy machine.
_GROUP_DELIVERY_S: Final = 0.005
# si_code of a signal that the kernel made. The terminal's go to the whole foreground group, timers' do not.
_SI_KERNEL: Final = 0x80
# A killed process leaves within milliseconds unless it has gigabytes to free or waits for a disk.
_GONE_WAIT_S: Final = 5.0


class Janitor:
    """Started before the command, dismissed after its cleanup.

    Attributes:
        pid: its process, a child of the wrapper.
        is_alive: whether it was not yet seen to have ended.
        shared_before: `memguard.host.shared_memory_there` from before the command.
    """

    def __init__(self, job_id: str) -> None:
        owner_pid = os.getpid()
        owner = (owner_pid, start_ticks(owner_pid) or 0)
        reader, self._writer = os.pipe()
        self.shared_before = shared_memory_there()
        self._notes = _Notes()
        try:
            self.pid = os.fork()
            if self.pid == 0:
                os.close(self._writer)
                _be_janitor(reader, self._notes, job_id, owner=owner, shared_before=self.shared_before)
        except OSError:
            os.close(self._writer)
            self._notes.close()
            raise
        finally:
            os.close(reader)
        self.is_alive = True

    def saw(self, received: ReceivedSignal) -> bool:
        """Whether a signal went to the whole process group, and not to the wrapper alone."""
        select.select([], [], [], _GROUP_DELIVERY_S)
        number = received.number
        try:
            pending = pending_signals(self.pid)
            if number in pending:
                os.write(self._writer, bytes([number]))
        except OSError:  # it was killed; this is the best guess without it
            return received.code == _SI_KERNEL
        return number in pending or _was_undone(number, pending)

    def note_shared(self, note: SharedNote) -> None:
        """Take note of the shared memory that the command has made: it goes with a command that is killed.

        Raises:
            OSError: if there is any and it cannot be noted, as under a limit on the size of files.
        """
        try:
            self._notes.write(note)
        except OSError:
            if note.files:
                raise

    def note_end(self, pid: int) -> None:
        """Take note that a child of the wrapper was reaped."""
        if pid == self.pid:
            self.is_alive = False

    def dismiss(self) -> None:
        """End the janitor; nothing is left for it to do."""
        if self.is_alive:
            # SIGKILL, for it may have been stopped; and before the pipe is closed, for that sets it to work.
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.is_alive = False
        os.close(self._writer)
        self._notes.close()


class _Notes:
    """The latest `SharedNote`, for the janitor to read when the wrapper is dead.

    Not through the pipe, which would make the wrapper wait for a janitor that was stopped. Two pages in turn: who is
    killed while he writes one leaves the other whole.
    """

    def __init__(self) -> None:
        self._pages = [above_streams(os.memfd_create("memguard-janitor", os.MFD_CLOEXEC)) for _ in range(2)]
        self._written = 0
        self._last = SharedNote()

    def write(self, note: SharedNote) -> None:
        if note.says_the_same(self._last):
            return
        page = self._pages[self._written % 2]
        # A part of what is written is never whole JSON, and nothing older is behind it.
        os.ftruncate(page, 0)
        content = json.dumps({"number": self._written, **asdict(note)})
        os.pwrite(page, content.encode("utf-8", "surrogateescape"), 0)
        self._written += 1
        self._last = note

    def read(self) -> SharedNote:
        whole = [content for page in self._pages if (content := _parsed(page)) is not None]
        return SharedNote.from_message(max(whole, key=itemgetter("number"))) if whole else SharedNote()

    def close(self) -> None:
        for page in self._pages:
            os.close(page)


def _parsed(page: int) -> dict[str, Any] | None:
    content = os.pread(page, os.fstat(page).st_size, 0)
    try:
        parsed: dict[str, Any] = json.loads(content)
    except ValueError:  # nothing was written yet, or the wrapper was killed while it wrote
        return None
    return parsed


def _was_undone(number: int, pending: frozenset[int]) -> bool:
    """Whether a stop or SIGCONT to the group was followed by its opposite, for which the kernel forgets it."""
    if number == signal.SIGCONT:
        return bool(pending & STOP_SIGNALS)
    return number in STOP_SIGNALS and signal.SIGCONT in pending


def _be_janitor(
    reader: int,
    notes: _Notes,
    job_id: str,
    *,
    owner: tuple[int, int],
    shared_before: frozenset[tuple[int, int]],
) -> NoReturn:
    status, since_wall_s = 1, time.time()
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        _serve(reader)
        # A dying process closes its descriptors before it counts as dead, and only a dead owner's fence is swept.
        wait_all_gone([owner], _GONE_WAIT_S)
        traces = SharedTraces(shared_before, notes.read())
        _clean_up(job_id, traces)
        traces.clear((), since_wall_s)
        status = 0
    except BaseException:  # noqa: BLE001 - told, and the end of this process either way
        traceback.print_exc()
    finally:
        if sys.stderr is not None:  # it is where memguard was started without one
            sys.stderr.flush()
        os._exit(status)


def _serve(reader: int) -> None:
    """Forget signals as told; returns when the wrapper is gone without a word."""
    while word := os.read(reader, 1):
        signal.sigtimedwait({word[0]}, 0)


def _clean_up(job_id: str, traces: SharedTraces) -> None:
    deadline_s = time.monotonic() + _GONE_WAIT_S
    while (left := processes_with_environment(JOB_VARIABLE, job_id)) and time.monotonic() < deadline_s:
        held = SharedMemoryFinder().find(pid for pid, _ in left)
        traces.note(held, {*traces.last.makers, *left})
        kill_processes(left, signal.SIGKILL)
        wait_all_gone(left, _GONE_WAIT_S)
    sweep_stale_fences()
