"""What is kept of a job, and of what was done to it while memory was short: never a value of its data. Pure.

Comes in: a report, the shapes of what the job was given, the steps that the sentinel took. Goes out: episodes as plain
data, so that whoever writes them down needs no engine. Of arguments, environment and errors nothing is kept but types,
shapes, sizes, numbers of settings and a command line without its secrets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from memguard.host import identify, usable_cpus
from memguard.ledger.records import Action
from memguard.redact import REDACTED, redact_arguments, redact_text
from memguard.report import JobReport
from memguard.units import format_bytes

__all__ = ["NAMESPACE", "incident_document", "job_document", "shape_of", "shapes_of"]

NAMESPACE: Final = "jobs"
_LIBRARIES: Final = ("numpy", "pandas", "scikit-learn")
# Records of memguard's own: what their fields mean is known, and none is a value of data.
_OURS: Final = ("memguard_integrations.", "memguard.estimate.")
_MOST_ARGUMENTS: Final = 32
_MOST_COLUMNS: Final = 10_000
_LONGEST_WORD: Final = 120
_LONGEST_LINE: Final = 400
_ERROR_TYPE: Final = re.compile(r"[A-Za-z_][\w.]{0,99}(?=:|\s|$)")


def job_document(report: JobReport, shapes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return a job that has ended as an episode.

    Args:
        report: of the job.
        shapes: of what it was given, as `shapes_of` tells them.
    """
    metadata: dict[str, Any] = {
        "job_id": report.job_id,
        "name": _word(report.name),
        "job_kind": report.kind,
        "what": _line(report),
        "fingerprint": _fingerprint(report),
        "configuration": _configuration(report),
        "data": [dict(each) for each in shapes],
        "forecast": _forecast(report),
        "sizing": _sizing(report),
        "phases": [
            {"name": _word(each.name), "started_s": each.started_s, "duration_s": each.duration_s,
             "peak_bytes": each.peak_bytes}
            for each in report.phases
        ],
        "peak_bytes": report.peak_bytes,
        "proven_peak_bytes": report.proven_peak_bytes,
        "kernel_peak_bytes": report.kernel_peak_bytes,
        "baseline_bytes": report.baseline_bytes,
        "budget_bytes": report.budget.limit_bytes,
        "capacity_bytes": report.capacity.capacity_bytes,
        "available_bytes": report.capacity.available_bytes,
        "batches": {
            "count": report.batches.count, "rows": report.batches.rows,
            "smallest_rows": report.batches.smallest_rows, "largest_rows": report.batches.largest_rows,
        },
        "outcome": report.outcome.value,
        "reason": report.reason,
        "exit_status": report.exit_status,
        "signal": report.signal,
        "error_type": _error_type(report.error),
        "throttles": report.throttles,
        "throttled_s": report.throttled_s,
        "attempts": [
            {"outcome": each.outcome.value, "limit_bytes": each.limit_bytes, "peak_bytes": each.peak_bytes,
             "duration_s": each.duration_s}
            for each in report.attempts
        ],
        "duration_s": report.duration_s,
        "ended_at_s": time.time(),
        "cleanup_s": report.cleanup.duration_s,
        "cleanup_verified": report.cleanup.verified,
        "figures": _figures(report.notes),
        "degraded": len(report.guard_degraded),
        # A command has libraries of its own, of which nothing is known here.
        "versions": {**report.versions, **({} if report.kind == "command" else _versions())},
        "machine": _machine(),
    }  # fmt: skip
    return _document(f"job-{report.job_id}", "job", _told(report), metadata)


def incident_document(action: Action, job: JobReport | None = None) -> dict[str, Any]:
    """Return a step that was taken because memory was short as an episode.

    Args:
        action: the step.
        job: the job that it was taken against, where that is known.
    """
    metadata: dict[str, Any] = {
        "job_id": action.lease_id,
        "name": _word(action.name),
        "rung": action.rung,
        "why": redact_text(action.why)[:_LONGEST_LINE],
        "used_bytes": action.used_bytes,
        "reserved_bytes": action.reserved_bytes,
        "freed_bytes": action.freed_bytes,
        "outcome": None if job is None else job.outcome.value,
        "machine": _machine(),
    }
    told = f"{metadata['name']} was asked: {action.rung}; {metadata['why']}"
    moment = int(action.wall_time_s * 1e6)
    name = f"incident-{action.lease_id}-{action.rung}-{moment}"
    return {**_document(name, "incident", told, metadata), "happened_at_s": action.wall_time_s}


def shapes_of(args: Iterable[object], kwargs: Mapping[str, object]) -> tuple[dict[str, Any], ...]:
    """Return what can be said of a call's arguments without telling any value of data.

    Arrays and frames are told by rows, columns and types; numbers and switches, which are settings, as they are unless
    their name says secret; anything else by its type.
    """
    named = [*((str(at), each) for at, each in enumerate(args)), *kwargs.items()]
    return tuple(shape_of(name, value) for name, value in named[:_MOST_ARGUMENTS])


def shape_of(name: str, value: object) -> dict[str, Any]:
    """Return what can be said of one argument; never raises."""
    told: dict[str, Any] = {"name": _word(name), "type": _type_name(value)}
    try:
        if value is None or isinstance(value, bool | int | float):
            told["value"] = _setting(name, value)
        elif isinstance(value, str | bytes | bytearray):
            told["length"] = len(value)
        elif _is_ours(value):
            told["figures"] = _figures_of(value)
        else:
            told.update(_table(value))
    except Exception as error:  # noqa: BLE001 - the value's own code may raise anything
        told["trouble"] = type(error).__name__
    return told


