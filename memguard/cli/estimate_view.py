"""Words and JSON for what `memguard estimate -- COMMAND` found. Pure: an `Outlook` in, lines or a document out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from memguard.cli.exits import printable
from memguard.cli.outlook import Outlook, Verdict
from memguard.forecasting.past import PastJob
from memguard.forecasting.smaller import tell_smaller
from memguard.foresight import is_well_known
from memguard.sizing import Influencer, Sizing
from memguard.units import format_bytes, format_setting, format_share

__all__ = ["Idle", "describe", "document", "idle_of", "signed", "told_features", "when"]

SCHEMA: Final = "memguard.estimate/1"
# A figure is over-generous from here on: past jobs used less than two fifths of it.
_LOOSE: Final = 0.4
_NO_PROMISE: Final = "nothing is promised"


@dataclass(frozen=True, slots=True)
class Idle:
    """What a figure that is too large costs.

    Attributes:
        named_bytes: the figure.
        largest_bytes: the most that a job of its kind used.
        idle_bytes: what would wait idle if all of it were reserved.
        room_for: how many more such jobs that is room for.
        is_reserved: whether all of it would be reserved; else the forecast is.
    """

    named_bytes: int
    largest_bytes: int
    idle_bytes: int
    room_for: int
    is_reserved: bool


def idle_of(seen: Outlook) -> Idle | None:
    """Return what a named figure costs; ``None`` where past jobs used no less by far, or none is known."""
    sizing, named = seen.frame.sizing, seen.frame.limit_bytes
    if not seen.is_named or sizing is None or sizing.basis != "history":
        return None
    largest = round(max((_size_of(each) for each in seen.known if each.world == sizing.world), default=0))
    if not 0 < max(largest, sizing.expected_bytes) < _LOOSE * named:
        return None
    idle = named - largest
    return Idle(named, largest, idle, idle // largest if largest else 0, seen.reserved_bytes >= named)


def describe(seen: Outlook) -> Iterator[str]:
    """Yield the lines for people."""
    yield printable(f"{seen.frame.name}: {_headline(seen)}")
    rows = [(name, text) for name, text in _rows(seen) if text]
    width = max(len(name) for name, _ in rows)
    previous = ""
    for name, text in rows:
        yield printable(f"  {name if name != previous else '':<{width}}  {text}")
        previous = name


def _headline(seen: Outlook) -> str:
    reserved = format_bytes(seen.reserved_bytes)
    if seen.verdict is Verdict.NEVER:
        sizing = seen.frame.sizing
        needed = format_bytes(sizing.high_bytes) if sizing is not None else "more"
        return f"does not fit its budget of {format_bytes(seen.frame.limit_bytes)}: it would need {needed}"
    if seen.place.free_bytes is None:
        return f"would be sized {reserved}, and start at once"
    starts = "would start now" if seen.verdict is Verdict.NOW else "would have to wait"
    return f"would reserve {reserved}, and {starts}{_doubt(seen)}"


def _doubt(seen: Outlook) -> str:
    """Return what is to be feared where the forecast is above the budget, though past jobs may have used less."""
    sizing, limit = seen.frame.sizing, seen.frame.limit_bytes
    if sizing is None or sizing.basis != "history" or sizing.high_bytes <= limit:
        return ""
    return f"; it may need more than its budget of {format_bytes(limit)}: up to {format_bytes(sizing.high_bytes)}"


def _rows(seen: Outlook) -> Iterator[tuple[str, str]]:
    sizing = seen.frame.sizing
    if sizing is None or sizing.predicted_bytes is None:
        yield (
            "forecast",
            f"none: {seen.unknown_why or 'no job like it is known'}; the setting first_reservation counts",
        )
    else:
        yield from _forecast_rows(sizing, seen)
    yield "past", seen.trouble and f"not read: {seen.trouble}"
    yield "named", _told_idle(seen)
    if sizing is not None:
        yield from (("because", each) for each in sizing.reasons if _NO_PROMISE not in each)
        names = {each.id: each for each in seen.known}
        yield from (("moved by", _told_influencer(each, names.get(each.id))) for each in sizing.episodes)
        yield "known", _told_known(seen.known, sizing.world)
        yield "told by", _told_likeness(sizing)
    yield (
        "budget",
        f"{format_bytes(seen.frame.limit_bytes)} ({seen.frame.budget_source}): it is ended above that",
    )
    yield from (("would fit", text) for text in _told_fitting(seen))
    yield "now", _told_place(seen)
    yield "ledger", seen.place.trouble and f"not read: {seen.place.trouble}"


def _forecast_rows(sizing: Sizing, seen: Outlook) -> Iterator[tuple[str, str]]:
    low, high = format_bytes(sizing.low_bytes), format_bytes(sizing.high_bytes)
    yield "forecast", f"{format_bytes(sizing.expected_bytes)}, rarely less than {low} or more than {high}"
    if sizing.promised:
        share = format_share(sizing.miss_rate)
        yield "promise", f"of many jobs like it at most {share} use more than {_reserved(sizing)}"
    else:
        why = next((each for each in sizing.reasons if _NO_PROMISE in each), _NO_PROMISE)
        yield "promise", f"none: {why.replace(f'{_NO_PROMISE}: ', '')}"
    if seen.is_named and not is_well_known(sizing):
        yield "named", "the figure is reserved: too few jobs like it are known to reserve less"
    yield from (("phase", f"{name}: {format_bytes(peak)}") for name, peak in sizing.phases.items())


def _reserved(sizing: Sizing) -> str:
    return format_bytes(sizing.predicted_bytes or 0)


def _told_idle(seen: Outlook) -> str:
    idle = idle_of(seen)
    if idle is None:
        return ""
    used = f"{format_bytes(idle.named_bytes)} named, jobs like it used at most {format_bytes(idle.largest_bytes)}"
    cost = f"{format_bytes(idle.idle_bytes)} would wait idle, room for {idle.room_for:,} more such jobs"
    if idle.is_reserved:
        return f"{used}: {cost}"
    return f"{used}: {format_bytes(seen.reserved_bytes)} is reserved by forecast; else {cost}"


def _told_influencer(each: Influencer, job: PastJob | None) -> str:
    what = f"{job.name}, {when(job.happened_at_s)}, " if job is not None else ""
    return f"{signed(each.moved_bytes)}  {each.id} ({what}peak {format_bytes(each.peak_bytes)})"


def signed(count: int) -> str:
    """Return a difference in bytes with its sign."""
    return f"{'-' if count < 0 else '+'}{format_bytes(abs(count))}"


def when(at_s: float) -> str:
    """Return a time for people, of this machine; 0.0 is one that nobody knows."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s)) if at_s else "some time ago"


