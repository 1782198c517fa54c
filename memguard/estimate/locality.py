"""How far off guesses are near a job, against how far off they are on the whole. Pure.

Comes in: a history and the errors of a guess on all of it. Goes out: a scale for each job, past or next, by which its
error is divided before errors are compared. So a headroom that large jobs need is not paid for by small ones. The
scale of a past job is made without that job, hence scaled errors are as exchangeable as plain ones, and a conformal
quantile of them holds as well (Lei et al., "Distribution-free predictive inference for regression", JASA 2018, 5.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from memguard.estimate.history import WIDE, History

__all__ = ["LEAST_FOR_SCALES", "Scales", "local_scales", "same_everywhere"]

Row = Sequence[float | None]

# Below, those near are all there are.
LEAST_FOR_SCALES: Final = 24
# The whole history stands beside those near as so many jobs more: a few equal ones prove no small error.
_PRIOR: Final = 4.0
# Of errors in size: what is beyond counts as just that, since one failed job makes no region a wild one.
_CUT: Final = 0.9
_LEAST_ERROR: Final = 1e-4
_MOST: Final = 8.0


@dataclass(frozen=True, slots=True)
class Scales:
    """How errors compare.

    Attributes:
        past: of each past job, around 1.
        of: of a job by its row.
        name: in words, ``""`` for the same everywhere.
    """

    past: Sequence[float]
    of: Callable[[Row], float]
    name: str = ""


def same_everywhere(count: int) -> Scales:
    """Return the scale of 1 for all of so many jobs."""
    return Scales([1.0] * count, lambda _: 1.0)


def local_scales(history: History, errors: Sequence[float]) -> Scales:
    """Return scales by the mean size of errors of those nearest."""
    sizes = sorted(abs(each) for each in errors)
    cut = sizes[int(_CUT * (len(sizes) - 1))]
    sizes = [max(_LEAST_ERROR, min(cut, abs(each))) for each in errors]
    usual = sum(sizes) / len(sizes)

    def scale(near: Sequence[int]) -> float:
        here = (sum([sizes[at] for at in near]) + _PRIOR * usual) / (len(near) + _PRIOR)
        return max(1 / _MOST, min(_MOST, here / usual))

    return Scales(
        [scale(near) for near in history.neighbours_of_all(WIDE)],
        lambda row: scale(history.nearest(row, WIDE)),
        "scaled by what those near were off",
    )
