"""`Forecaster`: what to reserve for a job, from the past of jobs like it; and what the next one needs, after it.

Comes in: a `Likeness`, later the report of that job. Goes out: a `Sizing`. One per process and store: threads share
what was learned, and what other processes learned is read from the store before each forecast. It keeps no job from
running: where the past cannot be read that is told once, and jobs are sized as if there were none.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

from memguard.config import Settings, Switch
from memguard.errors import EpisodeStoreError
from memguard.estimate.forecast import Learned, Lesson, Prediction
from memguard.estimate.likeness import Likeness
from memguard.estimate.online import OnlineEstimator
from memguard.estimate.records import Estimate
from memguard.forecasting.past import Past, PastJob, figures_of, peaks_of_phases
from memguard.forecasting.phases import PhaseBook
from memguard.forecasting.priors import Experience, prior_of, with_prior
from memguard.forecasting.rows import RowBook
from memguard.report import JobReport
from memguard.sizing import REQUEST, Influencer, Sizing

__all__ = ["Forecaster", "forecaster_for"]

_MOST_EPISODES: Final = 8


class Forecaster:
    """Sizes jobs by the past that a store of episodes holds. Safe for threads.

    Args:
        folder: of the store; ``None``: only what this process saw counts.
        miss_rate: share of jobs that may use more than was reserved for them, above 0, at most 0.5.
    """

    def __init__(self, folder: Path | None, miss_rate: float) -> None:
        self.estimator = OnlineEstimator(miss_rate)
        self._past = None if folder is None else Past(folder)
        self._phases = PhaseBook()
        self.experience = Experience()
        self._rows = RowBook()
        self._lock = threading.Lock()
        self.trouble = ""

    def size(
        self,
        job_id: str,
        likeness: Likeness,
        *,
        request_bytes: int | None = None,
        prior: Estimate | None = None,
        tentative: bool = False,
    ) -> Sizing:
        """Return what past jobs say of one that is about to run.

        Args:
            job_id: of the job, by which it is known again when it has ended.
            likeness: of the job.
            request_bytes: what its user named for it: a cap, and a feature.
            prior: an estimate from first principles.
            tentative: nothing is about to run: this is for looking.
        """
        self.refresh(likeness.kind)
        if request_bytes is not None:
            likeness = replace(likeness, features={**likeness.features, REQUEST: float(request_bytes)})
        likeness = with_prior(likeness, prior)
        predicted = self._predicted(likeness, prior, job_id=job_id, tentative=tentative)
        with self._lock:
            phases = self._phases.forecast(likeness, predicted)
            row_bytes, batch_rows = self._rows.forecast(likeness)
        sizing = _sizing_of(likeness, predicted, phases)
        return replace(sizing, bytes_per_row=row_bytes, batch_rows=batch_rows)

    def _predicted(
        self,
        likeness: Likeness,
        prior: Estimate | None,
        *,
        job_id: str = "",
        tentative: bool,
        explain: bool = True,
    ) -> Prediction:
        def joined(learned: Prediction) -> Prediction:
            return learned if prior is None else self.experience.joined(likeness, prior, learned)

        return self.estimator.predict(
            likeness.kind,
            likeness.features,
            job_id=_episode_id(job_id),
            world=likeness.world,
            prior=prior,
            tentative=tentative,
            explain=explain,
            adjust=joined,
        )

    def refresh(self, kind: str) -> tuple[PastJob, ...]:
        """Learn what has ended anywhere since the last time; returns the jobs that were new."""
        if self._past is None:
            return ()
        with self._lock:
            if not self.estimator.worlds(kind):
                self._past.forget(kind)
            try:
                look = self._past.news(kind)
            except (EpisodeStoreError, OSError) as error:
                self.trouble = f"past jobs could not be read: {error}"
                return ()
            for id_ in look.withdrawn:
                self.experience.withdraw(kind, id_)
                for world in self.estimator.worlds(kind):
                    self.estimator.withdraw(kind, id_, world=world)
            for job in look.jobs:
                self._learn(job)
        return look.jobs

    def learn(self, report: JobReport) -> tuple[Sizing | None, Learned | None]:
        """Learn from a job that has ended.

        Returns:
            Its sizing with what the next one like it needs, and what was learned; ``None`` for both where nothing was.
        """
        sizing = report.sizing
        if sizing is None:
            return None, None
        peak, exceeded = figures_of(report)
        if peak is None and exceeded is None:
            return sizing, None
        job = PastJob(
            id=_episode_id(report.job_id),
            kind=sizing.kind,
            world=sizing.world,
            features=sizing.features,
            peak_bytes=peak,
            exceeded_bytes=exceeded,
            runtime_s=report.duration_s,
            predicted_bytes=None,
            phases=peaks_of_phases((each.name, each.peak_bytes) for each in report.phases),
            batch_rows=report.batches.largest_rows,
        )
        with self._lock:
            learned = self._learn(job)
            if self._past is not None:
                self._past.note(job.kind, job.id)
        likeness = Likeness(sizing.kind, sizing.features, sizing.world)
        following = self._predicted(likeness, prior_of(report.estimate), tentative=True, explain=False)
        return replace(sizing, next_bytes=following.bytes), learned

    def abandon(self, job_id: str, sizing: Sizing) -> None:
        """Expect a job no more that was sized, if it is expected still."""
        self.estimator.abandon(sizing.kind, _episode_id(job_id), world=sizing.world)

    def retry_bytes(self, sizing: Sizing, exceeded_bytes: int) -> int:
        """Return what to give a job that ran out of memory: half as much again, or the largest seen if that is more."""
        features = {name: value for name, value in sizing.features.items() if name != REQUEST}
        return self.estimator.retry_bytes(
            sizing.kind, features, exceeded_bytes=exceeded_bytes, world=sizing.world
        )

    def _learn(self, job: PastJob) -> Learned:
        learned = self.estimator.observe(
            job.kind,
            job.features,
            peak_bytes=job.peak_bytes,
            exceeded_bytes=job.exceeded_bytes,
            runtime_s=job.runtime_s,
            job_id=job.id,
            world=job.world,
            predicted_bytes=job.predicted_bytes,
            uncorrected_bytes=job.uncorrected_bytes,
        )
        if learned.lesson is Lesson.LEARNED:
            self._phases.learn(job)
            self.experience.learn(job)
            self._rows.learn(job)
        return learned


def _episode_id(job_id: str) -> str:
    return f"job-{job_id}" if job_id else ""


def _sizing_of(likeness: Likeness, predicted: Prediction, phases: dict[str, int]) -> Sizing:
    is_known = predicted.basis not in ("nothing", "request")
    return Sizing(
        kind=likeness.kind,
        world=likeness.world,
        features=dict(likeness.features),
        predicted_bytes=predicted.bytes if is_known else None,
        expected_bytes=predicted.expected_bytes if is_known else 0,
        low_bytes=predicted.low_bytes if is_known else 0,
        high_bytes=predicted.high_bytes if is_known else 0,
        uncorrected_bytes=predicted.uncorrected_bytes if is_known else None,
        miss_rate=predicted.miss_rate,
        promised=predicted.promised,
        observations=predicted.observations,
        basis=predicted.basis,
        reasons=predicted.reasons,
        episodes=tuple(
            Influencer(each.id, round(each.peak_bytes), each.moved_bytes)
            for each in predicted.influences[:_MOST_EPISODES]
        ),
        phases=phases,
    )


_forecasters: dict[tuple[Path | None, float], Forecaster] = {}
_lock = threading.Lock()


def forecaster_for(settings: Settings) -> Forecaster | None:
    """Return this process's forecaster; ``None`` where forecasts are switched off."""
    if settings.forecast is Switch.OFF:
        return None
    key = (settings.episodes, settings.miss_rate)
    with _lock:
        found = _forecasters.get(key)
        if found is None:
            found = _forecasters[key] = Forecaster(*key)
        return found


def _start_over_in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread that does not exist here may hold it, and those of the forecasters
    _lock = threading.Lock()
    _forecasters.clear()


os.register_at_fork(after_in_child=_start_over_in_child)
