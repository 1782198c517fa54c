"""Forecasts in use: what past jobs say goes into a job's frame before it starts, and back when it has ended.

Comes in: frames and reports of jobs of any sort. Goes out: the same with a `Sizing`, what to reserve by it, the budget
of another try, and events where a forecast was missed. Nothing here keeps a job from running.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from memguard.config import Settings, Switch
from memguard.estimate.likeness import Likeness
from memguard.report import JobReport
from memguard.sizing import REQUEST, Sizing
from memguard.story import with_next
from memguard.worker.compose import JobFrame

if TYPE_CHECKING:
    from memguard.forecasting.forecaster import Forecaster

__all__ = [
    "Foresight",
    "block_likeness",
    "is_above_budget",
    "is_overruled",
    "is_well_known",
    "phases_by_forecast",
    "reserved_by_forecast",
]

Publish = Callable[..., None]
# A user's own figure counts until so many of the jobs that it was named for have ended; where first principles say how
# much a job needs, they and a single one of its kind know better.
_LEAST_TO_OVERRULE: Final = 5
_LEAST_BESIDE_PRIOR: Final = 1


def reserved_by_forecast(frame: JobFrame, base_bytes: int, *, most_bytes: int) -> int:
    """Return what to reserve for a job, by the forecast where there is one. Pure.

    Args:
        frame: the job, with its sizing; what is reserved for another try is no matter of forecast.
        base_bytes: what would be reserved without a forecast.
        most_bytes: what can be reserved at all.
    """
    predicted = _used_forecast(frame)
    return base_bytes if predicted is None else min(frame.limit_bytes, predicted, most_bytes)


def phases_by_forecast(frame: JobFrame, reserved_bytes: int) -> dict[str, int]:
    """Return the peaks of a job's parts, where what is reserved for it follows a forecast: past ones, or planned. Pure.

    Args:
        frame: the job, with its sizing.
        reserved_bytes: what is reserved for its largest part.
    """
    if frame.sizing is None or _used_forecast(frame) is None:
        return {}
    from memguard.forecasting.phases import scaled_phases  # noqa: PLC0415 - a wrapped command has no parts

    planned = frame.estimate.phases if frame.estimate is not None else {}
    return scaled_phases(frame.sizing.phases or planned, reserved_bytes)


def _used_forecast(frame: JobFrame) -> int | None:
    """Return what is forecast, if it counts for more than what a user named."""
    sizing = frame.sizing
    if sizing is None or sizing.predicted_bytes is None or frame.attempts:
        return None
    is_known = is_well_known(sizing, has_prior=frame.estimate is not None)
    return sizing.predicted_bytes if is_known or REQUEST not in sizing.features else None


def is_well_known(sizing: Sizing, *, has_prior: bool = False) -> bool:
    """Whether enough is known to reserve less than a user named. Pure.

    Args:
        sizing: of the job.
        has_prior: whether first principles say how much it needs.
    """
    least = _LEAST_BESIDE_PRIOR if has_prior else _LEAST_TO_OVERRULE
    return sizing.promised or (sizing.basis == "history" and sizing.observations >= least)


def is_overruled(sizing: Sizing | None) -> bool:
    """Whether a user's figure was a cap alone, since what jobs like it used is known. Pure."""
    return sizing is not None and REQUEST in sizing.features and is_well_known(sizing)


def is_above_budget(sizing: Sizing, limit_bytes: int) -> bool:
    """Whether even the least that jobs like this one use is no less than its budget. Pure.

    What a forecast says is capped by a figure that was named, so its lower end may be the very budget.
    """
    return sizing.basis == "history" and sizing.low_bytes >= limit_bytes < sizing.high_bytes