def _told_known(known: tuple[PastJob, ...], world: str) -> str:
    if not known:
        return ""
    sizes = [_size_of(each) for each in known]
    dead = sum(each.exceeded_bytes is not None for each in known)
    elsewhere = sum(each.world != world for each in known)
    parts = [
        f"{len(known)} {'job' if len(known) == 1 else 'jobs'} of its kind",
        f"{format_bytes(min(sizes))} to {format_bytes(max(sizes))}"
        if len(known) > 1
        else format_bytes(sizes[0]),
        *([f"{dead} ran out of memory"] if dead else []),
        *([f"{elsewhere} in another world (other libraries or processors)"] if elsewhere else []),
    ]
    return ", ".join(parts)


def _size_of(job: PastJob) -> float:
    return job.peak_bytes if job.peak_bytes is not None else job.exceeded_bytes or 0.0


def _told_likeness(sizing: Sizing) -> str:
    told = told_features(sizing.features)
    return f"{sizing.kind}{f' ({told})' if told else ''}"


def told_features(features: Any) -> str:
    """Return features in words; those that are bytes as such."""
    return ", ".join(
        f"{name.removesuffix('_bytes')} = {format_bytes(value)}" if name.endswith("_bytes")
        else f"{name} = {value:,.10g}"
        for name, value in features.items()
    )  # fmt: skip


