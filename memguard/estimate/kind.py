"""What is known of one kind of job in one world: its history, what runs now, and how well sizes were kept. Pure.

Comes in: what was reserved, and what became of it, each perhaps twice, wrong or never. Goes out: a history that may be
believed. A kill teaches at once that a peak was above its limit; an absurd peak waits until another confirms it; what
was withdrawn or superseded is out. Read `Kind.learn` first.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from memguard.estimate.calibration import Watch, finite
from memguard.estimate.forecast import Learned, Lesson
from memguard.estimate.headroom import deviation_of, least_for_promise
from memguard.estimate.history import MOST_OBSERVATIONS, History, Observation, clean_features, restored
from memguard.estimate.rounds import Rounds
from memguard.estimate.sizing import Aim, Sizer

__all__ = ["Kind", "usual_spread"]

# So many times larger than the largest seen, and than what was predicted: more likely a fault of measuring than a job.
_ABSURD: Final = math.log(32)
_LEAST_TO_JUDGE: Final = 3
# A second one within this factor confirms the first.
_CONFIRMS: Final = math.log(4)
_MOST_ASIDE: Final = 4
# Jobs that were predicted and never heard of again do not count for ever.
_MOST_PENDING: Final = 512
_MOST_IDS: Final = 2 * MOST_OBSERVATIONS
# After so many observations without a question nobody waits for the answer to the next.
_READY_FOR: Final = 64
# A sizer serves until one job in so many is new.
_PAST_A_NEW: Final = 32
# Logarithms of peaks of one kind spread about so much where no kind tells better: a factor of 1.4.
_USUAL_SPREAD: Final = 0.35
_LEAST_FOR_SPREAD: Final = 5


@dataclass(frozen=True, slots=True)
class _Pending:
    """A first attempt that has not ended.

    Whose, the logarithms of bytes that were predicted, and before correction and caps, and the round it began in.
    """

    id: str
    features: Mapping[str, float]
    reserved: float
    uncorrected: float
    round: int = 0

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> _Pending:
        """Return what a state tells of, or raise what `Kind.restore` does."""
        sizes = finite(state["reserved"]), finite(state["uncorrected"])
        return cls(str(state["id"]), clean_features(state["features"])[0], *sizes, int(state.get("round", 0)))


class Kind:
    """One kind of job in one world. Not safe for threads: its estimator locks."""

    def __init__(self, miss_rate: float) -> None:
        """Begin with no history."""
        self.history = History()
        self.watch = Watch(miss_rate)
        self.rounds = Rounds()
        self.largest_share = 0.0
        self._pending: list[_Pending] = []
        self._aside: list[Observation] = []
        self._ids: dict[str, None] = {}
        self._sizer: Sizer | None = None
        self._since = 0
        self._unasked = _READY_FOR
        self._spread: float | None = None
        self._error_spread: float | None = None

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithms of its peaks."""
        if self._spread is None:
            self._spread = deviation_of(self.history.peaks)
        return self._spread

    @property
    def error_spread(self) -> float:
        """Standard deviation of the errors of its guesses, as logarithms; of its peaks while nothing was guessed."""
        return self.spread if self._error_spread is None else self._error_spread

    @property
    def pending(self) -> int:
        """How many predicted jobs have not ended."""
        return len(self._pending)

    @property
    def aside(self) -> int:
        """How many observations are not believed yet."""
        return len(self._aside)

    @property
    def independent(self) -> float:
        """How many observations count as independent of what comes.

        The first to end of a wave are the short and small ones, and all that are predicted meanwhile are missed or
        held together; so a history counts by its share of all jobs that were begun.
        """
        count = len(self.history)
        return count * math.sqrt(count / (count + self.pending)) if count else 0.0

    def may_promise(self, effective: float) -> bool:
        """Return whether the rate may be promised; ``effective`` observations count.

        It takes as many jobs as can tell it, as many rounds as can tell that the world stands still, and nothing of
        late that contradicts it.
        """
        told = min(effective, self.independent, self.rounds.done)
        return told >= least_for_promise(self.watch.miss_rate) and self.watch.is_calm()

    def sizer(self) -> Sizer:
        """Return what sizes by the history, which must not be empty: by the present one, or one a little older."""
        if self._sizer is None:
            rate = self.watch.miss_rate
            self._sizer = Sizer(self.history.copy(), Aim(rate, rate, len(self.history), 0.0))
            self._since = 0
            self._error_spread = self._sizer.error_spread
        return self._sizer

    def ask(self) -> None:
        """Note that a size is asked for."""
        self._unasked = 0

    def make_ready(self) -> None:
        """Make a sizer now if one was asked for of late: whoever predicts has a job that waits, an import has none."""
        self._unasked += 1
        if len(self.history) and self._unasked <= _READY_FOR:
            self.sizer()

    def expect(
        self, id_: str, features: Mapping[str, float], reserved_bytes: float, uncorrected: float
    ) -> None:
        """Note that a job was predicted and is about to run; ``uncorrected`` is a logarithm."""
        if id_ and any(each.id == id_ for each in self._pending):
            return
        reserved = math.log(max(1.0, reserved_bytes))
        self._pending.append(_Pending(id_, features, reserved, uncorrected, self.rounds.begin()))
        del self._pending[:-_MOST_PENDING]

    def abandon(self, id_: str) -> None:
        """Expect a job no more that was predicted under this name."""
        self._pending = [each for each in self._pending if each.id != id_ or not id_]

    def knows(self, id_: str) -> bool:
        """Whether an observation with this id was learned."""
        return id_ in self._ids

    def learn(self, observation: Observation, superseded: str = "") -> Learned:
        """Learn from a job that has ended or was killed."""
        if superseded:
            self.withdraw(superseded)
        if observation.id in self._ids and not self._is_continued(observation):
            return Learned(Lesson.DUPLICATE, self._known_as(observation))
        retried = self._drop_censored(observation)
        missed, widened = self._judge(observation, retried)
        self._remember_id(observation.id)
        reason = "" if not self._is_absurd(observation) else self._doubted(observation)
        if reason:
            return Learned(Lesson.SET_ASIDE, reason, missed, widened)
        self._add(observation)
        if missed or retried:
            self._sizer = None
        return Learned(Lesson.LEARNED, "", missed, widened)

    def withdraw(self, id_: str) -> bool:
        """Leave an observation out from now on; returns whether it was there."""
        self._aside = [each for each in self._aside if each.id != id_]
        self._ids.pop(id_, None)  # what it really was may still be told
        at = self.history.position_of(id_)
        if at is None:
            return False
        self.history.remove(at)
        self._sizer = self._spread = None
        return True

    def _known_as(self, observation: Observation) -> str:
        at = self.history.position_of(observation.id)
        known = observation if at is None else self.history.observations[at]
        if known.peak_bytes == observation.peak_bytes:
            return f"{observation.id} is known already"
        return (
            f"{observation.id} is known already, with a peak of {known.peak_bytes:.0f} bytes and not of "
            f"{observation.peak_bytes:.0f}: the first stays unless it is withdrawn or superseded"
        )

    def _is_continued(self, observation: Observation) -> bool:
        at = self.history.position_of(observation.id)
        if at is None:
            return False
        known = self.history.observations[at]
        # A job that was killed ends later, or is killed again at a higher limit.
        return known.censored and (not observation.censored or observation.peak_bytes > known.peak_bytes)

    def _drop_censored(self, observation: Observation) -> bool:
        """Forget the kill that an observation completes; returns whether there was one."""
        for at, known in enumerate(self.history.observations):
            same = known.id == observation.id or known.features == observation.features
            if known.censored and same and observation.peak_bytes >= known.peak_bytes:
                self.history.remove(at)
                return True
        return False

    def _judge(self, observation: Observation, retried: bool) -> tuple[bool | None, bool]:
        """Count the outcome of the first attempt that an observation ends."""
        if retried:
            return None, False
        at = self._pending_of(observation)
        attempt = None if at is None else self._pending.pop(at)
        self.rounds.end(attempt.round if attempt else None, len(self._pending))
        if attempt is None:
            return None, False
        reserved = attempt.reserved
        # A kill below what was predicted is somebody else's limit, and tells nothing of the prediction.
        excess = observation.log_peak - reserved
        if observation.censored and math.log(max(1.0, observation.peak_bytes)) < reserved - 1e-6:
            return None, False
        uncorrected = observation.log_peak - attempt.uncorrected
        return excess > 0, self.watch.count(excess, uncorrected, attempt.round)

    def _pending_of(self, observation: Observation) -> int | None:
        for at, each in enumerate(self._pending):
            if each.id == observation.id:
                return at
        # One that was predicted under a name is that job's and nobody else's.
        nameless = [at for at, each in enumerate(self._pending) if not each.id]
        alike = (at for at in nameless if self._pending[at].features == observation.features)
        return next(alike, nameless[0] if nameless else None)

    def _is_absurd(self, observation: Observation) -> bool:
        if len(self.history) < _LEAST_TO_JUDGE or observation.log_peak < self.history.largest + _ABSURD:
            return False
        guesses = self.sizer().guesses(observation.features)
        return observation.log_peak > max(guesses) + _ABSURD

    def _doubted(self, observation: Observation) -> str:
        """Set an observation aside and return why; believe one that is confirmed, and what confirms it."""
        near = [each for each in self._aside if abs(each.log_peak - observation.log_peak) < _CONFIRMS]
        if near:
            for each in near:
                self._add(each)
            self._aside = [each for each in self._aside if each not in near]
            return ""
        self._aside = [*self._aside, observation][-_MOST_ASIDE:]
        return "more than 32 times the largest seen and the predicted: not believed until another confirms it"

    def _add(self, observation: Observation) -> None:
        is_news = observation.censored or not self._is_like_past(observation)
        self.history.add(observation)
        self._since += 1
        self._spread = None
        # To make a sizer takes some hundredths of a second, and one job more says little beside hundreds.
        if is_news or self._since * _PAST_A_NEW > len(self.history):
            self._sizer = None

    def _is_like_past(self, observation: Observation) -> bool:
        """Whether a job tells of itself what others told, and used no more than one of them."""
        known = self.history
        return (
            len(known) > 0
            and observation.log_peak <= known.largest
            and all(name in known.names for name in observation.features)
        )

    def _remember_id(self, id_: str) -> None:
        self._ids.pop(id_, None)
        self._ids[id_] = None
        if len(self._ids) > _MOST_IDS:
            del self._ids[next(iter(self._ids))]

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes, as JSON has it."""
        return {
            "observations": [asdict(each) for each in self.history.observations],
            "names": list(self.history.names),
            "aside": [asdict(each) for each in self._aside],
            "pending": [asdict(each) for each in self._pending],
            "ids": list(self._ids),
            "largest_share": self.largest_share,
            "error_spread": self._error_spread,
            "watch": self.watch.state(),
            "rounds": self.rounds.state(),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any], miss_rate: float) -> Kind:
        """Return the kind that a state tells of.

        Raises:
            KeyError: if something is missing.
            TypeError: if something is of another type.
            ValueError: if a number is none.
        """
        kind = cls(miss_rate)
        kind.history.names = [str(each) for each in state["names"]]
        for each in state["observations"]:
            kind.history.add(restored(each))
        kind._aside = [restored(each) for each in state["aside"]][-_MOST_ASIDE:]
        kind._pending = [_Pending.restored(each) for each in state["pending"]][-_MOST_PENDING:]
        kind._ids = dict.fromkeys([str(each) for each in state["ids"]][-_MOST_IDS:])
        kind.largest_share = finite(state["largest_share"])
        kind.watch.restore(state["watch"])
        spread = state.get("error_spread")
        kind._error_spread = None if spread is None else finite(spread)
        # States of before rounds were counted have none: promises come back with those that follow.
        if "rounds" in state:
            kind.rounds.restore(state["rounds"])
        return kind


def usual_spread(others: Iterable[Kind], told: bool) -> float:
    """Return by how much, as a standard deviation of logarithms, jobs of a kind differ among other kinds.

    Args:
        others: kinds.
        told: whether jobs tell of themselves by features. Then it is what guesses are off, for peaks are taken to go
            with features; else it is the spread of peaks.
    """
    known = [
        each.error_spread if told else each.spread
        for each in others
        if len(each.history) >= _LEAST_FOR_SPREAD
    ]
    return statistics.median(known) if known else _USUAL_SPREAD
