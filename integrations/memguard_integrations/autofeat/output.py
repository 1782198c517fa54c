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
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from memguard.errors import DataError, OutputError
from memguard.files import check_output, publish
from memguard.units import format_bytes

__all__ = ["OutputFile", "check_table_output", "output_error", "room_warning"]

_LAST_STREAM: Final = 2
# Other ways to keep a table; one is replaced by .parquet where that is proposed.
_OTHER_TABLES: Final = (".csv.gz", ".csv", ".pq", ".feather", ".xlsx", ".txt", ".tsv", ".json")
# A page, the least that a file takes up; an empty table is no larger.
_TRIAL_BYTES: Final = 4096


def check_table_output(path: str, *, force: bool) -> None:
    """Raise unless a Parquet file can be written there: one is, with a few bytes in it, and removed again.

    Raises:
        DataError: for a folder or a device, another suffix, a file that exists, a folder that does not.
        OutputError: if no file can be made there, whatever its permissions say, or the disk is full.
    """
    place = Path(path)
    if not path.lower().endswith(".parquet"):
        # What is there already is told first: a folder or a device gets no better by another name.
        check_output(place, force=True)
        raise DataError("the output is Parquet", subject=path, remedy=f"name it so: {_as_parquet(path)}")
    check_output(place, force=force)
    with OutputFile(path) as trial:
        trial.try_out()


def _as_parquet(path: str) -> str:
    for suffix in _OTHER_TABLES:
        if path.lower().endswith(suffix):
            return f"{path[: -len(suffix)]}.parquet"
    return f"{path}.parquet"


def room_warning(path: str, most_bytes: int) -> str:
    """Return a warning if the output may outgrow its disk, else nothing; how well it packs nobody knows before.

    Args:
        path: the output.
        most_bytes: what it has at most if nothing can be packed.
    """
    folder = os.path.dirname(path) or "."
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes >= most_bytes:
        return ""
    return (
        f"the output may have up to {format_bytes(most_bytes)}, and only {format_bytes(free_bytes)} are free in "
        f"{folder}: if the disk fills up the job fails at its end"
    )


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

    def try_out(self) -> None:
        """Write a few bytes and give them a name beside the place; leaving the block removes both.

        Raises:
            OutputError: if that cannot be done.
        """
        try:
            with open(self.writing_path, "wb") as file:
                file.write(os.urandom(_TRIAL_BYTES))
            self._give_name()
        except OSError as error:
            raise output_error(self.path, error) from error

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
