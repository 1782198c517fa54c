"""The room for a job's result: a segment that its keeper makes and fills with pages, outside the job's fence.

A job that fits its budget while working must not die of handing over its result, and a machine without room for a
second copy must not be brought down by it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Final

from memguard.errors import TransferError
from memguard.host import read_machine
from memguard.host.descriptors import Descriptors
from memguard.worker.buffers import create_segment
from memguard.worker.refusal import FILE_SIZE_ADVICE

__all__ = ["ResultRoom"]

# The segment is filled with pages in steps, so that watching goes on meanwhile.
_STEP_BYTES: Final = 64 * 1024 * 1024
# What must stay free on the machine after a result was given its pages.
_MARGIN_FRACTION: Final = 0.05


class ResultRoom:
    """Makes a segment whenever the job asks for one; the last one counts."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._segment = Descriptors()

    @property
    def descriptor(self) -> int:
        """The segment, or -1; to send on."""
        return self._segment.fileno()

    def provide(self, size_bytes: int, *, on_made: Callable[[int], None], on_step: Callable[[], None]) -> str:
        """Make a segment with pages.

        Args:
            size_bytes: how large.
            on_made: told the descriptor before there are pages.
            on_step: called again and again while pages are made.

        Returns:
            Why there is none, or ``""``.

        Raises:
            TransferError: if not memory is missing but the limit on file sizes is in the way.
        """
        self._segment.close()
        refusal = _shortage(size_bytes)
        if refusal:
            return refusal
        try:
            self._segment = create_segment(f"memguard-result-{self._job_id}", size_bytes)
            on_made(self.descriptor)
            for start in range(0, size_bytes, _STEP_BYTES):
                os.posix_fallocate(self.descriptor, start, min(_STEP_BYTES, size_bytes - start))
                on_step()
        except (OSError, OverflowError) as error:
            self._segment.close()
            if isinstance(error, OSError) and error.errno == errno.EFBIG:
                raise TransferError(
                    f"a result of {size_bytes} bytes cannot cross: {FILE_SIZE_ADVICE}"
                ) from error
            return f"no memory for a result of {size_bytes} bytes: {error}"
        return ""


def _shortage(size_bytes: int) -> str:
    with contextlib.suppress(OSError):  # a machine that cannot be read refuses nothing
        machine = read_machine()
        free = machine.available_bytes - int(machine.capacity_bytes * _MARGIN_FRACTION)
        if size_bytes > free:
            return f"the result is {size_bytes} bytes and only {max(0, free)} are free; write it to a file instead"
    return ""
