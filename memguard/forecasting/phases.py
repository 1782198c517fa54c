"""The peaks of a job's parts, forecast from past jobs: it need not hold for all of its time what it needs once.

Comes in: the phases of past jobs and the forecast of the whole. Goes out: a peak for each phase, by its name. A part's
share of the whole is taken as the largest that recent jobs of the kind had: parts grow and shrink with the whole, and
what is forecast too small is asked for when it comes. Pure.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from memguard.estimate.forecast import Prediction
    from memguard.estimate.likeness import Likeness
    from memguard.forecasting.past import PastJob

__all__ = ["PhaseBook", "PhasePlan", "scaled_phases"]

_MOST_KINDS: Final = 1000
_REMEMBERED: Final = 20
_LEAST_JOBS: Final = 3


class PhaseBook:
    """Shares of the whole peak that phases had, by kind and world."""

    def __init__(self) -> None:
        """Begin with none."""
        self._shares: OrderedDict[tuple[str, str], deque[dict[str, float]]] = OrderedDict()

    def learn(self, job: PastJob) -> None:
        """Remember the phases of a job that completed."""
        if not job.phases or not job.peak_bytes:
            return
        key = (job.kind, job.world)
        known = self._shares.setdefault(key, deque(maxlen=_REMEMBERED))
        known.append({name: min(1.0, peak / job.peak_bytes) for name, peak in job.phases.items()})
        self._shares.move_to_end(key)
        if len(self._shares) > _MOST_KINDS:
            self._shares.popitem(last=False)

    def forecast(self, likeness: Likeness, whole: Prediction) -> dict[str, int]:
        """Return the peak of each phase in bytes, in the order in which they came; nothing where few are known."""
        known = list(self._shares.get((likeness.kind, likeness.world), ()))
        if len(known) < _LEAST_JOBS or whole.basis != "history":
            return {}
        latest = known[-1]
        return {name: round(max(each.get(name, 1.0) for each in known) * whole.bytes) for name in latest}


def scaled_phases(phases: Mapping[str, int], whole_bytes: int) -> dict[str, int]:
    """Return the peaks of parts as shares of what is reserved for the whole.

    Args:
        phases: the peak expected in each part, in order; bytes.
        whole_bytes: what is reserved for the largest of them.
    """
    largest = max(phases.values(), default=0)
    if not largest:
        return {}
    return {name: -(-peak * whole_bytes // largest) for name, peak in phases.items()}


class PhasePlan:
    """What a job needs from each of its parts on, by the peaks forecast for them.

    A job that comes back to a part goes round: from then on all that its largest part needs counts as needed.
    """

    def __init__(self, phases: Mapping[str, int]) -> None:
        """Take the peak of each part, in bytes, in order."""
        self._names = list(phases)
        self._peaks = list(phases.values())
        self._entered: set[str] = set()
        self._goes_round = False

    def needed(self, name: str) -> int | None:
        """Return the most that a part which begins now and those behind it need; ``None`` for an unknown one."""
        if name not in self._names:
            return None
        self._goes_round = self._goes_round or name in self._entered
        self._entered.add(name)
        return max(self._peaks[0 if self._goes_round else self._names.index(name) :])
