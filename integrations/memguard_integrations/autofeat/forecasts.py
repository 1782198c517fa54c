"""What past AutoFeat jobs say of one that is about to run, and how that is told.

Comes in: a likeness, an estimate from first principles. Goes out: a `Sizing`, and sentences with the past jobs that
made it so. A look only: nothing is reserved by it, and the job is forecast again when it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from memguard.config import Settings
from memguard.estimate import Estimate
from memguard.estimate.likeness import Likeness
from memguard.forecasting import forecaster_for
from memguard.sizing import Sizing
from memguard.units import format_bytes
from memguard_integrations.autofeat.likeness import BOUND, likeness_of_fit
from memguard_integrations.autofeat.records import FitSettings, Survey

__all__ = ["durations_of", "episodes_said", "judged_by_past", "look", "sizing_said"]

# Of the past jobs that moved a forecast so many are named in a line; all of them are in the report.
_SHOWN: Final = 3


def look(settings: Settings, likeness: Likeness, estimate: Estimate) -> Sizing | None:
    """Return what past jobs say of one; ``None`` where forecasts are switched off.

    Args:
        settings: whether there are forecasts, and from which store.
        likeness: of the job.
        estimate: what first principles say of it.
    """
    forecaster = forecaster_for(settings)
    if forecaster is None:
        return None
    return forecaster.size("", likeness, prior=_as_prior(estimate), tentative=True)


def _as_prior(estimate: Estimate) -> Estimate:
    """Return an estimate as it comes back from a job's report, which has no low figure."""
    return replace(estimate, low_bytes=estimate.expected_bytes)


def judged_by_past(
    settings: Settings, survey: Survey, fit: FitSettings, budget_bytes: int
) -> Callable[[int, Estimate], Estimate]:
    """Return what makes of the estimate of a fit one that past jobs bear out.

    Its high figure is what is promised, or what jobs exactly like it show to be enough; where neither is to be had the
    estimate stays as it is.

    Args:
        settings: whether there are forecasts, and from which store.
        survey: of the table.
        fit: the settings of the fit.
        budget_bytes: its bound.
    """

    def judged(rows: int, estimate: Estimate) -> Estimate:
        alike = likeness_of_fit(survey, fit, rows, budget_bytes)
        sizing, forecaster = look(settings, alike, estimate), forecaster_for(settings)
        if sizing is None or forecaster is None or sizing.basis != "history":
            return estimate
        if sizing.promised and sizing.predicted_bytes is not None:
            return _bounded(estimate, sizing.predicted_bytes, sizing.reasons[0])
        enough = forecaster.experience.bound(alike, estimate, BOUND)
        said = f"past jobs exactly like it show {format_bytes(int(enough or 0))} to be enough"
        return estimate if enough is None else _bounded(estimate, int(enough), said)

    return judged


def _bounded(estimate: Estimate, high_bytes: int, why: str) -> Estimate:
    return replace(
        estimate,
        low_bytes=min(estimate.low_bytes, high_bytes),
        expected_bytes=min(estimate.expected_bytes, high_bytes),
        high_bytes=high_bytes,
        reasons=(why, *estimate.reasons),
    )


def durations_of(settings: Settings, likeness: Likeness, estimate: Estimate) -> tuple[float, ...]:
    """Return how long past jobs took that were exactly like one and done in the same way, in seconds."""
    forecaster = forecaster_for(settings)
    if forecaster is None:
        return ()
    forecaster.refresh(likeness.kind)
    return forecaster.experience.durations(likeness, estimate, BOUND)


def sizing_said(sizing: Sizing | None) -> str:
    """Return what is forecast and why, with the past jobs that made it so; ``""`` where no past job says anything."""
    if sizing is None or sizing.predicted_bytes is None or sizing.basis in ("prior", "request"):
        return ""
    told = f"{format_bytes(sizing.predicted_bytes)}, {format_bytes(sizing.expected_bytes)} expected"
    said = f"forecast from past jobs: {told}; {sizing.reasons[0]}"
    named = episodes_said(sizing)
    return f"{said}; by {named}" if named else said


def episodes_said(sizing: Sizing) -> str:
    """Return the past jobs that moved a forecast most, with what each used and did to it."""
    named = [
        f"{each.id} ({format_bytes(each.peak_bytes)}, {_signed(each.moved_bytes)})"
        for each in sizing.episodes[:_SHOWN]
    ]
    more = len(sizing.episodes) - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _signed(moved_bytes: int) -> str:
    return f"{'-' if moved_bytes < 0 else '+'}{format_bytes(abs(moved_bytes))}"
