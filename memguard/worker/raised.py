"""An exception on its way from a job to its caller, told in words as well.

Comes in: what the job raised. Goes out: the exception itself where it can be rebuilt, else a `JobError` that names it;
either way with the text of its traceback. The words travel beside the pickle, so that they arrive when its class cannot
be imported in the caller.
"""

from __future__ import annotations

import os
import pickle
import traceback
from types import TracebackType
from typing import Any

from memguard.errors import JobError
from memguard.redact import redact_error
from memguard.worker.buffers import Packed, pack, pickle_outside

__all__ = ["load_error", "pack_error"]


def pack_error(error: BaseException) -> Packed:
    """Pack an exception; takes its traceback away, whose frames may hold the job's data."""
    text = "".join(traceback.format_exception(type(error), error, _frames_of_the_job(error.__traceback__)))
    error.__traceback__ = None
    if isinstance(error, SystemExit):
        error = JobError(f"the job called sys.exit({_shown(error.code)})")
    told = redact_error(error)
    try:
        inside, buffers = _portable(error)
    except Exception as failure:  # noqa: BLE001 - exceptions fail to pickle or to unpickle in every way there is
        why = f"the exception itself cannot be pickled: {redact_error(failure)}"
        return pack((told, text, why, b"", ()), what="the exception")
    return pack((told, text, "", pickle.PickleBuffer(inside), buffers), what="the exception")


def _portable(error: BaseException) -> tuple[bytes, tuple[pickle.PickleBuffer, ...]]:
    """Pickle an exception in a way that was seen to be undone."""
    inside, views = pickle_outside(error, what="the exception")
    _unpickle(inside, views)
    return inside, tuple(pickle.PickleBuffer(view) for view in views)


def _unpickle(inside: Any, buffers: Any) -> BaseException:
    error = pickle.loads(inside, buffers=buffers)
    if not isinstance(error, BaseException):
        raise TypeError(f"it comes back as {type(error).__name__}")
    return error


def load_error(content: Any) -> tuple[BaseException, str]:
    """Rebuild what `pack_error` packed, with the text of its traceback."""
    told, text, why, inside, buffers = content
    if why:
        return JobError(f"{told} ({why})"), text
    try:
        return _unpickle(inside, buffers), text
    except Exception as failure:  # noqa: BLE001 - unpickling runs the class's own code, or finds no class at all
        return JobError(
            f"{told} (the exception itself cannot be rebuilt here: {redact_error(failure)})"
        ), text


def _shown(code: object) -> str:
    try:
        return repr(code)
    except Exception as failure:  # noqa: BLE001 - its own __repr__ may raise anything
        return f"an object that cannot be shown: {type(failure).__name__}"


def _frames_of_the_job(trace: TracebackType | None) -> TracebackType | None:
    """Skip this room's own frames: people look for the line in their code."""
    here, first = os.path.dirname(__file__), trace
    while trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == here:
        trace = trace.tb_next
    return trace or first
