"""What a machine or a limit refused on the way to a job, told with the next step."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from memguard.errors import MemguardError, TransferError, WorkerStartError

__all__ = ["FILE_SIZE_ADVICE", "explained"]

FILE_SIZE_ADVICE: Final = (
    "the limit on the size of files counts for shared memory too: raise it (`ulimit -f`), "
    "or write to a file elsewhere and pass its path"
)
_NEXT_STEP: Final[Mapping[int | None, str]] = {
    errno.EMFILE: "; this process has no descriptor left for it: close files, or raise the limit (`ulimit -n`)",
    errno.ENFILE: "; the machine has no descriptor left for it: close files, or raise fs.file-max",
    errno.EAGAIN: "; the machine lets no process be made: end some, or raise the limit (`ulimit -u`)",
    errno.ENOMEM: "; the machine has no memory left for it",
    errno.ENOSPC: "; the machine has no memory left for it",
}


@contextmanager
def explained() -> Iterator[None]:
    """Have what is refused in the block, before a job runs, raised as an error of ours.

    Raises:
        TransferError: a call that the limit on file sizes has no room for.
        WorkerStartError: anything else that the machine refused.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, MemguardError):
            raise
        if error.errno == errno.EFBIG:
            raise TransferError(f"the function or its arguments cannot cross: {FILE_SIZE_ADVICE}") from error
        step = _NEXT_STEP.get(error.errno, "")
        raise WorkerStartError(f"no worker could be started: {error}{step}") from error
