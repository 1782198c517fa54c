"""The record of a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from memguard.events import JsonScalar
from memguard.units import format_bytes

__all__ = ["Estimate"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """The predicted peak of a job, counted as its budget is: private plus created shared memory of its tree.

    Attributes:
        low_bytes: rarely less.
        expected_bytes: the best single guess.
        high_bytes: rarely more; what admission goes by.
        reasons: how it came about, one sentence each, figures included.
        inputs: the counts it was made from.
        phases: the expected peak inside each part of the job, by the name that the job tells; empty where it was not
            predicted by parts.
        plan: how the work is to be done: ``in memory``, ``spilling``, ``light``; ``""`` where there is no choice.
    """

    low_bytes: int
    expected_bytes: int
    high_bytes: int
    reasons: tuple[str, ...]
    inputs: Mapping[str, JsonScalar] = field(default_factory=dict)
    phases: Mapping[str, int] = field(default_factory=dict)
    plan: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.low_bytes <= self.expected_bytes <= self.high_bytes:
            raise ValueError(f"an estimate's low, expected and high must ascend: {self}")

    def fits(self, budget_bytes: int) -> bool:
        """Whether a job of this size is let in under a budget."""
        return self.high_bytes <= budget_bytes

    def __str__(self) -> str:
        return f"{format_bytes(self.expected_bytes)} expected, {format_bytes(self.high_bytes)} at most"