def _figures_of(record: Any) -> dict[str, Any]:
    """Return the numbers and switches of a record of memguard's own, and how many its collections have."""
    told: dict[str, Any] = {}
    for each in dataclasses.fields(record):
        value = getattr(record, each.name)
        if isinstance(value, bool | int | float):
            told[each.name] = _setting(each.name, value)
        elif isinstance(value, list | tuple | dict):
            told[f"{each.name}_count"] = len(value)
        elif _is_ours(value):
            told.update({f"{each.name}.{name}": inner for name, inner in _figures_of(value).items()})
    return told


def _is_ours(value: object) -> bool:
    return dataclasses.is_dataclass(value) and type(value).__module__.startswith(_OURS)


def _setting(name: str, value: float | bool | None) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        return "large"
    shown = redact_arguments(["x", f"--{name}={value}"])[1]
    return REDACTED if REDACTED in shown else value


def _table(value: Any) -> dict[str, Any]:
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple) or not all(isinstance(each, int) for each in shape):
        return {"rows": len(value)} if hasattr(value, "__len__") else {}
    told: dict[str, Any] = {"rows": shape[0] if shape else 1, "columns": math.prod(shape[1:])}
    kinds = getattr(value, "dtypes", None)
    if kinds is not None and hasattr(kinds, "__iter__"):
        told["dtypes"] = dict(
            Counter(str(each) for each, _ in zip(kinds, range(_MOST_COLUMNS), strict=False))
        )
    elif (kind := getattr(value, "dtype", None)) is not None:
        told["dtypes"] = {str(kind): told["columns"]}
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        told["bytes"] = size
    return told


def _type_name(value: object) -> str:
    kind = type(value)
    return _word(
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    )


def _document(name: str, kind: str, text: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": name[:200],
        "kind": kind,
        "namespace": NAMESPACE,
        "text": text,
        "metadata": metadata,
        "happened_at_s": time.time(),
    }


def _told(report: JobReport) -> str:
    words = f"{_word(report.name)}: {report.outcome.value.replace('_', ' ')} after {report.duration_s:.1f} s, peak "
    words += f"{format_bytes(report.peak_bytes)} of {format_bytes(report.budget.limit_bytes)}"
    phases = ", ".join(_word(each.name) for each in report.phases[:8])
    why = redact_text(report.pressure)[:_LONGEST_LINE]
    return words + (f"; phases: {phases}" if phases else "") + (f"; {why}" if why else "")


def _word(text: str) -> str:
    return redact_text(text)[:_LONGEST_WORD]


def _line(report: JobReport) -> str:
    """Return the function's name, or the command line without secrets and without words that hold whole programs."""
    if not report.arguments:
        return redact_text(report.what)[:_LONGEST_LINE]
    words = redact_arguments(report.arguments)
    short = (
        each if len(each) <= _LONGEST_WORD and "\n" not in each else f"({len(each)} characters)"
        for each in words
    )
    return redact_text(" ".join(short))[:_LONGEST_LINE]


def _fingerprint(report: JobReport) -> str:
    """Return what jobs that are likely to need alike have in common: the function, or the command line less secrets."""
    told = (
        (report.kind, *redact_arguments(report.arguments)) if report.arguments else (report.kind, report.what)
    )
    return hashlib.sha256("\0".join(told).encode(errors="replace")).hexdigest()[:32]


def _configuration(report: JobReport) -> dict[str, Any]:
    return {
        "fence": report.budget.fence,
        "budget_source": report.budget.source,
        "timeout_s": report.timeout_s,
        "limited_by": report.capacity.limited_by,
    }


def _forecast(report: JobReport) -> dict[str, Any] | None:
    seen = report.estimate
    if seen is None:
        return None
    return {
        "expected_bytes": seen.expected_bytes,
        "high_bytes": seen.high_bytes,
        "plan": seen.plan,
        "phases": dict(seen.phases),
    }


def _sizing(report: JobReport) -> dict[str, Any] | None:
    """Return what forecasts of jobs like it are made from; without the words, which can be made again."""
    seen = report.sizing
    if seen is None:
        return None
    return {
        "kind": seen.kind,
        "world": seen.world,
        "features": dict(seen.features),
        "predicted_bytes": seen.predicted_bytes,
        "expected_bytes": seen.expected_bytes,
        "uncorrected_bytes": seen.uncorrected_bytes,
        "miss_rate": seen.miss_rate,
        "promised": seen.promised,
        "observations": seen.observations,
        "basis": seen.basis,
        "episodes": [each.id for each in seen.episodes],
    }


def _figures(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers that a job noted: texts may quote its data."""
    return {
        _word(name): value
        for name, value in notes.items()
        if isinstance(value, bool | int | float) and REDACTED not in str(_setting(name, value))
    }


def _error_type(error: str | None) -> str | None:
    """Return the name of what a job raised, without its words: these often quote data."""
    found = None if error is None else _ERROR_TYPE.match(error)
    return None if found is None else found[0]


@cache
def _versions() -> dict[str, str]:
    import importlib.metadata  # noqa: PLC0415 - a wrapped command ends sooner without

    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"host": identify().host, "processors": usable_cpus(), "memory_bytes": memory}
