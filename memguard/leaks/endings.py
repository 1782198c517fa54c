"""What a function's death says about a leak: growth up to the budget is a verdict, one call that is too large is none.

Pure: what the guard saw and the trail that the iterations left in, a `LeakReport` out.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from memguard.leaks.records import LeakReport, Verdict
from memguard.units import format_bytes

__all__ = ["cautious", "report_of_death"]

# So much of the way to the budget must lie between ends of iterations to say that they led there.
_SHARE_OF_THE_WAY: Final = 0.5
_LEAST_ENDED: Final = 2
# Fewer show no trend; who is called stable must have had the time to show one.
_LEAST_FOR_STABLE: Final = 20
_MEND: Final = "let it get through all iterations, then look again"


def report_of_death(
    trail: Sequence[tuple[float, int]], limit_bytes: int, why: str, *, for_memory: bool
) -> LeakReport:
    """Say what can be said of a function whose process did not live to the end.

    Args:
        trail: seconds and private bytes before the first iteration and after each that ended.
        limit_bytes: the budget.
        why: how it ended, one sentence.
        for_memory: whether it died of its budget or for want of memory.
    """
    ended = max(0, len(trail) - 1)
    if for_memory and ended >= _LEAST_ENDED and _led_there(trail, limit_bytes):
        return _leaking(trail, limit_bytes, why)
    if for_memory:
        advice = "give it more with --memory, or let one call need less"
        found = f"what {_iterations(ended)} kept does not explain it: a single call takes that much"
        return _inconclusive(ended, (why, found) if ended else (why,), advice)
    return _inconclusive(ended, (why,), "mend that first, then look again")


def _led_there(trail: Sequence[tuple[float, int]], limit_bytes: int) -> bool:
    first, last = trail[0][1], trail[-1][1]
    return last - first >= _SHARE_OF_THE_WAY * (limit_bytes - first)


def _leaking(trail: Sequence[tuple[float, int]], limit_bytes: int, why: str) -> LeakReport:
    sizes = [size for _, size in trail]
    # The first iteration also fills caches.
    later = sizes[1:] if len(sizes) > 2 else sizes
    steps = [after - before for before, after in itertools.pairwise(later)]
    rate = statistics.median(steps)
    ended = len(sizes) - 1
    return LeakReport(
        verdict=Verdict.LEAKING,
        bytes_per_iteration=float(rate),
        interval=(float(min(steps)), float(max(steps))),
        kind=None,
        channels=(),
        iterations=ended,
        warm_up=1,
        evidence=(
            why,
            f"{_iterations(ended)} took its memory from {format_bytes(sizes[0])} to {format_bytes(sizes[-1])} "
            f"of {format_bytes(limit_bytes)}",
        ),
        advice="it does not live long enough to see who holds it: give it less to do in an iteration, "
        "or more with --memory",
    )


def _inconclusive(ended: int, evidence: tuple[str, ...], advice: str) -> LeakReport:
    return LeakReport(
        verdict=Verdict.INCONCLUSIVE,
        bytes_per_iteration=0.0,
        interval=(0.0, 0.0),
        kind=None,
        channels=(),
        iterations=ended,
        warm_up=ended,
        evidence=evidence,
        advice=advice,
    )


def _iterations(count: int) -> str:
    return "1 iteration" if count == 1 else f"{count} iterations"


def cautious(report: LeakReport, *, failed: bool = False) -> LeakReport:
    """Return a report that calls nobody stable who failed, or who was seen too shortly."""
    missing = _LEAST_FOR_STABLE - report.iterations
    if failed and report.verdict is Verdict.INCONCLUSIVE:
        return replace(report, advice=_MEND)
    if report.verdict is not Verdict.STABLE or (missing <= 0 and not failed):
        return report
    advice = _MEND if failed else f"{missing} more iterations would decide"
    more = max(missing, 1)
    return replace(report, verdict=Verdict.INCONCLUSIVE, advice=advice, more_iterations=more)
