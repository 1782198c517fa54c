"""One sentinel for a domain: a lock that the kernel releases with its holder, and who holds it.

Comes in: the file. Goes out: the lock, or who has it. The file is removed by its last holder; whoever locks one that
was removed meanwhile sees that and locks the new one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from pathlib import Path
from typing import Final

from memguard.host import identify
from memguard.host.readings import ProcessIdentity
from memguard.ledger.beacon import domain_file

__all__ = ["SentinelLock", "sentinel_of"]

_LARGEST_BYTES: Final = 4096


class SentinelLock:
    """Held until `release`, or until this process ends. Made by `take`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        text = json.dumps(dataclasses.asdict(identify())).encode()
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))

    @classmethod
    def take(cls, path: Path) -> SentinelLock | None:
        """Take it; ``None`` if another process has it.

        Raises:
            OSError: if the file cannot be had.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(path, descriptor):
                    return cls(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # it was removed by whoever had it before

    @property
    def is_replaced(self) -> bool:
        """Whether another file is at its path by now: the folder was removed, and somebody else watches a new one."""
        return self._path.exists() and not _is_at(self._path, self._descriptor)

    def release(self) -> None:
        """Give it back, and leave no file; once."""
        with contextlib.suppress(OSError):
            if _is_at(self._path, self._descriptor):
                os.unlink(self._path)
        os.close(self._descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def sentinel_of(folder: Path, domain: str) -> ProcessIdentity | None:
    """Return the sentinel of a domain, as far as is written; it may be dead. ``None`` if there is none."""
    try:
        with open(domain_file(folder, "sentinel.lock", domain), "rb") as opened:
            fields = json.loads(opened.read(_LARGEST_BYTES))
        return ProcessIdentity(**fields)
    except (OSError, ValueError, TypeError):  # not there, or not written yet
        return None
