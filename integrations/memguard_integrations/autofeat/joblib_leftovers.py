"""What joblib's processes leave in shared memory when all of them are killed at once.

Comes in: the report of a job that ran joblib. Goes out: nothing; its named semaphores and memory-mapped folders are
gone. The worker room removes what it saw the job hold; a semaphore that joblib made just before the kill was never
seen, but its name holds the pid of its maker.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Final

from memguard.report import JobReport

__all__ = ["remove_leftovers"]

_SHARED_MEMORY: Final = Path("/dev/shm")
_MADE_BY: Final = re.compile(r"(?:sem\.loky-|joblib_memmapping_folder_)(\d+)[-_]")


def remove_leftovers(report: JobReport, folder: Path = _SHARED_MEMORY) -> tuple[str, ...]:
    """Remove files of joblib whose maker was a process of this job and is dead.

    Args:
        report: the job's; its processes near the peak are those that joblib's files are named after.
        folder: where shared memory has its names.

    Returns:
        The names that were removed.
    """
    makers = {process.pid for process in report.processes if _is_gone(process.pid)}
    removed = []
    for path in folder.glob("*"):
        match = _MADE_BY.match(path.name)
        if match and int(match[1]) in makers and _is_mine(path):
            _remove(path)
            removed.append(path.name)
    return tuple(sorted(removed))


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _is_mine(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
