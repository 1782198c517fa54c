"""First principles and the first few jobs, joined: neither alone says enough while there is no history. Pure.

Comes in: what was learned, an estimate from first principles, and the peaks of past jobs beside their own estimates.
Goes out: a forecast that is narrower than either where both agree. Once a rate is promised it is left as it is, but for
a job that is larger than all that were seen. Read `Experience.joined` first.

The estimate's high figure counts as one job more beside those that were exactly alike: of the way from the largest of
*n* such peaks up to that figure one part in *n* + 1 is reserved. Above the largest of so many lies the next with about
that probability, and the estimate says how far it can be. Where estimates were too small, they are scaled first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from memguard.estimate.forecast import Influence, Prediction
from memguard.estimate.likeness import Likeness
from memguard.estimate.online import REQUEST_FEATURES
from memguard.estimate.records import Estimate
from memguard.forecasting.past import PastJob
from memguard.report import EstimateSummary
from memguard.units import format_bytes

__all__ = ["PRIOR", "Experience", "prior_of", "with_prior"]

# The name of the feature in which an estimate from first principles comes.
PRIOR: Final = "prior_bytes"
_MOST_KINDS: Final = 1000
_REMEMBERED: Final = 128
# Estimates of one job differ by less when its table is surveyed again.
_LARGER: Final = 1.02
# A user's figure and an estimate do not change what a job does.
_WITHOUT_EFFECT: Final = frozenset({PRIOR, *REQUEST_FEATURES})


@dataclass(frozen=True, slots=True)
class _Known:
    """A past job: what it used, or more than what it was killed for, and what was estimated; bytes, 0 for nothing."""

    id: str
    features: Mapping[str, float]
    used_bytes: float
    prior_bytes: float
    is_peak: bool
    runtime_s: float


class Experience:
    """What past jobs used beside what was estimated for them, by kind and world.

    Any thread may ask; who tells it of jobs takes care that one does so at a time.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._known: OrderedDict[tuple[str, str], tuple[_Known, ...]] = OrderedDict()

    def learn(self, job: PastJob) -> None:
        """Remember a job that has ended; one that is known by its id counts once, by what was told last."""
        used = job.peak_bytes if job.peak_bytes is not None else job.exceeded_bytes
        if not used:
            return
        key, prior = (job.kind, job.world), job.features.get(PRIOR, 0.0)
        others = [each for each in self._known.get(key, ()) if each.id != job.id]
        is_peak = job.peak_bytes is not None
        seen = _Known(job.id, _telling(job.features), used, prior, is_peak, job.runtime_s)
        self._known[key] = (*others, seen)[-_REMEMBERED:]
        self._known.move_to_end(key)
        if len(self._known) > _MOST_KINDS:
            self._known.popitem(last=False)

    def withdraw(self, kind: str, id_: str) -> None:
        """Forget a job."""
        for key, known in self._known.items():
            if key[0] == kind:
                self._known[key] = tuple(each for each in known if each.id != id_)

    def bound(self, likeness: Likeness, prior: Estimate, limit: str) -> float | None:
        """Return what jobs exactly like one show to be enough for it, in bytes; ``None`` where there were none.

        Args:
            likeness: of the job.
            prior: what first principles say of it.
            limit: the feature with its bound: who had less of that than this one may have held less than it will.
        """
        bound = likeness.features.get(limit, 0.0)
        twins = [each for each in self._twins(likeness, limit) if each.features.get(limit, 0.0) >= bound]
        if not twins:
            return None
        most = max(1.0, *map(_share, twins)) * prior.high_bytes
        if not all(each.is_peak for each in twins):
            return most
        return _between([each.used_bytes for each in twins], most)

    def durations(self, likeness: Likeness, prior: Estimate, limit: str) -> tuple[float, ...]:
        """Return how long jobs exactly like one took that did it in the same way, by what was expected; seconds.

        Args:
            likeness: of the job.
            prior: what first principles say of it.
            limit: the feature with its bound, which decides in which way it is done.
        """
        same = [
            each
            for each in self._twins(likeness, limit)
            if each.is_peak and abs(each.prior_bytes / max(1, prior.expected_bytes) - 1) < _LARGER - 1
        ]
        return tuple(each.runtime_s for each in same)

    def _twins(self, likeness: Likeness, but: str) -> list[_Known]:
        known = self._known.get((likeness.kind, likeness.world), ())
        wanted = _without(_telling(likeness.features), but)
        return [each for each in known if each.prior_bytes and _without(each.features, but) == wanted]

    def joined(self, likeness: Likeness, prior: Estimate, learned: Prediction) -> Prediction:
        """Return a forecast by both: first principles, and what was learned.

        Args:
            likeness: of the job.
            prior: what first principles say of it.
            learned: what past jobs alone say.
        """
        known = [each for each in self._known.get((likeness.kind, likeness.world), ()) if each.prior_bytes]
        if learned.basis != "history" or not known:
            return learned
        # What recent misses added stays on top.
        factor = max(1.0, learned.bytes / max(1, learned.uncorrected_bytes))
        worst = max(known, key=_share)
        if prior.expected_bytes > _LARGER * max(each.prior_bytes for each in known):
            learned = _at_least(learned, _share(worst) * prior.expected_bytes * factor)
        if learned.promised:
            return learned
        most = max(1.0, _share(worst)) * prior.high_bytes
        twins = [each for each in known if each.features == _telling(likeness.features)]
        if twins and all(each.is_peak for each in twins):
            return _by_twins(learned, twins, most, factor)
        return _by_prior(learned, prior, worst, most, factor)


