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
from collections.abc import Iterable
from dataclasses import asdict
from typing import Final, NoReturn

from memguard.host import (
    ReceivedSignal,
    kill_processes,
    pending_signals,
    processes_with_environment,
    remove_abandoned,
    start_ticks,
    sweep_stale_fences,
    wait_all_gone,
)
from memguard.host.readings import SharedFile
from memguard.worker.protocol import above_streams

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
    """

    def __init__(self, job_id: str) -> None:
        owner_pid = os.getpid()
        owner = (owner_pid, start_ticks(owner_pid) or 0)
        reader, self._writer = os.pipe()
        # Not through the pipe, which would make the wrapper wait for a janitor that was stopped.
        self._noted = above_streams(os.memfd_create("memguard-janitor", os.MFD_CLOEXEC))
        self._noted_files: tuple[SharedFile, ...] = ()
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _be_janitor(reader, self._writer, self._noted, job_id, owner)
        except OSError:
            os.close(self._writer)
            os.close(self._noted)
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

    def note_shared(self, files: Iterable[SharedFile]) -> None:
        """Take note of the shared memory that the command has made: it goes with a command that is killed.

        Raises:
            OSError: if that cannot be noted, as under a limit on the size of files.
        """
        files = tuple(files)
        if [_key(file) for file in files] != [_key(file) for file in self._noted_files]:
            self._noted_files = files
            os.ftruncate(self._noted, 0)
            os.pwrite(self._noted, json.dumps([asdict(file) for file in files]).encode(), 0)

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
        os.close(self._noted)


def _key(file: SharedFile) -> tuple[str, int, int]:
    # Its size changes all the time, and the same name may be another file.
    return file.path, file.device, file.inode


def _was_undone(number: int, pending: frozenset[int]) -> bool:
    """Whether a stop or SIGCONT to the group was followed by its opposite, for which the kernel forgets it."""
    if number == signal.SIGCONT:
        return bool(pending & STOP_SIGNALS)
    return number in STOP_SIGNALS and signal.SIGCONT in pending


def _be_janitor(reader: int, writer: int, noted: int, job_id: str, owner: tuple[int, int]) -> NoReturn:
    status, since_wall_s = 1, time.time()
    try:
        os.close(writer)
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        _serve(reader)
        _clean_up(job_id, owner)
        remove_abandoned(_read_noted(noted), since_wall_s)
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


def _clean_up(job_id: str, owner: tuple[int, int]) -> None:
    # A dying process closes its descriptors before it counts as dead, and only a dead owner's fence is swept.
    wait_all_gone([owner], _GONE_WAIT_S)
    deadline_s = time.monotonic() + _GONE_WAIT_S
    while (left := processes_with_environment(JOB_VARIABLE, job_id)) and time.monotonic() < deadline_s:
        kill_processes(left, signal.SIGKILL)
        wait_all_gone(left, _GONE_WAIT_S)
    sweep_stale_fences()


def _read_noted(descriptor: int) -> tuple[SharedFile, ...]:
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    try:
        return tuple(SharedFile(**each) for each in json.loads(content or b"[]"))
    except ValueError:  # the wrapper was killed while it wrote
        return ()