def _told_fitting(seen: Outlook) -> Iterator[str]:
    sizing = seen.frame.sizing
    if sizing is None or not _doubt(seen):
        return
    capacity = seen.frame.capacity.capacity_bytes
    most = capacity if seen.place.most_bytes is None else min(capacity, seen.place.most_bytes)
    if sizing.high_bytes <= most:
        yield f"--memory {format_setting(sizing.high_bytes)}"
    else:
        yield f"no budget: there are {format_bytes(most)} for jobs here in all"
    yield from map(tell_smaller, seen.smaller)


def _told_place(seen: Outlook) -> str:
    place = seen.place
    if place.free_bytes is None or place.most_bytes is None:
        return place.why
    if place.is_free:
        return f"{format_bytes(place.free_bytes)} of {format_bytes(place.most_bytes)} are free for it"
    return place.why


def document(seen: Outlook) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    sizing, frame, idle = seen.frame.sizing, seen.frame, idle_of(seen)
    return {
        "schema": SCHEMA,
        "name": frame.name,
        "command": list(frame.arguments),
        "can_be_started": seen.errno == 0,
        "reserved_bytes": seen.reserved_bytes,
        "verdict": seen.verdict.value,
        "forecast": None if sizing is None or sizing.predicted_bytes is None else _forecast_json(sizing),
        "reasons": [] if sizing is None else list(sizing.reasons),
        "kind": None if sizing is None else sizing.kind,
        "world": None if sizing is None else sizing.world,
        "features": {} if sizing is None else dict(sizing.features),
        "episodes": []
        if sizing is None
        else [_influencer_json(each, seen.known) for each in sizing.episodes],
        "known": _known_json(seen),
        "budget": {
            "limit_bytes": frame.limit_bytes,
            "source": frame.budget_source,
            "is_named": seen.is_named,
        },
        "over_generous": None if idle is None else asdict(idle),
        "needed_bytes": sizing.high_bytes if sizing is not None and seen.verdict is Verdict.NEVER else None,
        "would_fit": [asdict(each) for each in seen.smaller],
        "free_bytes": seen.place.free_bytes,
        "most_bytes": seen.place.most_bytes,
        "why": seen.place.why,
        "troubles": [each for each in (seen.unknown_why, seen.trouble, seen.place.trouble) if each],
    }


def _forecast_json(sizing: Sizing) -> dict[str, Any]:
    return {
        "predicted_bytes": sizing.predicted_bytes,
        "expected_bytes": sizing.expected_bytes,
        "low_bytes": sizing.low_bytes,
        "high_bytes": sizing.high_bytes,
        "miss_rate": sizing.miss_rate,
        "promised": sizing.promised,
        "basis": sizing.basis,
        "observations": sizing.observations,
        "phases": dict(sizing.phases),
    }


def _influencer_json(each: Influencer, known: tuple[PastJob, ...]) -> dict[str, Any]:
    job = next((past for past in known if past.id == each.id), None)
    return {
        "id": each.id,
        "name": None if job is None else job.name,
        "ended_at_s": None if job is None or not job.happened_at_s else job.happened_at_s,
        "peak_bytes": each.peak_bytes,
        "moved_bytes": each.moved_bytes,
    }


def _known_json(seen: Outlook) -> dict[str, Any]:
    world = "" if seen.frame.sizing is None else seen.frame.sizing.world
    sizes = [_size_of(each) for each in seen.known]
    return {
        "jobs": len(seen.known),
        "out_of_memory": sum(each.exceeded_bytes is not None for each in seen.known),
        "elsewhere": sum(each.world != world for each in seen.known),
        "smallest_bytes": round(min(sizes)) if sizes else None,
        "largest_bytes": round(max(sizes)) if sizes else None,
    }
