"""A function call on its way to a worker: the function, its arguments, and the surroundings they expect.

The surroundings (working directory, environment, import path) are unpacked and put in place first, since unpickling
the function may import modules that only that path holds.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from memguard.worker.buffers import Packed, pack, pickle_outside, unpack

__all__ = ["PackedCall", "Surroundings", "pack_call", "unpack_call"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a job finds as it would in the caller.

    Attributes:
        directory: working directory, or ``None`` where the caller's own is gone.
        environment: the whole environment.
        import_path: ``sys.path``.
    """

    directory: str | None
    environment: Mapping[str, str]
    import_path: tuple[str, ...]

    @classmethod
    def here(cls) -> Surroundings:
        """Take those of this process."""
        try:
            directory: str | None = os.getcwd()
        except FileNotFoundError:
            directory = None
        return cls(directory, dict(os.environ), tuple(sys.path))

    def adopt(self) -> None:
        """Put them in place in this process."""
        if self.directory is not None:
            os.chdir(self.directory)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.path[:] = self.import_path


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
