"""How well forecasts were kept: misses against the stated rate, and what was reserved in vain. Pure.

Comes in: past jobs with what was forecast for them. Goes out: a `Record` a kind. First tries with a forecast count, as
they do for the forecasts themselves; what a job used that was ended is not known, only that it was more.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from memguard.estimate.calibration import Calibration, Watch, binomial_tail
from memguard.forecasting.journal import Entry

__all__ = ["Attempt", "Record", "band_of", "rates_of", "records_of", "wasted_share"]

# So many misses or more, if the rate held, are chance in one of a hundred windows: as the forecasts' own watch has it.
_CHANCE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Attempt:
    """A first try of a job that was sized by a forecast.

    Attributes:
        id: of its episode.
        kind: of the job.
        at_s: when it ended, seconds since 1970.
        predicted_bytes: what was forecast.
        used_bytes: what it used; of one that ran out of memory what it needed more than.
        runtime_s: how long it ran.
        promised: whether the rate was promised for it.
    """

    id: str
    kind: str
    at_s: float
    predicted_bytes: float
    used_bytes: float
    runtime_s: float
    promised: bool

    @property
    def missed(self) -> bool:
        """Whether it used more than was forecast."""
        return self.used_bytes > self.predicted_bytes

    @property
    def ratio(self) -> float:
        """Used over forecast; above 1 is a miss."""
        return self.used_bytes / max(1.0, self.predicted_bytes)

    @property
    def reserved_byte_s(self) -> float:
        """What was reserved, for as long as it was."""
        return self.predicted_bytes * self.runtime_s

    @property
    def wasted_byte_s(self) -> float:
        """What of that the job never used, for as long as it was reserved."""
        return max(0.0, self.predicted_bytes - self.used_bytes) * self.runtime_s


@dataclass(frozen=True, slots=True)
class Record:
    """How well the forecasts of one kind were kept.

    Attributes:
        kind: which.
        jobs: how many jobs of it are known, those without a forecast included.
        attempts: the first tries with a forecast, oldest first.
        calibration: misses against the stated rate.
    """

    kind: str
    jobs: int
    attempts: tuple[Attempt, ...]
    calibration: Calibration

    @property
    def promised(self) -> tuple[Attempt, ...]:
        """Those for which the rate was promised."""
        return tuple(each for each in self.attempts if each.promised)


def records_of(entries: Iterable[Entry], miss_rate: float) -> tuple[Record, ...]:
    """Return a record for each kind, the one with the most attempts first.

    Args:
        entries: past jobs, in any order.
        miss_rate: the stated one, above 0, at most 0.5.
    """
    by_kind: dict[str, list[Entry]] = {}
    for each in entries:
        by_kind.setdefault(each.job.kind, []).append(each)
    records = [_record(kind, found, miss_rate) for kind, found in by_kind.items()]
    return tuple(sorted(records, key=lambda each: (-len(each.attempts), each.kind)))


def _record(kind: str, entries: Sequence[Entry], miss_rate: float) -> Record:
    ordered = sorted(entries, key=lambda each: each.job.happened_at_s)
    attempts = tuple(attempt for each in ordered if (attempt := _attempt(each)) is not None)
    watch = Watch(miss_rate)
    for each in attempts:
        watch.count(math.log(max(1.0, each.used_bytes) / max(1.0, each.predicted_bytes)))
    return Record(kind, len(entries), attempts, watch.calibration())


def _attempt(entry: Entry) -> Attempt | None:
    job = entry.job
    used = job.peak_bytes if job.peak_bytes is not None else job.exceeded_bytes
    if entry.is_retry or job.predicted_bytes is None or used is None:
        return None
    if job.exceeded_bytes is not None:
        # It passed its limit, by how much nobody knows: where that was below the forecast, it tells nothing of it.
        used = math.nextafter(used, math.inf)
        if used <= job.predicted_bytes:
            return None
    return Attempt(
        job.id, job.kind, job.happened_at_s, job.predicted_bytes, used, job.runtime_s, entry.promised
    )


def wasted_share(attempts: Iterable[Attempt]) -> float:
    """Return what was reserved and never used, as a share of what was reserved, 0 to 1; 0 for no attempts."""
    wasted = reserved = 0.0
    for each in attempts:
        wasted, reserved = wasted + each.wasted_byte_s, reserved + each.reserved_byte_s
    return wasted / reserved if reserved else 0.0


def rates_of(attempts: Sequence[Attempt], window: int) -> list[float]:
    """Return the share of misses among the last ``window`` attempts, after each attempt."""
    missed = [each.missed for each in attempts]
    return [sum(missed[max(0, end - window) : end]) / min(end, window) for end in range(1, len(attempts) + 1)]


@functools.cache
def band_of(count: int, rate: float) -> float:
    """Return up to which share of misses in so many attempts chance explains, at the stated rate.

    Source: the upper tail of the binomial distribution, at one in a hundred.
    """
    misses = next(
        each for each in range(count + 2) if binomial_tail(each, count, rate) < _CHANCE or each > count
    )
    return min(1.0, max(0, misses - 1) / max(1, count))
