"""What tells a job from others before it runs, as far as its memory is concerned: the record. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Likeness"]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Which past jobs a job resembles, and by how much it differs from them.

    Attributes:
        kind: jobs of one kind do the same with other data: a function, a class with its parameters, a program.
        features: sizes, counts and settings of this one, by name: finite numbers of at least 0.
        world: where it runs: processors, libraries. What was used in another world is no more than a hint.
    """

    kind: str
    features: Mapping[str, float] = field(default_factory=dict)
    world: str = ""
