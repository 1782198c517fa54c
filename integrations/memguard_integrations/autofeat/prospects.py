"""What would become of a fit, and how else it could be done: in memory, spilling, or light. Nothing is fitted.

Comes in: a survey, settings, a budget, and what past jobs say. Goes out: a `Prospect` with one `Alternative` for each
way: the peak that is forecast, the memory that it takes, its time where past jobs tell it, the loss of score where that
was measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from memguard.config import Settings
from memguard.estimate import AutoFeatRequest, Estimate, estimate_engine, lightest_loss
from memguard.estimate.engine import IN_MEMORY, LIGHT, SPILLING
from memguard.report import EstimateSummary
from memguard.sizing import Sizing
from memguard.units import format_bytes, format_duration
from memguard_integrations.autofeat.admission import (
    Admission,
    FitRefused,
    estimator_for,
    request_for,
    summary_of,
)
from memguard_integrations.autofeat.forecasts import durations_of, look
from memguard_integrations.autofeat.likeness import likeness_of_fit
from memguard_integrations.autofeat.records import Engine, FitSettings, Light, Survey

__all__ = ["Alternative", "Prospect", "alternatives", "describe_prospect", "prospect_document"]

# More than any table needs: the budget at which all columns stay in memory.
_NO_BOUND: Final = 1 << 60
# Where a fit fits whole, a light one is worth a word that takes half as much.
_WORTH_IT: Final = 2


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to do a fit.

    Attributes:
        way: ``in memory``, ``spilling`` or ``light``.
        estimate: by first principles, within the memory that this way takes.
        sizing: what past jobs that did it this way say; ``None`` where they were not asked.
        fits: whether the budget has room for it.
        is_chosen: whether it is what would be done.
        scratch_bytes: what goes to disk.
        left_out: what is not done, one sentence each.
        expected_loss: of held-out R2 or accuracy; ``None`` where that was not measured.
        duration_s: the median of past jobs exactly like it; ``None`` where there were none.
    """

    way: str
    estimate: Estimate
    sizing: Sizing | None
    fits: bool
    is_chosen: bool
    scratch_bytes: int = 0
    left_out: tuple[str, ...] = ()
    expected_loss: float | None = None
    duration_s: float | None = None

    @property
    def peak_bytes(self) -> int:
        """The peak that is forecast: by past jobs that were exactly like it or are many, else by first principles."""
        if self.sizing is not None and (self.sizing.promised or self.duration_s is not None):
            return self.sizing.expected_bytes
        return self.estimate.expected_bytes


@dataclass(frozen=True, slots=True)
class Prospect:
    """What would become of a fit.

    Attributes:
        survey: of its table.
        budget_bytes: its bound.
        admission: how it would be let in; ``None`` where it would be refused.
        refusal: why, with what would fit; ``None`` where it would be let in.
        sizing: what past jobs say of it as it would be done; ``None`` where they were not asked.
        ways: how it could be done.
    """

    survey: Survey
    budget_bytes: int
    admission: Admission | None
    refusal: FitRefused | None
    sizing: Sizing | None
    ways: tuple[Alternative, ...]

    @property
    def estimate(self) -> EstimateSummary | None:
        """By first principles, as the job would be framed with; ``None`` where it would be refused."""
        return None if self.admission is None else summary_of(self.admission.estimate)


def alternatives(
    survey: Survey,
    fit: FitSettings,
    budget_bytes: int,
    *,
    rows: int,
    chosen: Admission | None,
    settings: Settings,
) -> tuple[Alternative, ...]:
    """Return the ways to do a fit, the largest first.

    Args:
        survey: of the table.
        fit: the settings of the fit.
        budget_bytes: its bound.
        rows: to fit on.
        chosen: how it would be let in; ``None`` where it would be refused.
        settings: whether there are forecasts, and from which store.
    """
    way = "" if chosen is None else chosen.estimate.plan or IN_MEMORY

    def told(
        name: str,
        estimate: Estimate,
        fit: FitSettings,
        left_out: tuple[str, ...] = (),
        expected_loss: float | None = None,
    ) -> Alternative:
        memory = budget_bytes if name == way else max(estimate.high_bytes, 1)
        alike = likeness_of_fit(survey, fit, rows, memory)
        times = durations_of(settings, alike, estimate)
        scratch = estimate.inputs.get("scratch_bytes", 0)
        return Alternative(
            name,
            estimate,
            look(settings, alike, estimate),
            estimate.fits(budget_bytes) or name == way,
            name == way,
            scratch if isinstance(scratch, int) else 0,
            left_out,
            expected_loss,
            statistics.median(times) if times else None,
        )

    fit = replace(fit, counts=survey.counts)
    return tuple(_ways(survey, fit, budget_bytes, rows, told))


