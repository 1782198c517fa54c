"""Models that outlived their jobs, as culprits: suspects by themselves, whatever the channels say.

Comes in: what a `ModelRegistry` found alive after the jobs that made it. Goes out: culprits for a `LeakReport`, those
of one type with one holder as one. A model that is meant to stay, the best one so far for instance, is among them; so
they change no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from memguard.leaks.holders import HolderKind
from memguard.leaks.records import Culprit, LeakReport
from memguard.leaks.registry import Survivor
from memguard.units import format_bytes

__all__ = ["suspects_of", "with_suspects"]

_MOST_SUSPECTS: Final = 5


def suspects_of(survivors: Iterable[Survivor], jobs: int) -> tuple[Culprit, ...]:
    """Return culprits for models that are alive and should not be, most bytes first.

    Args:
        survivors: of finished jobs.
        jobs: how many jobs ended, over which their bytes are shared out; 1 or more.
    """
    alike: dict[tuple[str, str], list[Survivor]] = {}
    for each in survivors:
        alike.setdefault((each.type_name, _root(each)), []).append(each)
    found = [_suspect(group, jobs) for group in alike.values()]
    return tuple(sorted(found, key=lambda each: -each.bytes_per_iteration)[:_MOST_SUSPECTS])


def with_suspects(report: LeakReport, survivors: Sequence[Survivor]) -> LeakReport:
    """Return a report that names survivors too, before those whom the census found; its verdict stays."""
    if not survivors:
        return report
    count = len(survivors)
    told = (
        "1 registered model outlived its job"
        if count == 1
        else f"{count} registered models outlived their jobs"
    )
    return replace(
        report,
        culprits=(*suspects_of(survivors, max(1, report.iterations)), *report.culprits),
        evidence=(*report.evidence, told),
    )


def _root(survivor: Survivor) -> str:
    return survivor.holders[0].root if survivor.holders else ""


def _suspect(group: Sequence[Survivor], jobs: int) -> Culprit:
    first, weight = group[0], sum(each.known_bytes for each in group)
    holder = next(iter(first.holders), None)
    is_named = holder is not None and holder.kind is not HolderKind.UNFINISHED
    more = f", and {len(group) - 1} more like it" if len(group) > 1 else ""
    return Culprit(
        type=first.type_name,
        holder=f"{_root(first)}: model {first.name}" if is_named else "",
        bytes_per_iteration=weight / jobs,
        chain=holder.chain if holder is not None else (),
        why=f"it outlived its job {first.job_id!r}{more}: {format_bytes(weight)} that are known of",
    )
