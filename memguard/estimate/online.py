"""Forecasts that learn: the peak of a job from what jobs of its kind used before, with a stated rate of being wrong.

Comes in: the kind of a job, its features as far as they are known before it runs, and later what it used. Goes out:
what to reserve, why, and whether the rate is promised. It reads no machine and no clock and keeps nothing on disk;
`state_dict` is for whoever does. Read `OnlineEstimator` first, then kind.py, sizing.py, headroom.py.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from memguard.estimate.calibration import Calibration
from memguard.estimate.forecast import Influence, Learned, Lesson, Prediction
from memguard.estimate.headroom import RETRY_FACTOR, least_for_promise
from memguard.estimate.history import Observation, clean_features
from memguard.estimate.kind import Kind, usual_spread
from memguard.estimate.records import Estimate
from memguard.estimate.sizing import Aim, bounded
from memguard.estimate.telling import (
    MOST_BYTES,
    in_bytes,
    is_runtime,
    is_size,
    shown,
    signed,
    told_of_promise,
    told_of_size,
    whole,
)
from memguard.units import MIB, format_bytes

__all__ = ["REQUEST_FEATURES", "OnlineEstimator"]

# Names under which a user's own figure comes: a feature like others, and a cap.
REQUEST_FEATURES: Final = ("preset_bytes", "request_bytes")
_PRIOR_FEATURE: Final = "prior_bytes"
_SCHEMA: Final = "memguard.estimator/1"
_MOST_KINDS: Final = 1000
# What a job gets of which nothing at all is known.
_UNKNOWN_BYTES: Final = 1024 * MIB
# Below so many observations of its own a kind also hears what it used in another world.
_LEAST_OWN: Final = 5


@dataclass(frozen=True, slots=True)
class _Job:
    """A job to be sized: who, what is known, and what it may have at most, in bytes."""

    key: tuple[str, str]
    features: Mapping[str, float]
    request: float
    capacity: float
    prior: Estimate | None
    notes: tuple[str, ...]


class OnlineEstimator:
    """Sizes jobs by what jobs of their kind used, one history per kind and world. Safe for threads.

    A rate is promised over many jobs of a kind that resemble the past ones, not for one job and not for a world that
    has changed; what is missed then is seen, told and answered by wider sizes. Memory is bounded: 256 observations
    for each of the 1000 kinds that were used last.

    Example:
        >>> estimator = OnlineEstimator(miss_rate=0.05)
        >>> for number in range(40):
        ...     learned = estimator.observe("sort", {"rows": 1000 + number}, peak_bytes=2e6 + 2000 * number)
        >>> prediction = estimator.predict("sort", {"rows": 1020, "request_bytes": 8e6})
        >>> prediction.promised, 2.0e6 < prediction.bytes < 2.1e6
        (True, True)
    """

    def __init__(self, miss_rate: float = 0.05, capacity_bytes: int | None = None) -> None:
        """Begin with no history.

        Args:
            miss_rate: share of first attempts that may use more than was predicted, above 0, at most 0.5.
            capacity_bytes: nothing larger is ever predicted; ``None`` for no bound.

        Raises:
            ValueError: if the rate or the capacity is out of range.
        """
        if not 0 < miss_rate <= 0.5:
            raise ValueError(f"miss_rate must be above 0 and at most 0.5, not {miss_rate}")
        if capacity_bytes is not None and capacity_bytes < 1:
            raise ValueError(f"capacity_bytes must be at least 1, not {capacity_bytes}")
        self.miss_rate = float(miss_rate)
        self.capacity_bytes = capacity_bytes
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._lock = threading.Lock()
        self._serial = 0

    def predict(
        self,
        kind: str,
        features: Mapping[str, Any] | None = None,
        *,
        job_id: str = "",
        world: str = "",
        prior: Estimate | None = None,
        tentative: bool = False,
        explain: bool = True,
        adjust: Callable[[Prediction], Prediction] | None = None,
    ) -> Prediction:
        """Return what to reserve for a job.

        Args:
            kind: histories are kept per kind.
            features: what is known before it runs: sizes and counts of at least 0. ``request_bytes`` or
                ``preset_bytes`` is the user's own figure, and a cap unless past jobs went above it. What is no finite
                number is left out, and told.
            job_id: of the job, if it is to be recognised when it is observed.
            world: machine and library versions; histories of other worlds are no more than a prior.
            prior: an estimate from first principles: all there is without history, a feature with one.
            tentative: a look only: no job is about to run.
            explain: whether to find out which observations moved it.
            adjust: makes of it what is really reserved, by what its user knows beside; pure.
        """
        job = self._job(kind, features, world, prior)
        with self._lock:
            found = self._kind(job.key)
            found.ask()
            prediction = self._with_history(job, found, explain) if len(found.history) else self._cold(job)
            prediction = prediction if adjust is None else adjust(prediction)
            if not tentative:
                uncorrected = math.log(prediction.uncorrected_bytes)
                found.expect(job_id, job.features, prediction.bytes, uncorrected)
            return prediction

    def observe(
        self,
        kind: str,
        features: Mapping[str, Any] | None = None,
        *,
        peak_bytes: float | None = None,
        exceeded_bytes: float | None = None,
        runtime_s: float | None = None,
        job_id: str = "",
        world: str = "",
        prior: Estimate | None = None,
        supersedes: str = "",
        predicted_bytes: float | None = None,
        uncorrected_bytes: float | None = None,
    ) -> Learned:
        """Learn from a job that has ended.

        Args:
            kind: as predicted.
            features: as predicted.
            peak_bytes: what it used at most.
            exceeded_bytes: instead, after a kill: the limit that it passed. The peak of its retry may follow.
            runtime_s: how long it ran; longer jobs count for more.
            job_id: of the job; what is known already is not learned twice.
            world: as predicted.
            prior: as predicted.
            supersedes: id of an observation that is wrong and left out from now on.
            predicted_bytes: what another estimator predicted for it, one of another process; counted as an attempt.
            uncorrected_bytes: as `Prediction.uncorrected_bytes` of that one.

        Raises:
            ValueError: if not exactly one of ``peak_bytes`` and ``exceeded_bytes`` is given.
        """
        if (peak_bytes is None) == (exceeded_bytes is None):
            raise ValueError("give either peak_bytes or exceeded_bytes")
        figure = peak_bytes if peak_bytes is not None else exceeded_bytes
        if not is_size(figure):
            return Learned(
                Lesson.REFUSED, f"a peak is a finite number of bytes from 0 to 4 EiB, not {shown(figure)}"
            )
        job = self._job(kind, features, world, prior)
        with self._lock:
            self._serial += 1
            observation = Observation(
                id=job_id or f"#{self._serial}",
                features=job.features,
                peak_bytes=float(figure or 0),
                runtime_s=float(runtime_s) if is_runtime(runtime_s) else 1.0,
                censored=exceeded_bytes is not None,
            )
            found = self._kind(job.key)
            if predicted_bytes is not None and is_size(predicted_bytes) and not found.knows(observation.id):
                uncorrected = uncorrected_bytes if is_size(uncorrected_bytes) else predicted_bytes
                found.expect(
                    observation.id, job.features, predicted_bytes, math.log(max(1.0, uncorrected or 0))
                )
            learned = found.learn(observation, supersedes)
            found.make_ready()
            if learned.lesson is Lesson.LEARNED and job.request < math.inf:
                found.largest_share = max(found.largest_share, observation.peak_bytes / max(1.0, job.request))
            return learned

    def retry_bytes(
        self,
        kind: str,
        features: Mapping[str, Any] | None = None,
        *,
        exceeded_bytes: float,
        world: str = "",
    ) -> int:
        """Return what to reserve for a job that passed a limit: 1.5 times that, or the largest seen if that is more.

        The user's request caps it while it is above what was exceeded, the capacity always.

        Raises:
            ValueError: if ``exceeded_bytes`` is no size.
        """
        if not is_size(exceeded_bytes):
            raise ValueError(
                f"a limit is a finite number of bytes from 0 to 4 EiB, not {shown(exceeded_bytes)}"
            )
        job = self._job(kind, features, world, None)
        with self._lock:
            found = self._kinds.get(job.key)
            largest = math.exp(found.history.largest) if found and len(found.history) else 0.0
        wanted = max(RETRY_FACTOR * exceeded_bytes, largest)
        if job.request > exceeded_bytes:
            wanted = min(wanted, job.request)
        return whole(min(wanted, job.capacity))

    def withdraw(self, kind: str, job_id: str, *, world: str = "") -> bool:
        """Leave an observation out from now on, since it is contradicted; returns whether it was there."""
        with self._lock:
            found = self._kinds.get((kind, world))
            return found is not None and found.withdraw(job_id)

    def abandon(self, kind: str, job_id: str, *, world: str = "") -> None:
        """Expect a job no more that was predicted: it never ran, or ended without telling what it needed."""
        with self._lock:
            if (found := self._kinds.get((kind, world))) is not None:
                found.abandon(job_id)

    def worlds(self, kind: str) -> tuple[str, ...]:
        """Return the worlds in which something is known of a kind."""
        with self._lock:
            return tuple(world for name, world in self._kinds if name == kind)

    def calibration(self) -> dict[tuple[str, str], Calibration]:
        """Return how well the rate was kept, by kind and world."""
        with self._lock:
            return {key: kind.watch.calibration() for key, kind in sorted(self._kinds.items())}

    def state_dict(self) -> dict[str, Any]:
        """Return all that was learned, as JSON has it; `load_state_dict` takes it."""
        with self._lock:
            kinds = [{"kind": key[0], "world": key[1], **kind.state()} for key, kind in self._kinds.items()]
            return {"schema": _SCHEMA, "miss_rate": self.miss_rate, "serial": self._serial, "kinds": kinds}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[str, ...]:
        """Go on where another estimator was. Nothing is changed if it fails.

        Args:
            state: what `state_dict` returned.
            strict: whether a kind that cannot be read fails the whole; else it is left out.

        Returns:
            What was left out and why, in words.

        Raises:
            ValueError: if the schema is another, or, with ``strict``, something cannot be read.
        """
        if not isinstance(state, Mapping) or not isinstance(state.get("kinds", ()), list | tuple):
            raise ValueError("what is kept of forecasts is an object with a list of kinds")
        if state.get("schema") != _SCHEMA:
            raise ValueError(f"this reads {_SCHEMA}, not {state.get('schema')!r}")
        kinds: dict[tuple[str, str], Kind] = {}
        left = []
        for each in state.get("kinds", ()):
            try:
                kinds[str(each["kind"]), str(each["world"])] = Kind.restore(each, self.miss_rate)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                left.append(f"a kind cannot be read: {error!r}")
        serial = state.get("serial", 0)
        if not isinstance(serial, int):
            raise ValueError(f"a serial number is needed, not {serial!r}")
        if left and strict:
            raise ValueError("; ".join(left))
        with self._lock:
            self._kinds, self._serial = dict(list(kinds.items())[-_MOST_KINDS:]), serial
        return tuple(left)

    def _job(self, kind: str, features: Mapping[str, Any] | None, world: str, prior: Estimate | None) -> _Job:
        kept, notes = clean_features(features or {})
        if prior is not None:
            kept[_PRIOR_FEATURE] = float(prior.expected_bytes)
        requests = [kept[name] for name in REQUEST_FEATURES if kept.get(name)]
        capacity = float(self.capacity_bytes or MOST_BYTES)
        return _Job((kind, world), kept, min(requests, default=math.inf), capacity, prior, notes)

    def _kind(self, key: tuple[str, str]) -> Kind:
        """Return a kind, made if need be, as the one used last."""
        found = self._kinds.pop(key, None) or Kind(self.miss_rate)
        self._kinds[key] = found
        if len(self._kinds) > _MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]
        return found

    def _with_history(self, job: _Job, kind: Kind, explain: bool) -> Prediction:
        usual = self._usual_spread(job, kind) if len(kind.history) < _LEAST_OWN else 0.0
        sizer = kind.sizer()
        aim = Aim(self.miss_rate, kind.watch.strictness(), kind.independent, usual)
        size = sizer.size(job.features, aim)
        if not kind.may_promise(sizer.effective):
            size = bounded(size, kind.history.bound(job.features))
        wanted = in_bytes(size.reserve + kind.watch.extra())
        elsewhere = self._elsewhere(job) if len(kind.history) < _LEAST_OWN else 0.0
        wanted = max(wanted, elsewhere)
        capped = self._capped(job, kind, wanted)
        promised = capped >= wanted and kind.may_promise(sizer.effective)
        moved = sizer.moved_by(job.features, aim) if explain else []
        past = sizer.history.observations
        return Prediction(
            bytes=whole(capped),
            expected_bytes=whole(min(in_bytes(size.centre), capped)),
            low_bytes=whole(min(in_bytes(size.low), capped)),
            high_bytes=whole(max(wanted, capped)),
            miss_rate=self.miss_rate,
            promised=promised,
            observations=len(kind.history),
            reasons=(
                *told_of_size(size, kind, capped, wanted, elsewhere),
                *told_of_promise(kind, promised),
                *job.notes,
            ),
            influences=tuple(
                Influence(past[at].id, past[at].peak_bytes, signed(by)) for at, by in moved if abs(by) >= 1
            ),
            centre=size.name,
            uncorrected_bytes=whole(max(in_bytes(size.reserve), elsewhere)),
        )

    def _capped(self, job: _Job, kind: Kind, wanted: float) -> float:
        """Return a size between the smallest seen and the caps; a request that jobs went above is no cap."""
        least = math.exp(min(each.log_peak for each in kind.history.observations))
        request = job.request if math.exp(kind.history.largest) <= job.request else math.inf
        return min(max(wanted, least), request, job.capacity)

    def _cold(self, job: _Job) -> Prediction:
        """Return a size for a kind without history."""
        wanted, why, basis = self._cold_size(job)
        capped = min(wanted, job.request, job.capacity)
        expected = min(capped, job.prior.expected_bytes if job.prior else capped)
        low = min(expected, job.prior.low_bytes if job.prior else 0)
        reasons = (why, "no job of this kind has ended here: nothing is promised", *job.notes)
        return Prediction(
            bytes=whole(capped),
            expected_bytes=whole(expected),
            low_bytes=int(low),
            high_bytes=whole(wanted),
            miss_rate=self.miss_rate,
            promised=False,
            observations=0,
            reasons=reasons,
            basis=basis,
            uncorrected_bytes=whole(wanted),
        )

    def _cold_size(self, job: _Job) -> tuple[float, str, str]:
        """Return a size, why, and in a word what it rests on."""
        if elsewhere := self._elsewhere(job):
            told = format_bytes(int(elsewhere))
            return elsewhere, f"the same kind used up to {told} in another world", "elsewhere"
        if job.prior is not None:
            return float(job.prior.high_bytes), f"first principles say {job.prior}", "prior"
        if share := self._share_of_requests(job):
            why = f"other kinds used at most {share:.0%} of what was requested for them"
            return share * job.request, why, "shares"
        if job.request < math.inf:
            why = f"the request of {format_bytes(int(job.request))} is all that is known"
            return job.request, why, "request"
        return float(_UNKNOWN_BYTES), "nothing is known of it", "nothing"

    def _elsewhere(self, job: _Job) -> float:
        """Return the largest peak of the kind in other worlds; 0 if there is none."""
        name, world = job.key
        others = [kind for (other, where), kind in self._kinds.items() if other == name and where != world]
        return max((math.exp(kind.history.largest) for kind in others if len(kind.history)), default=0.0)

    def _share_of_requests(self, job: _Job) -> float:
        """Return the share of a request that a new kind stays below; 0 if too few kinds tell.

        Kinds stand for each other here: above the largest of n lies the next with probability 1 / (n + 1).
        """
        shares = sorted(kind.largest_share for kind in self._kinds.values() if kind.largest_share > 0)
        if job.request == math.inf or len(shares) < least_for_promise(self.miss_rate):
            return 0.0
        place = math.ceil((1 - self.miss_rate) * (len(shares) + 1) - 1e-9)
        return min(1.0, shares[place - 1])

    def _usual_spread(self, job: _Job, kind: Kind) -> float:
        others = (each for key, each in self._kinds.items() if key != job.key)
        told = any(name not in REQUEST_FEATURES for name in job.features)
        usual = usual_spread(others, told)
        return math.hypot(usual, kind.history.growth(job.features)) if told else usual
