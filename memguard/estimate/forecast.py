"""The records of a forecast that learns: what was predicted and why, and what came of an observation."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from memguard.units import format_bytes

__all__ = ["Influence", "Learned", "Lesson", "Prediction"]


@dataclass(frozen=True, slots=True)
class Influence:
    """An observation that moved a prediction.

    Attributes:
        id: of the observation.
        peak_bytes: its peak.
        moved_bytes: by how much the reservation is larger, or if negative smaller, than without it.
    """

    id: str
    peak_bytes: float
    moved_bytes: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """What to reserve for a job that has not run.

    It promises nothing for one job: of many, a share of at most ``miss_rate`` uses more, where ``promised`` is true
    and the world stays as it was.

    Attributes:
        bytes: what to reserve.
        expected_bytes: the best single guess at the peak.
        low_bytes: rarely less.
        high_bytes: rarely more; above ``bytes`` where a cap was lower.
        miss_rate: the stated rate, 0 to 1.
        promised: whether there is history enough for the rate; false also where a cap or a wave of jobs forbids it.
        observations: how many of this kind it was made from.
        reasons: how it came about, one sentence each, figures included.
        influences: the observations that moved it most, the strongest first.
        centre: which guess was the cheapest on past jobs; ``""`` without history.
        basis: what it rests on: ``history`` of this kind, ``elsewhere`` (the kind in another world), ``prior``,
            ``shares`` of what was requested for other kinds, ``request``, ``nothing``.
        uncorrected_bytes: what it would be had no job of this kind been missed of late, and without caps.
    """

    bytes: int
    expected_bytes: int
    low_bytes: int
    high_bytes: int
    miss_rate: float
    promised: bool
    observations: int
    reasons: tuple[str, ...]
    influences: tuple[Influence, ...] = ()
    centre: str = ""
    basis: str = "history"
    uncorrected_bytes: int = 0

    @property
    def width(self) -> float:
        """High over low, at least 1: how much is not known."""
        return max(1.0, self.high_bytes / max(1, self.low_bytes))

    def __str__(self) -> str:
        promise = f"missed by at most {self.miss_rate:.0%}" if self.promised else "no promise yet"
        return f"{format_bytes(self.bytes)} ({format_bytes(self.expected_bytes)} expected, {promise})"


class Lesson(enum.StrEnum):
    """What became of an observation."""

    LEARNED = "learned"
    DUPLICATE = "duplicate"
    SET_ASIDE = "set_aside"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Learned:
    """The answer to an observation.

    Attributes:
        lesson: what became of it.
        reason: why, in words; ``""`` where it was simply learned.
        missed: whether the first attempt used more than was predicted; ``None`` if no prediction was outstanding.
        widened: whether more were missed than the stated rate allows, for the first time since it was last kept.
    """

    lesson: Lesson
    reason: str = ""
    missed: bool | None = None
    widened: bool = False
