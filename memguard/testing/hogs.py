"""Functions that take real memory and misbehave for real; top-level, so that they can be run as jobs."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn

from memguard.host.identity import identify, is_alive
from memguard.host.readings import ProcessIdentity

__all__ = ["LeakedBytes", "allocate", "end_tree", "fork_tree", "ignore_sigterm", "leak", "segfault"]

_MIB: Final = 1024**2
# A descendant's pid, and whether it has its memory.
_REPORT: Final = struct.Struct("=i?")
# A child that cannot take its memory in this time is stuck: even at 0.1 GiB/s it would have 3 GiB.
_READY_WITHIN_S: Final = 30.0

_leaked: list[bytearray] = []
_forked: dict[int, ProcessIdentity] = {}


class LeakedBytes:
    """What `leak` took in this process, so that a test can look at it and end it."""

    @staticmethod
    def total() -> int:
        """Return the bytes that are leaked at this moment."""
        return sum(len(each) for each in _leaked)

    @staticmethod
    def release() -> int:
        """Give everything back.

        Returns:
            How many bytes that was.
        """
        released = LeakedBytes.total()
        _leaked.clear()
        return released


def allocate(count_bytes: int, rate_bytes_per_s: float | None = None) -> bytearray:
    """Take memory and touch each page of it, so that it is resident and private.

    Args:
        count_bytes: how much.
        rate_bytes_per_s: how fast to touch it; ``None`` for as fast as the machine can.

    Returns:
        The memory; it is free again when the last reference to it is gone.

    Raises:
        MemoryError: the allocation was refused.
    """
    if rate_bytes_per_s is None:
        return bytearray(count_bytes)  # which writes zeros to all of it
    taken, started_s = bytearray(), time.monotonic()
    for start in range(0, count_bytes, _MIB):
        taken += bytes(min(_MIB, count_bytes - start))
        _keep_pace(started_s + len(taken) / rate_bytes_per_s)
    return taken


def _keep_pace(due_s: float) -> None:
    time.sleep(max(0.0, due_s - time.monotonic()))


def leak(count_bytes: int, chunk_bytes: int = _MIB) -> int:
    """Take memory that outlives the call, in pieces, as a leaking library does.

    Args:
        count_bytes: how much to add to what is leaked already.
        chunk_bytes: size of a piece; positive.

    Returns:
        Bytes leaked by this process so far; `LeakedBytes.release` ends it.
    """
    for start in range(0, count_bytes, chunk_bytes):
        _leaked.append(allocate(min(chunk_bytes, count_bytes - start)))
    return LeakedBytes.total()


def ignore_sigterm(hold_s: float = 0.0) -> None:
    """Be deaf to SIGTERM from now on, and stay for a while.

    Args:
        hold_s: seconds to stay; only SIGKILL ends it sooner.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(hold_s)


def segfault() -> NoReturn:
    """Die of a real segmentation fault: read address 0. Leaves no core file."""
    import resource  # noqa: PLC0415 - not there on every platform, and the other hogs do without it

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)
    raise AssertionError("address 0 is readable here")


def fork_tree(
    children: int = 1,
    *,
    grandchildren: int = 0,
    bytes_each: int = 0,
    hold_s: float = 30.0,
    new_sessions: bool = False,
) -> tuple[int, ...]:
    """Fork children, and their children, that take memory and stay; return when all of them have it.

    They do not end with this process: that is what makes them a test of whoever guards it.

    Args:
        children: processes to fork.
        grandchildren: processes each of them forks in turn.
        bytes_each: memory that each descendant takes.
        hold_s: seconds after which a descendant ends by itself.
        new_sessions: whether each descendant starts a session of its own, out of the process group.

    Returns:
        The pids of all descendants; the caller owns them and ends them with `end_tree`.

    Raises:
        RuntimeError: a descendant did not get ready; all are ended then.
    """
    reader, writer = os.pipe()
    known: set[int] = set()
    try:
        for _ in range(children):
            branch = partial(_descend, writer, grandchildren, bytes_each, hold_s, new_sessions)
            known.add(_remember(_fork(branch)))
        os.close(writer)
        writer = -1
        _read_until_ready(reader, children * (1 + grandchildren), known)
    except BaseException:
        end_tree(known)
        raise
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    return tuple(sorted(known))


def _remember(pid: int) -> int:
    _forked[pid] = identify(pid)
    return pid


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - told here; nothing of it may reach the parent's stack
        traceback.print_exc()
    finally:
        # Never back into the parent's stack: that would run its code and its cleanup twice.
        os._exit(status)


def _descend(writer: int, below: int, bytes_each: int, hold_s: float, new_session: bool) -> None:
    os.write(writer, _REPORT.pack(os.getpid(), False))
    if new_session:
        os.setsid()
    for _ in range(below):
        _fork(partial(_descend, writer, 0, bytes_each, hold_s, new_session))
    taken = allocate(bytes_each)
    os.write(writer, _REPORT.pack(os.getpid(), True))
    os.close(writer)
    time.sleep(hold_s)
    del taken


def _read_until_ready(reader: int, count: int, known: set[int]) -> None:
    ready_count, give_up_s = 0, time.monotonic() + _READY_WITHIN_S
    while ready_count < count:
        readable, _, _ = select.select([reader], [], [], max(0.0, give_up_s - time.monotonic()))
        # A write this short to a pipe is atomic, so a report is never seen in part.
        report = os.read(reader, _REPORT.size) if readable else b""
        if not report:
            raise RuntimeError(f"{ready_count} of {count} descendants got ready")
        pid, ready = _REPORT.unpack(report)
        ready_count += ready
        known.add(pid if pid in _forked else _remember(pid))


def end_tree(pids: Iterable[int]) -> None:
    """Kill processes that `fork_tree` returned in this process, and reap its children among them.

    Those that ended before are left alone.

    Raises:
        ValueError: a pid that `fork_tree` did not return here, or that was ended before.
    """
    owned = tuple(pids)
    if strangers := [pid for pid in owned if pid not in _forked]:
        raise ValueError(f"not from fork_tree in this process: {strangers}")
    for pid in owned:
        _kill(_forked[pid])
    for pid in owned:
        _reap(_forked.pop(pid).pid)


def _kill(process: ProcessIdentity) -> None:
    # By identity: a grandchild that ended is reaped elsewhere, and its pid may be someone else's now.
    if is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _reap(pid: int) -> None:
    # A grandchild is not ours to reap: whoever inherits it does.
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
