"""Signals that cannot hit the wrong process: each is sent to a process, not to a number.

Comes in: (pid, start ticks) pairs, or pids with a way to ask again who is meant. Goes out: signals.
A pidfd is taken first and the identity checked afterwards, so a pid that is used again in between
shows as another start time and is left alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from memguard.host import _libc, portable
from memguard.host.identity import read_stat

__all__ = ["HAS_PIDFD", "kill_listed", "kill_processes"]

HAS_PIDFD: Final = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")


def kill_processes(pids: Iterable[tuple[int, int]], signal_number: int = signal.SIGKILL) -> tuple[int, ...]:
    """Send a signal to processes that are still who they were.

    Args:
        pids: pid and start ticks of each, as `TreeSampler.processes` gives them.
        signal_number: SIGKILL by default; its memory is then also released at once where the kernel can.

    Returns:
        The pids that got the signal; those that were gone, replaced or out of reach are left out.
    """
    return tuple(pid for pid, ticks in pids if pid > 0 and _signal_checked(pid, ticks, signal_number))


def _signal_checked(pid: int, start_ticks: int, signal_number: int) -> bool:
    with _pidfd(pid) as handle:
        return handle is not None and _is_same(pid, start_ticks) and _send(handle, pid, signal_number)


def _is_same(pid: int, start_ticks: int) -> bool:
    if not portable.HAS_PROC:
        return portable.is_alive(pid, start_ticks)
    try:
        stat = read_stat(pid)
    except (OSError, ValueError):
        return False
    return stat.start_ticks == start_ticks and not stat.is_dead


@contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    """Hold a process by a descriptor; -1 where the kernel has none, ``None`` when it is gone."""
    handle = _open_pidfd(pid)
    try:
        yield handle
    finally:
        if handle is not None and handle >= 0:
            os.close(handle)


def _open_pidfd(pid: int) -> int | None:
    if not HAS_PIDFD:
        return -1
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError:
        # EINVAL for a thread's id, EMFILE, ENOSYS before Linux 5.3 or under a seccomp filter.
        return -1


def _send(handle: int, pid: int, signal_number: int) -> bool:
    try:
        if handle >= 0:
            signal.pidfd_send_signal(handle, signal_number)
        else:
            os.kill(pid, signal_number)
    except (ProcessLookupError, PermissionError):
        return False
    if handle >= 0 and signal_number == signal.SIGKILL:
        _release_memory(handle)
    return True


def _release_memory(handle: int) -> None:
    # Only speeds up what the kernel does anyway; it refuses when the process is gone already or its
    # memory is shared with one that lives.
    with contextlib.suppress(OSError, AttributeError):
        _libc.process_mrelease(handle)


def kill_listed(list_pids: Callable[[], Collection[int]], timeout_s: float) -> bool:
    """SIGKILL all that a cgroup lists, again and again until it lists nobody.

    Each pid is held by a pidfd and looked up a second time before it is killed: who is listed in
    both readings is inside the cgroup now, whatever its number meant before.

    Args:
        list_pids: reads who is inside.
        timeout_s: when to give up, in seconds.

    Returns:
        Whether nobody is left.
    """
    deadline_s = time.monotonic() + timeout_s
    while pids := list_pids():
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return False
        _kill_once(pids, list_pids, left_s)
    return True


def _kill_once(pids: Collection[int], list_pids: Callable[[], Collection[int]], timeout_s: float) -> None:
    with contextlib.ExitStack() as stack:
        handles = {pid: stack.enter_context(_pidfd(pid)) for pid in pids}
        inside = set(list_pids())
        hit = [handle for pid, handle in handles.items() if handle is not None and pid in inside]
        for pid, handle in handles.items():
            if handle is not None and pid in inside:
                _send(handle, pid, signal.SIGKILL)
        _wait_dead(hit, min(timeout_s, 1.0))


def _wait_dead(handles: Iterable[int], timeout_s: float) -> bool:
    """Wait until the processes behind pidfds have ended.

    Args:
        handles: pidfds; -1 stands for a process that could not be held and is waited for 1 ms.
        timeout_s: when to give up, in seconds.

    Returns:
        Whether all of them are known to have ended.
    """
    poll, left, unknown = select.poll(), 0, False
    for handle in handles:
        if handle < 0:
            unknown = True
        else:
            poll.register(handle, select.POLLIN)
            left += 1
    if unknown:
        time.sleep(0.001)
    deadline_s = time.monotonic() + timeout_s
    while left and (rest_s := deadline_s - time.monotonic()) > 0:
        for handle, _ in poll.poll(rest_s * 1000):
            poll.unregister(handle)
            left -= 1
    return left == 0 and not unknown
