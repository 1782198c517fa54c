"""How well past forecasts were kept, in words, as charts of characters, and as JSON. Pure but for `print_records`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from memguard.cli.estimate_view import when
from memguard.cli.exits import printable, show
from memguard.cli.lines import clip
from memguard.cli.tables import print_table
from memguard.forecasting.reliability import Attempt, Record, wasted_share
from memguard.units import format_bytes, format_share

__all__ = [
    "document",
    "grouped",
    "in_order",
    "print_records",
    "reliability_chart",
    "short_kind",
    "waste_chart",
]

SCHEMA: Final = "memguard.calibration/1"
_HEADERS: Final = (
    "kind",
    "jobs",
    "forecast",
    "promised",
    "missed",
    "rate",
    "chance",
    "state",
    "in vain",
    "of reserved",
)
_RIGHT: Final = (1, 2, 3, 4, 5, 6, 8, 9)
_LONGEST_KIND: Final = 44
_KINDS_SHOWN: Final = 30
_BAR: Final = 40
_CHART_ROWS: Final = 5
# How many points a chart of time has at most: each is the mean of as many attempts.
_POINTS: Final = 48
# Used over forecast, in percent; the last one is a miss.
_EDGES: Final = (50, 60, 70, 80, 90, 95, 100)


def print_records(records: Sequence[Record], miss_rate: float, where: str) -> None:
    """Print a table of kinds and, where there is something to draw, two charts.

    Args:
        records: a kind each.
        miss_rate: the stated one.
        where: the store.
    """
    if not records:
        show(f"no job that can be learned from is recorded in {printable(where)}")
        return
    print_table(_HEADERS, [_row(each) for each in records[:_KINDS_SHOWN]], right=_RIGHT)
    if len(records) > _KINDS_SHOWN:
        show(f"and {len(records) - _KINDS_SHOWN} more kinds; --json has all, --kind TEXT chooses")
    attempts = in_order(records)
    if not attempts:
        show("\nno job was sized by a forecast yet: the next one of a kind that is known will be")
        return
    show("")
    show("\n".join(_told_sum(attempts, records, miss_rate)))
    show("\n".join(["", *reliability_chart(attempts), "", *waste_chart(attempts)]))


def in_order(records: Sequence[Record]) -> list[Attempt]:
    """Return the attempts of all kinds, oldest first."""
    return sorted((each for record in records for each in record.attempts), key=lambda each: each.at_s)


def _row(record: Record) -> tuple[str, ...]:
    seen, attempts = record.calibration, record.attempts
    kind = clip(printable(short_kind(record.kind)), _LONGEST_KIND)
    if not attempts:
        return (kind, str(record.jobs), "-", "-", "-", "-", "-", "", "-", "-")
    return (
        kind,
        str(record.jobs),
        str(seen.attempts),
        str(len(record.promised)),
        str(seen.misses),
        format_share(seen.misses / seen.attempts),
        format_share(seen.chance),
        "widened" if seen.widened else "kept" if record.promised else "learning",
        _told_waste(sum(each.wasted_byte_s for each in attempts)),
        format_share(wasted_share(attempts)),
    )


def short_kind(kind: str) -> str:
    """Return a kind without the folders that its words begin with."""
    return " ".join(word.rpartition("/")[2] or word for word in kind.split(" "))


def _told_waste(byte_s: float) -> str:
    return f"{format_bytes(byte_s)} s"


def _told_sum(attempts: Sequence[Attempt], records: Sequence[Record], miss_rate: float) -> Iterator[str]:
    promised = [each for each in attempts if each.promised]
    missed = sum(each.missed for each in promised)
    of_all = f"{sum(each.missed for each in attempts)} of {len(attempts)} forecasts were missed"
    if promised:
        share = format_share(missed / len(promised))
        kept = (
            f"{missed} of the {len(promised)} with a promise ({share}; stated are {format_share(miss_rate)})"
        )
    else:
        kept = "none of them had a promise"
    yield f"{of_all}, {kept}"
    yield f"chance: of so many misses among the last {_window(records)} of a kind if the stated rate holds"
    if any(each.calibration.widened for each in records):
        yield "widened: more is reserved for it until the rate is kept again (memguard runbook ForecastMissed)"


def _window(records: Sequence[Record]) -> int:
    return max((each.calibration.recent_attempts for each in records), default=0)


def reliability_chart(attempts: Sequence[Attempt]) -> list[str]:
    """Return how many jobs used which part of their forecast, as bars."""
    counts = Counter(
        next((at for at, edge in enumerate(_EDGES) if each.ratio * 100 <= edge), len(_EDGES))
        for each in attempts
    )
    names = [f"to {edge}%" for edge in _EDGES] + ["more"]
    most = max(counts.values())
    lines = ["used, of what was forecast"]
    for at, name in enumerate(names):
        count = counts.get(at, 0)
        bar = ("!" if at == len(_EDGES) else "#") * (max(1, round(count / most * _BAR)) if count else 0)
        missed = "  missed" if at == len(_EDGES) and count else ""
        lines.append(f"{name:>8} |{bar} {count or ''}{missed}".rstrip())
    return lines


def waste_chart(attempts: Sequence[Attempt]) -> list[str]:
    """Return which part of what was reserved was never used, over time, as columns."""
    groups = grouped(attempts, _POINTS)
    shares = [wasted_share(group) for group in groups]
    most = max(0.1, *shares)
    lines = ["reserved in vain, oldest to newest"]
    for row in range(_CHART_ROWS, 0, -1):
        line = "".join("#" if share > (row - 0.5) / _CHART_ROWS * most else " " for share in shares)
        lines.append(f"{format_share(row / _CHART_ROWS * most):>8} |{line}".rstrip())
    lines.append(f"{'':>8} +{'-' * len(groups)}")
    first, last = when(attempts[0].at_s), when(attempts[-1].at_s)
    lines.append(f"{'':>9} {first} to {last}, {_each(len(attempts), len(groups))}")
    return lines


def _each(count: int, columns: int) -> str:
    return "a job a column" if count == columns else f"about {count / columns:.1f} jobs a column"


def grouped(attempts: Sequence[Attempt], most: int) -> list[Sequence[Attempt]]:
    """Return attempts in at most so many groups of nearly equal size, in order."""
    count = min(most, len(attempts))
    return [attempts[at * len(attempts) // count : (at + 1) * len(attempts) // count] for at in range(count)]


def document(records: Sequence[Record], miss_rate: float) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {"schema": SCHEMA, "miss_rate": miss_rate, "kinds": [_kind_json(each) for each in records]}


def _kind_json(record: Record) -> dict[str, Any]:
    seen, attempts = record.calibration, record.attempts
    return {
        "kind": record.kind,
        "jobs": record.jobs,
        "attempts": seen.attempts,
        "misses": seen.misses,
        "recent_attempts": seen.recent_attempts,
        "recent_misses": seen.recent_misses,
        "chance": seen.chance,
        "widened": seen.widened,
        "promised_attempts": len(record.promised),
        "promised_misses": sum(each.missed for each in record.promised),
        "reserved_byte_s": sum(each.reserved_byte_s for each in attempts),
        "wasted_byte_s": sum(each.wasted_byte_s for each in attempts),
        "wasted_share": wasted_share(attempts),
        "history": [
            {
                "id": each.id,
                "ended_at_s": each.at_s,
                "predicted_bytes": round(each.predicted_bytes),
                "used_bytes": round(each.used_bytes),
                "missed": each.missed,
                "promised": each.promised,
                "runtime_s": each.runtime_s,
            }
            for each in attempts
        ],
    }
