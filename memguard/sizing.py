"""What past jobs said of a job before it ran: the record, as frames and reports hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["REQUEST", "TAKEN", "Influencer", "Sizing"]

# The name of the feature in which a user's own figure comes.
REQUEST: Final = "request_bytes"
# Features that mean what memguard says, so none of a call or a command may be called so: a request is a cap.
TAKEN: Final = frozenset({REQUEST, "preset_bytes", "prior_bytes"})


@dataclass(frozen=True, slots=True)
class Influencer:
    """An episode of a past job that moved a forecast: its peak, and by how much the forecast is larger for it."""

    id: str
    peak_bytes: int
    moved_bytes: int


@dataclass(frozen=True, slots=True)
class Sizing:
    """What past jobs said of this one before it started.

    Attributes:
        kind: jobs of the same kind do the same with other data.
        world: where it ran: processors, libraries; jobs of other worlds are no more than a hint.
        features: sizes, counts and settings by which it differs from others of its kind.
        predicted_bytes: what was to be reserved by them; ``None`` where nothing was known.
        expected_bytes: the best single guess.
        low_bytes: rarely less.
        high_bytes: rarely more.
        uncorrected_bytes: ``predicted_bytes`` before recent misses made it larger, and without caps.
        miss_rate: the share of jobs that may use more than predicted, 0 to 1.
        promised: whether there was history enough for that rate.
        observations: how many past jobs it was made from.
        basis: what it rests on; ``history`` is that of its kind.
        reasons: how it came about, one sentence each.
        episodes: past jobs that moved it most, the strongest first.
        next_bytes: what would be reserved for another one like it, now that this one is known; ``None`` if unknown.
        phases: the peak expected inside each part of the job, from past ones; empty where that is not known.
        bytes_per_row: what past ones took at most for a row of a batch; 0 where none worked in batches.
        batch_rows: the largest batch of that one.
    """

    kind: str
    world: str = ""
    features: Mapping[str, float] = field(default_factory=dict)
    predicted_bytes: int | None = None
    expected_bytes: int = 0
    low_bytes: int = 0
    high_bytes: int = 0
    uncorrected_bytes: int | None = None
    miss_rate: float = 0.0
    promised: bool = False
    observations: int = 0
    basis: str = "nothing"
    reasons: tuple[str, ...] = ()
    episodes: tuple[Influencer, ...] = ()
    next_bytes: int | None = None
    phases: Mapping[str, int] = field(default_factory=dict)
    bytes_per_row: float = 0.0
    batch_rows: int = 0