def _share(known: _Known) -> float:
    return known.used_bytes / known.prior_bytes


def _by_prior(learned: Prediction, prior: Estimate, worst: _Known, most: float, factor: float) -> Prediction:
    """Return what is learned, but no more than first principles say, scaled by the job that they were worst for."""
    if learned.bytes <= most * factor:
        return learned
    said = f"first principles say at most {format_bytes(prior.high_bytes)}"
    why = f"{said}, and past jobs used up to {_share(worst):.0%} of what these expected of them"
    moved = round(most - prior.high_bytes)
    influences = (Influence(worst.id, worst.used_bytes, moved),) if moved else ()
    return replace(_at_most(learned, most * factor, why), influences=influences)


def _telling(features: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in features.items() if name not in _WITHOUT_EFFECT}


def _without(features: Mapping[str, float], name: str) -> dict[str, float]:
    return {each: value for each, value in features.items() if each != name}


def _by_twins(learned: Prediction, twins: Sequence[_Known], most: float, factor: float) -> Prediction:
    peaks = [each.used_bytes for each in twins]
    wanted = factor * _between(peaks, most)
    if wanted >= learned.bytes:
        return learned
    jobs = "1 job" if len(twins) == 1 else f"{len(twins)} jobs"
    said = f"{jobs} exactly like it used at most {format_bytes(int(max(peaks)))}; first principles count as one more"
    moved = [_influence(at, twins, most, factor * most, wanted) for at in range(len(twins))]
    moved.sort(key=lambda each: -abs(each.moved_bytes))
    return replace(_at_most(learned, wanted, said), influences=tuple(moved))


def _between(peaks: Sequence[float], most: float) -> float:
    largest = max(peaks)
    return largest + max(0.0, most - largest) / (len(peaks) + 1)


def _influence(at: int, twins: Sequence[_Known], most: float, alone: float, wanted: float) -> Influence:
    """Return by how much the forecast is larger for one of them; without any it were ``alone``."""
    others = [each.used_bytes for number, each in enumerate(twins) if number != at]
    without = _between(others, most) * alone / most if others else alone
    return Influence(twins[at].id, twins[at].used_bytes, round(wanted - without))


def _at_most(learned: Prediction, wanted: float, why: str) -> Prediction:
    if learned.bytes <= wanted:
        return learned
    size = max(1, round(wanted))
    return replace(
        learned,
        bytes=size,
        expected_bytes=min(learned.expected_bytes, size),
        low_bytes=min(learned.low_bytes, size),
        high_bytes=size,
        reasons=(why, *learned.reasons),
        uncorrected_bytes=round(
            size * learned.uncorrected_bytes / max(learned.bytes, learned.uncorrected_bytes)
        ),
    )


def _at_least(learned: Prediction, wanted: float) -> Prediction:
    if learned.bytes >= wanted:
        return learned
    size = round(wanted)
    why = f"larger than all past ones by first principles: at least {format_bytes(size)}, in proportion"
    return replace(
        learned,
        bytes=size,
        expected_bytes=max(learned.expected_bytes, min(size, learned.high_bytes)),
        high_bytes=max(learned.high_bytes, size),
        promised=False,
        reasons=(why, *learned.reasons),
        uncorrected_bytes=max(learned.uncorrected_bytes, size),
    )


def prior_of(seen: EstimateSummary | None) -> Estimate | None:
    """Return what first principles said of a job, as estimates are reckoned with."""
    if seen is None:
        return None
    high = max(seen.expected_bytes, seen.high_bytes)
    return Estimate(seen.expected_bytes, seen.expected_bytes, high, seen.reasons)


def with_prior(likeness: Likeness, prior: Estimate | None) -> Likeness:
    """Return a likeness with what first principles expect among its features, as it is written down."""
    if prior is None:
        return likeness
    return replace(likeness, features={**likeness.features, PRIOR: float(prior.expected_bytes)})
