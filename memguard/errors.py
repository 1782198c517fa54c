"""Every error memguard raises, in one tree; each is also the builtin that a caller would catch.

Comes in: what went wrong, as a sentence with measured figure, limit and next step, and as fields.
Goes out: an exception that pickles with its fields. The command line turns it into an exit status
in one place (`memguard.cli.exits`); nothing here prints or decides.
"""

# An error here is named for what happened (`MemoryLimitExceeded`), as the builtins it joins often are.
# ruff: noqa: N818

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memguard.report import JobReport

__all__ = [
    "BatchError",
    "CapacityExceeded",
    "CleanupFailed",
    "ConfigError",
    "DataError",
    "DurationSyntaxError",
    "EpisodeConflict",
    "EpisodeInvalid",
    "EpisodeMissing",
    "EpisodeStoreBusy",
    "EpisodeStoreError",
    "JobCrashed",
    "JobError",
    "JobInterrupted",
    "JobLost",
    "JobTimeout",
    "LedgerError",
    "MemguardError",
    "MemoryLimitExceeded",
    "MissingExtra",
    "OutputError",
    "ReservationTimeout",
    "SizeSyntaxError",
    "StateMismatch",
    "TransferError",
    "WorkerStartError",
]


def _rebuild(cls: type[MemguardError], args: tuple[Any, ...], fields: dict[str, Any]) -> MemguardError:
    # Not cls.__new__: that finds MemoryError's, which refuses a class that is laid out as an Exception.
    builtin: Any = cls
    while builtin.__module__ != "builtins":
        builtin = builtin.__base__
    error: MemguardError = builtin.__new__(cls, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class MemguardError(Exception):
    """The root of the tree.

    Attributes:
        message: one sentence or more; measured figure, limit, next step.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class SizeSyntaxError(MemguardError, ValueError):
    """A text that is not a size.

    Attributes:
        text: what was given.
    """

    def __init__(self, message: str, *, text: str) -> None:
        super().__init__(message)
        self.text = text


class DurationSyntaxError(MemguardError, ValueError):
    """A text that is not a duration.

    Attributes:
        text: what was given.
    """

    def __init__(self, message: str, *, text: str) -> None:
        super().__init__(message)
        self.text = text


class ConfigError(MemguardError, ValueError):
    """A setting that does not exist or has an impossible value.

    Attributes:
        setting: its name.
        origin: where it was set: a flag, an environment variable, a file.
    """

    def __init__(self, message: str, *, setting: str, origin: str) -> None:
        super().__init__(message)
        self.setting = setting
        self.origin = origin


class DataError(MemguardError, ValueError):
    """Data a job cannot work on: a file, a column, a value.

    Attributes:
        subject: the file or column that is meant.
        remedy: what to do about it, as a sentence without its full stop.
    """

    def __init__(self, problem: str, *, subject: str, remedy: str) -> None:
        super().__init__(f"{subject}: {problem}; {remedy}")
        self.subject = subject
        self.remedy = remedy


class OutputError(MemguardError, OSError):
    """A result that could not be written; no partial file is left.

    Attributes:
        path: where it should have gone.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class CapacityExceeded(MemguardError, MemoryError):
    """A request that cannot be met: larger than the machine, a cgroup or an outer budget allows.

    Attributes:
        requested_bytes: what was asked for.
        capacity_bytes: what there is at most.
        limited_by: which limit that is.
    """

    def __init__(self, message: str, *, requested_bytes: int, capacity_bytes: int, limited_by: str) -> None:
        super().__init__(message)
        self.requested_bytes = requested_bytes
        self.capacity_bytes = capacity_bytes
        self.limited_by = limited_by


class ReservationTimeout(MemguardError, TimeoutError):
    """Memory was not free in time.

    Attributes:
        requested_bytes: what was asked for.
        free_bytes: what was free when time was up.
        holders: who holds the rest, one line each.
    """

    def __init__(
        self, message: str, *, requested_bytes: int, free_bytes: int, holders: tuple[str, ...]
    ) -> None:
        super().__init__(message)
        self.requested_bytes = requested_bytes
        self.free_bytes = free_bytes
        self.holders = holders


class LedgerError(MemguardError, OSError):
    """The machine's ledger of memory cannot be read or written.

    Attributes:
        path: the file or folder that is meant.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class EpisodeInvalid(MemguardError, ValueError):
    """An episode, a query or a filter that the store cannot take; nothing was stored."""


class EpisodeConflict(MemguardError, ValueError):
    """An id that the store has with other content.

    Attributes:
        id: the id.
    """

    def __init__(self, message: str, *, episode_id: str) -> None:
        super().__init__(message)
        self.id = episode_id


class EpisodeMissing(MemguardError, KeyError):
    """An id that the store does not have, or not any more.

    Attributes:
        id: the id.
    """

    def __init__(self, message: str, *, episode_id: str) -> None:
        super().__init__(message)
        self.id = episode_id


class EpisodeStoreError(MemguardError, OSError):
    """A store of episodes that cannot be opened, read or written.

    Attributes:
        path: the file or folder that is meant.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class EpisodeStoreBusy(EpisodeStoreError, TimeoutError):
    """Another process was writing for longer than this one may wait; nothing was stored."""


class StateMismatch(MemguardError, ValueError):
    """A state that does not fit the part that was to take it; nothing was changed.

    Attributes:
        missing: names that it should have had.
        unexpected: names that are not known.
    """

    def __init__(self, message: str, *, missing: tuple[str, ...], unexpected: tuple[str, ...]) -> None:
        super().__init__(message)
        self.missing = missing
        self.unexpected = unexpected


class WorkerStartError(MemguardError, RuntimeError):
    """memguard itself could not start a worker; the job has not run."""


class MissingExtra(MemguardError, ImportError):
    """A part of memguard whose own dependencies are not installed.

    Attributes:
        extra: what to install, as in ``pip install 'automl-memguard[EXTRA]'``.
    """

    def __init__(self, message: str, *, extra: str) -> None:
        super().__init__(message)
        self.extra = extra


class TransferError(MemguardError, TypeError):
    """Arguments, a result or an exception that cannot cross to or from a worker."""


class BatchError(MemguardError, RuntimeError):
    """A batch failed; the error of the work is the cause (``__cause__``).

    Attributes:
        start: its first row, counted from the first row of all.
        stop: the row behind its last one.
    """

    def __init__(self, message: str, *, start: int, stop: int) -> None:
        super().__init__(message)
        self.start = start
        self.stop = stop


class CleanupFailed(MemguardError, RuntimeError):
    """Some cleanup handlers failed or overran their deadline; all of them were tried.

    Attributes:
        failures: one line for each handler that did not finish well.
    """

    def __init__(self, message: str, *, failures: tuple[str, ...]) -> None:
        super().__init__(message)
        self.failures = failures


class JobError(MemguardError):
    """A guarded job did not complete.

    Attributes:
        report: what is known of the job; ``None`` only where the error was made without one.
    """

    def __init__(self, message: str, *, report: JobReport | None = None) -> None:
        super().__init__(message)
        self.report = report


class MemoryLimitExceeded(JobError, MemoryError):
    """The job ran out of memory: its budget, the kernel's limit, or an allocation that failed.

    Which of them it was is ``report.outcome``; the message tells it in seven parts.
    """


class JobTimeout(JobError, TimeoutError):
    """The job was stopped at the end of its time."""


class JobCrashed(JobError, RuntimeError):
    """The job died of a signal that memguard did not send: a segfault, a kill from elsewhere."""


class JobLost(JobError, RuntimeError):
    """The job's supervisor vanished, so how the job ended cannot be known; its processes are gone."""


class JobInterrupted(JobError, RuntimeError):
    """The job was interrupted from within or from outside, not by the caller's own Ctrl-C."""
