"""What past AutoFeat jobs say of one that is about to run, and how that is told.

Comes in: a likeness, an estimate from first principles. Goes out: a `Sizing`, and sentences with the past jobs that
made it so. A look only: nothing is reserved by it, and the job is forecast again when it starts.
"""

from __future__ import annotations

from typing import Final

from memguard.config import Settings
from memguard.estimate.likeness import Likeness
from memguard.forecasting import forecaster_for
from memguard.forecasting.priors import prior_of
from memguard.report import EstimateSummary
from memguard.sizing import Sizing
from memguard.units import format_bytes

__all__ = ["episodes_said", "look", "sizing_said"]

# Of the past jobs that moved a forecast so many are named in a line; all of them are in the report.
_SHOWN: Final = 3


def look(settings: Settings, likeness: Likeness, estimate: EstimateSummary) -> Sizing | None:
    """Return what past jobs say of one; ``None`` where forecasts are switched off.

    Args:
        settings: whether there are forecasts, and from which store.
        likeness: of the job.
        estimate: what first principles say of it.
    """
    forecaster = forecaster_for(settings)
    if forecaster is None:
        return None
    return forecaster.size("", likeness, prior=prior_of(estimate), tentative=True)


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