def _ways(
    survey: Survey, fit: FitSettings, budget_bytes: int, rows: int, told: Callable[..., Alternative]
) -> Iterator[Alternative]:
    request, counts = request_for(survey, fit, rows), survey.counts
    if fit.engine is Engine.STOCK:
        yield told(IN_MEMORY, estimator_for(fit, budget_bytes)(request, counts), fit)
        return
    whole = estimate_engine(request, counts, _NO_BOUND)
    yield told(IN_MEMORY, whole, fit)
    least = estimate_engine(request, counts, 1)
    if least.high_bytes < whole.high_bytes:
        room = min(max(budget_bytes, least.high_bytes), whole.high_bytes - 1)
        spilling = estimate_engine(request, counts, room)
        if spilling.plan == SPILLING:
            yield told(SPILLING, spilling, fit)
    if fit.light is Light.AUTO:
        yield from _light(request, survey, fit, min(budget_bytes, whole.high_bytes // _WORTH_IT), told)


def _light(
    request: AutoFeatRequest, survey: Survey, fit: FitSettings, room: int, told: Callable[..., Alternative]
) -> Iterator[Alternative]:
    found = lightest_loss(
        request,
        survey.counts,
        fit.transformations,
        lambda smaller, counts: estimate_engine(smaller, counts, room).fits(room),
    )
    if found is None:
        return
    estimate = replace(estimate_engine(*found.applied(request, survey.counts), room), plan=LIGHT)
    left_out = found.left_out(request, fit.transformations)
    yield told(
        LIGHT, estimate, replace(fit, relief=found), left_out=left_out, expected_loss=found.expected_loss
    )


def describe_prospect(seen: Prospect, place: str) -> Iterator[str]:
    """Yield the lines that tell a prospect.

    Args:
        seen: what would become of the fit.
        place: whether what it would reserve is free now, in words.
    """
    facts, columns = seen.survey.facts, len(seen.survey.plan.columns)
    rows = f"{facts.rows:,} rows, {seen.survey.usable_rows:,} usable"
    yield f"AutoFeat on {facts.source}: {rows}, {columns} columns"
    yield ""
    if seen.refusal is None:
        yield from _forecast_lines(seen)
        yield f"now         {place}"
    else:
        yield f"refused     the budget of {format_bytes(seen.budget_bytes)} has no room for it"
    yield ""
    yield "  way         forecast peak        takes  budget     time       loss of score"
    for each in seen.ways:
        yield _way_line(each)
        yield from (f"              {sentence}" for sentence in each.left_out)
    if seen.refusal is None:
        yield f"  wait        {place}"
    yield "* what would be done; - not measured. Nothing was fitted or written."


def _forecast_lines(seen: Prospect) -> Iterator[str]:
    if seen.admission is None:
        return
    yield f"estimate    {seen.admission.estimate}; budget {format_bytes(seen.budget_bytes)}"
    sizing = seen.sizing
    if sizing is None or sizing.predicted_bytes is None:
        return
    reserved = format_bytes(min(sizing.predicted_bytes, seen.budget_bytes))
    interval = f"{format_bytes(sizing.low_bytes)} to {format_bytes(sizing.high_bytes)}"
    promise = f"missed by at most {sizing.miss_rate:.0%}" if sizing.promised else "no promise yet"
    yield f"forecast    {reserved} to reserve, {format_bytes(sizing.expected_bytes)} expected, {interval}; {promise}"
    yield from (f"            {reason}" for reason in sizing.reasons)
    for each in sizing.episodes:
        moved = f"{'-' if each.moved_bytes < 0 else '+'}{format_bytes(abs(each.moved_bytes))}"
        yield f"            {each.id}: used {format_bytes(each.peak_bytes)}, {moved}"


def _way_line(each: Alternative) -> str:
    mark, fits = "*" if each.is_chosen else " ", "fits" if each.fits else "too small"
    time = "-" if each.duration_s is None else format_duration(each.duration_s)
    loss = "none" if each.way != LIGHT else f"{each.expected_loss or 0:.4f}"
    disk = f", {format_bytes(each.scratch_bytes)} on disk" if each.scratch_bytes else ""
    takes = format_bytes(each.estimate.high_bytes)
    return f"{mark} {each.way:<11} {format_bytes(each.peak_bytes):>13} {takes:>12}  {fits:<10} {time:<10} {loss}{disk}"


def prospect_document(seen: Prospect) -> dict[str, object]:
    """Return what a prospect holds as JSON has it; bytes are bytes, ``_s`` are seconds."""
    sizing = seen.sizing
    return {
        "budget_bytes": seen.budget_bytes,
        "refused": None if seen.refusal is None else str(seen.refusal),
        "rows": seen.survey.facts.rows,
        "usable_rows": seen.survey.usable_rows,
        "forecast": None
        if sizing is None
        else {
            "predicted_bytes": sizing.predicted_bytes,
            "expected_bytes": sizing.expected_bytes,
            "low_bytes": sizing.low_bytes,
            "high_bytes": sizing.high_bytes,
            "promised": sizing.promised,
            "basis": sizing.basis,
            "reasons": list(sizing.reasons),
            "episodes": [
                {"id": each.id, "peak_bytes": each.peak_bytes, "moved_bytes": each.moved_bytes}
                for each in sizing.episodes
            ],
        },
        "ways": [
            {
                "way": each.way,
                "is_chosen": each.is_chosen,
                "fits": each.fits,
                "peak_bytes": each.peak_bytes,
                "high_bytes": each.estimate.high_bytes,
                "scratch_bytes": each.scratch_bytes,
                "left_out": list(each.left_out),
                "expected_loss": each.expected_loss,
                "duration_s": each.duration_s,
            }
            for each in seen.ways
        ],
    }
