"""A function call on its way to a worker: the function, its arguments, and the surroundings they expect.

The surroundings (working directory, environment, import path) are unpacked and put in place first, since unpickling
the function may import modules that only that path holds.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from memguard.host import own_umask
from memguard.worker.buffers import Packed, pack, pickle_outside, unpack

__all__ = [
    "PackedCall",
    "Surroundings",
    "allow_large_files",
    "flush_streams",
    "large_files_allowed",
    "pack_call",
    "unpack_call",
]

# Memory is the budget's to bound, and RLIMIT_DATA may be the fence itself.
_CARRIED_LIMITS: Final = tuple(
    getattr(resource, name)
    for name in ("RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_STACK")
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a job finds as it would in the caller.

    Attributes:
        directory: working directory, or ``None`` where the caller's own is gone.
        environment: the whole environment.
        import_path: ``sys.path``.
        umask: which permissions new files do not get, or ``None`` where the system does not tell it.
        limits: resources of the process with their soft limits, those of memory left out.
    """

    directory: str | None
    environment: Mapping[str, str]
    import_path: tuple[str, ...]
    umask: int | None
    limits: tuple[tuple[int, int], ...]

    @classmethod
    def here(cls) -> Surroundings:
        """Take those of this process."""
        try:
            directory: str | None = os.getcwd()
        except FileNotFoundError:
            directory = None
        limits = tuple((each, resource.getrlimit(each)[0]) for each in _CARRIED_LIMITS)
        return cls(directory, dict(os.environ), tuple(sys.path), own_umask(), limits)

    def adopt(self) -> None:
        """Put them in place in this process."""
        if self.directory is not None:
            os.chdir(self.directory)
        self._adopt_environment()
        sys.path[:] = self.import_path
        if self.umask is not None:
            os.umask(self.umask)
        for kind, soft in self.limits:
            _limit(kind, soft)

    def _adopt_environment(self) -> None:
        zone = os.environ.get("TZ")
        os.environ.clear()
        os.environ.update(self.environment)
        if os.environ.get("TZ") != zone:  # read by the C library once, in the template perhaps
            time.tzset()


def _limit(kind: int, soft: int) -> None:
    """Set a soft limit as far as the hard one, which only a privileged process may raise again, lets it."""
    here, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard):
        soft = hard
    if soft != here:
        resource.setrlimit(kind, (soft, hard))


def allow_large_files() -> None:
    """Let this process make files as large as an unprivileged one may: shared memory is files too."""
    _limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)


@contextmanager
def large_files_allowed() -> Iterator[None]:
    """Do so for the length of a block."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    allow_large_files()
    try:
        yield
    finally:
        _limit(resource.RLIMIT_FSIZE, soft)


def flush_streams() -> None:
    """Write out what stands in ``sys.stdout`` and ``sys.stderr``, which may be anything that has a ``write``."""
    for stream in (sys.stdout, sys.stderr):
        try:
            flush = getattr(stream, "flush", None)
            if flush is not None:
                flush()
        except Exception:  # noqa: BLE001, S110 - closed or broken: the business of whoever set it, and of no job
            pass


@dataclass(frozen=True, slots=True)
class PackedCall:
    """A call that has arrived; `surroundings` must be adopted before `load`."""

    surroundings: Surroundings
    inside: Any  # bytes, or a buffer of them
    buffers: tuple[Any, ...]

    def load(self) -> Callable[[], Any]:
        """Unpickle function and arguments; returns the call with nothing left to give."""
        function, args, kwargs = pickle.loads(self.inside, buffers=self.buffers)
        return lambda: function(*args, **kwargs)


def pack_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Packed:
    """Pack a call with this process's surroundings.

    Raises:
        TransferError: if function or arguments cannot be pickled, by cloudpickle's rules.
    """
    inside, views = pickle_outside((function, args, dict(kwargs)), what="the function or its arguments")
    buffers = tuple(pickle.PickleBuffer(view) for view in views)
    # As a buffer, for else what it holds in-band (a large `bytes`) would be copied once more.
    return pack(PackedCall(Surroundings.here(), pickle.PickleBuffer(inside), buffers), what="the call")


def unpack_call(descriptor: int) -> PackedCall:
    """Unpack what `pack_call` made; arrays are mapped copy-on-write, charged to this process once it writes."""
    call = unpack(descriptor, give_back=False)
    assert isinstance(call, PackedCall)
    return call
