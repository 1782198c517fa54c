"""What a process can ask of the kernel for itself and for its children's place in line.

All three are effects on this process or on one that is named; Linux only.
"""

from __future__ import annotations

import os
from typing import Final

from memguard.host import _libc

__all__ = ["become_subreaper", "die_with_parent", "raise_oom_score"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_OOM_SCORE_MAX: Final = 1000


def become_subreaper() -> None:
    """Make orphans below this process its own children, so that none escapes by a double fork.

    Raises:
        OSError: when the kernel refuses.
        AttributeError: on systems without prctl.
    """
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal: int, *, parent_pid: int | None = None) -> None:
    """Ask for a signal when the thread that forked this process ends.

    The kernel watches the forking *thread*, not its process: call it in a child of a thread that lives
    as long as the supervisor does. It is forgotten across the exec of a set-uid program.

    Args:
        signal: its number.
        parent_pid: the parent that is expected; when it is gone already, the signal is sent at once.

    Raises:
        OSError: when the kernel refuses.
        AttributeError: on systems without prctl.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal)
    # A parent that died before the call sends nothing any more.
    if parent_pid is not None and os.getppid() != parent_pid:
        os.kill(os.getpid(), signal)


def raise_oom_score(pid: int, value: int) -> bool:
    """Make the kernel prefer a process when it must kill one; never lowers a score.

    Args:
        pid: the process.
        value: new oom_score_adj, -1000 to 1000; raising needs no privilege.

    Returns:
        Whether the score is now at least ``value``; ``False`` where the kernel does not let it be set.

    Raises:
        ValueError: for a value outside of the range.
    """
    if not -_OOM_SCORE_MAX <= value <= _OOM_SCORE_MAX:
        raise ValueError(f"oom_score_adj goes from -1000 to 1000, not {value}")
    try:
        descriptor = os.open(f"/proc/{pid}/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if int(os.pread(descriptor, 16, 0)) < value:
            os.pwrite(descriptor, str(value).encode(), 0)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
