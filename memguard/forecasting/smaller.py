"""What of a job's data would fit a budget, as past jobs of its kind say. Pure but for what is learned.

Comes in: what has learned of the kind, the job's sizing, a budget. Goes out: features with the largest value at which
the forecast stays below the budget. It is a forecast like others, for data that lie between those of past jobs or
below them; of what no past job tells it says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from memguard.estimate.online import REQUEST_FEATURES, OnlineEstimator
from memguard.sizing import Sizing
from memguard.units import format_bytes

__all__ = ["Smaller", "tell_smaller", "what_would_fit"]

# They are sizes of the same data: whoever takes fewer rows has fewer bytes.
_DATA: Final = ("rows", "input_bytes")
_NOT_CHOSEN: Final = frozenset({*REQUEST_FEATURES, "columns", "files"})
_MOST_TRIED: Final = 4
# Less than a part in so many is another job.
_LEAST_SHARE: Final = 1 / 64
_STEPS: Final = 9


@dataclass(frozen=True, slots=True)
class Smaller:
    """A feature at which a job would fit.

    Attributes:
        feature: its name.
        most: its largest value that fits.
        has: its value in the job.
    """

    feature: str
    most: float
    has: float


def what_would_fit(estimator: OnlineEstimator, sizing: Sizing, limit_bytes: int) -> tuple[Smaller, ...]:
    """Return by what a job could be made to fit a budget, each alone; nothing where it fits or no past tells.

    Args:
        estimator: what has learned of its kind.
        sizing: of the job.
        limit_bytes: of the budget.
    """
    if sizing.basis != "history" or sizing.high_bytes <= limit_bytes:
        return ()
    features = {name: value for name, value in sizing.features.items() if name not in REQUEST_FEATURES}

    def fits(names: tuple[str, ...], part: float) -> bool:
        changed = {**features, **{each: part * features[each] for each in names}}
        predicted = estimator.predict(sizing.kind, changed, world=sizing.world, tentative=True, explain=False)
        return predicted.high_bytes <= limit_bytes

    found = ((names[0], _largest_share(partial(fits, names))) for names in _groups(features))
    return tuple(
        Smaller(name, _rounded_down(share * features[name]), features[name]) for name, share in found if share
    )


def _groups(features: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    data = tuple(name for name in _DATA if features.get(name, 0) > 1)
    others = [(name,) for name, value in features.items() if value > 1 and name not in _NOT_CHOSEN | {*_DATA}]
    yield from [*([data] if data else []), *others][:_MOST_TRIED]


def _largest_share(fits: Callable[[float], bool]) -> float:
    """Return the largest part of the job that fits, by halving the range of its logarithm; 0 where none does."""
    if not fits(_LEAST_SHARE):
        return 0.0
    low, high = math.log(_LEAST_SHARE), 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(math.exp(middle)) else (low, middle)
    return math.exp(low)


def _rounded_down(value: float) -> float:
    """Return a value with two digits that count, not above it."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.floor(value / unit) * unit if unit < 1 else float(math.floor(value / unit) * round(unit))


def tell_smaller(found: Smaller) -> str:
    """Return in words what would fit."""
    if found.feature == "input_bytes":
        return (
            f"input files of up to {format_bytes(found.most)} together ({format_bytes(found.has)} are given)"
        )
    return f"{found.feature} up to {found.most:,.10g} (here {found.has:,.10g})"
