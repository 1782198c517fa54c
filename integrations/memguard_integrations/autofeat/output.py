"""An output file that appears whole or not at all: written beside its place, put there in one step.

The caller owns it, not the worker that writes into it: however the worker dies, the caller takes the
unfinished file away. Where the file system can (``O_TMPFILE``), the file has no name until it is finished, so
that nothing is left even if the caller is killed too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from memguard.errors import DataError, OutputError
from memguard.files import check_output, publish

__all__ = ["OutputFile", "check_table_output", "output_error"]

_LAST_STREAM: Final = 2


def check_table_output(path: str, *, force: bool) -> None:
    """Raise unless a Parquet file may be written there.

    Raises:
        DataError: for another suffix, a file that exists, a directory that does not or may not be written to.
    """
    if not path.lower().endswith(".parquet"):
        raise DataError("the output is Parquet", subject=path, remedy=f"name it so: {path}.parquet")
    check_output(Path(path), force=force)


def output_error(path: str, error: OSError) -> OutputError:
    """Turn what the system said into one line that names the file and the remedy."""
    remedies = {
        errno.ENOSPC: "free some space or write to another disk",
        errno.EDQUOT: "free some of your quota or write to another disk",
        errno.EEXIST: "it appeared while the job ran; name another file, or replace it with --force",
        errno.EFBIG: "it grew past the largest size allowed; write fewer columns, or raise ulimit -f",
    }
    reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
    remedy = remedies.get(error.errno or 0, "write to another place")
    return OutputError(
        f"{path}: could not be written ({reason}), and nothing is left of it; {remedy}", path=path
    )


def _above_streams(descriptor: int) -> int:
    """Return a descriptor that is no standard stream: where those are closed, jobs would print into the file."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LAST_STREAM + 1)
    finally:
        os.close(descriptor)


class OutputFile:
    """A file in the making.

    Attributes:
        path: where it will be.
        writing_path: where any process of this user can write it meanwhile.
    """

    def __init__(self, path: str, *, force: bool = False) -> None:
        self.path = path
        self._force = force
        self._descriptor = -1
        self._named: str | None = None
        self.writing_path = ""

    def __enter__(self) -> Self:
        directory = os.path.dirname(self.path) or "."
        try:
            try:
                self._descriptor = _above_streams(
                    os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
                )
                self.writing_path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                    raise
                self.writing_path = self._named = self._make_named(directory)
        except OSError as error:
            raise output_error(self.path, error) from error
        return self

    def _make_named(self, directory: str) -> str:
        descriptor, name = tempfile.mkstemp(dir=directory, prefix=self._prefix(), suffix=".part")
        # mkstemp makes private files; the finished one gets what any new file of this user gets.
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(descriptor, 0o666 & ~mask)
        os.close(descriptor)
        return name

    def _prefix(self) -> str:
        # Cut, for a file name may have 255 bytes and this one must fit wherever the other does.
        return f".{os.path.basename(self.path)[:32]}."

    def publish(self) -> None:
        """Put the finished file in its place, in one step.

        Raises:
            OutputError: if that cannot be done; without ``force`` also if a file has appeared there
                meanwhile.
        """
        try:
            if self._force or self._named is not None:
                publish(self._give_name(), self.path, force=self._force)
                self._named = None
            else:
                self._link(self.path)
        except OSError as error:
            raise output_error(self.path, error) from error

    def _give_name(self) -> str:
        if self._named is None:
            name = tempfile.mktemp(dir=os.path.dirname(self.path) or ".", prefix=self._prefix())
            self._link(name)
            self._named = name
        return self._named

    def _link(self, name: str) -> None:
        # A link is refused where the name is taken, unlike a rename. With a directory descriptor, Python
        # follows the link in /proc to the nameless file itself; without one it does not.
        directory = os.open("/", os.O_PATH)
        try:
            os.link(f"/proc/self/fd/{self._descriptor}", name, src_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._named is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._named)
            self._named = None