class Foresight:
    """The forecasts of a manager or of a wrapped command.

    What learns is loaded where there is something to learn from.

    Args:
        settings: whether there are any, and from which store.
        publish: as `memguard.announcing.Announcer.publish`.
        is_brief: whether this process runs one job and ends: nothing is known but what the store has.
    """

    def __init__(self, settings: Settings, publish: Publish, *, is_brief: bool = False) -> None:
        self._settings, self._publish, self._is_brief = settings, publish, is_brief
        self._has_failed = False

    def framed(
        self,
        frame: JobFrame,
        likeness: Likeness | Callable[[], Likeness],
        *,
        is_requested: bool,
    ) -> JobFrame:
        """Return a job's frame with what past jobs say of it.

        Args:
            frame: the job; an estimate from first principles in it is what is known of the first of its kind.
            likeness: which jobs it resembles; called only where forecasts are wanted.
            is_requested: whether somebody named its budget for this very job.
        """
        if self._settings.forecast is Switch.OFF:
            return frame
        alike = likeness if isinstance(likeness, Likeness) else likeness()
        request = frame.limit_bytes if is_requested else None
        if self._is_brief and self._is_first(alike):
            return dataclasses.replace(frame, sizing=_unsized(alike, request, self._settings.miss_rate))
        return dataclasses.replace(frame, sizing=self._sized(frame, alike, request))

    def _is_first(self, likeness: Likeness) -> bool:
        if self._settings.episodes is None:
            return True
        from memguard.forecasting.past import has_past  # noqa: PLC0415

        return not has_past(self._settings.episodes, likeness.kind)

    def _sized(self, frame: JobFrame, likeness: Likeness, request_bytes: int | None) -> Sizing | None:
        from memguard.forecasting.priors import prior_of  # noqa: PLC0415

        forecaster = self._forecaster()
        if forecaster is None:
            return None
        prior = prior_of(frame.estimate)
        sizing = forecaster.size(frame.job_id, likeness, request_bytes=request_bytes, prior=prior)
        if forecaster.trouble and not self._has_failed:
            self._has_failed = True
            self._publish("memguard.guard_degraded", frame.job_id, fault=forecaster.trouble)
        if is_above_budget(sizing, frame.limit_bytes):
            self._tell_above_budget(frame, forecaster, sizing)
        return sizing

    def _forecaster(self) -> Forecaster | None:
        if self._settings.forecast is Switch.OFF:
            return None
        from memguard.forecasting.forecaster import forecaster_for  # noqa: PLC0415

        return forecaster_for(self._settings)

    @contextmanager
    def expecting(self, frame: JobFrame) -> Iterator[None]:
        """Forget at the end of the block that a job was expected: by then it was learned from, or never will be."""
        try:
            yield
        finally:
            forecaster = self._forecaster() if frame.sizing is not None else None
            if forecaster is not None and frame.sizing is not None:
                forecaster.abandon(frame.job_id, frame.sizing)

    def _tell_above_budget(self, frame: JobFrame, forecaster: Forecaster, sizing: Sizing) -> None:
        from memguard.forecasting.smaller import tell_smaller, what_would_fit  # noqa: PLC0415

        fitting = what_would_fit(forecaster.estimator, sizing, frame.limit_bytes)
        self._publish(
            "memguard.overrun_foreseen",
            frame.job_id,
            kind=sizing.kind,
            needed_bytes=sizing.high_bytes,
            limit_bytes=frame.limit_bytes,
            capacity_bytes=frame.capacity.capacity_bytes,
            would_fit="; or ".join(map(tell_smaller, fitting)),
        )

    def learned(self, report: JobReport) -> JobReport:
        """Learn from a job that has ended; return its report with what the next one like it needs."""
        forecaster = self._forecaster()
        if forecaster is None or report.sizing is None:
            return report
        sizing, learned = forecaster.learn(report)
        report = dataclasses.replace(report, sizing=sizing)
        if self._settings.episodes is not None:
            report = with_next(report)
        if learned is not None:
            self._tell(report, missed=bool(learned.missed), widened=learned.widened)
        return report

    def retry_bytes(self, report: JobReport, limit_bytes: int) -> int:
        """Return the budget of another try: at least the largest that a job of its kind used."""
        forecaster = self._forecaster()
        if forecaster is None or report.sizing is None:
            return limit_bytes
        exceeded = max(report.peak_bytes, 0 if report.pressure else report.budget.limit_bytes)
        most = min([report.capacity.capacity_bytes, *(each.limit_bytes for each in report.budget.outer)])
        return max(limit_bytes, min(most, forecaster.retry_bytes(report.sizing, exceeded)))

    def _tell(self, report: JobReport, *, missed: bool, widened: bool) -> None:
        sizing = report.sizing
        if sizing is None or sizing.predicted_bytes is None:
            return
        fields: dict[str, Any] = {"kind": sizing.kind, "predicted_bytes": sizing.predicted_bytes}
        if missed:
            self._publish(
                "memguard.forecast_missed", report.job_id, peak_bytes=report.proven_peak_bytes, **fields
            )
        if widened:
            fields["next_bytes"] = sizing.next_bytes
            self._publish("memguard.forecast_widened", report.job_id, miss_rate=sizing.miss_rate, **fields)


def block_likeness(name: str) -> Likeness:
    """Return what tells a block of a process's own work from others: nothing but its name."""
    from memguard.forecasting.worlds import world_of_libraries  # noqa: PLC0415

    return Likeness(f"block {name}", world=world_of_libraries())


def _unsized(likeness: Likeness, request_bytes: int | None, miss_rate: float) -> Sizing:
    """Return what is said of the first job of a kind: how it is told from others."""
    features = dict(likeness.features)
    if request_bytes is not None:
        features[REQUEST] = float(request_bytes)
    basis = "nothing" if request_bytes is None else "request"
    why = "no job of this kind has ended here: nothing is known of it, and nothing is promised"
    return Sizing(likeness.kind, likeness.world, features, miss_rate=miss_rate, basis=basis, reasons=(why,))
