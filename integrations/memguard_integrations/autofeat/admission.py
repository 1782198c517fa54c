"""Whether a fit may start under a budget, on how many rows, and what to say if it may not; pure but for `tell_light`.

Comes in: a `Survey`, settings, a budget. Goes out: an `Admission`, or `FitRefused` with the figures and
what would fit, in settings that can be typed as they stand.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from memguard.errors import CapacityExceeded, DataError
from memguard.estimate import (
    LIGHT,
    AutoFeatCounts,
    AutoFeatRequest,
    Estimate,
    Fit,
    Relief,
    estimate_autofeat,
    estimate_engine,
    lightest_loss,
    most_rows,
    what_fits,
)
from memguard.manager import MemoryManager
from memguard.report import EstimateSummary
from memguard.units import format_bytes, format_setting
from memguard_integrations.autofeat.engine.planning.told import LightMode
from memguard_integrations.autofeat.records import MIN_ROWS, Engine, FitSettings, Light, Survey, Task

__all__ = [
    "Admission",
    "FitRefused",
    "admit",
    "as_argument",
    "as_flag",
    "check_fit_rows",
    "estimator_for",
    "light_mode",
    "plan_said",
    "request_for",
    "summary_of",
    "tell_light",
]


_SCRATCH_SHARE: Final = 0.85
_Estimator = Callable[[AutoFeatRequest, AutoFeatCounts], Estimate]
_Judge = Callable[[int, Estimate], Estimate]
_Test = Callable[[AutoFeatRequest, AutoFeatCounts], bool]


class FitRefused(CapacityExceeded):
    """A fit that was not started: its estimate is beyond its budget. The message tells what would fit."""

    # 125 is for what memguard did not start; a budget that cannot be had is wrong usage.
    exit_status = 125


@dataclass(frozen=True, slots=True)
class Admission:
    """A fit that may start.

    Attributes:
        fit_rows: rows to fit on.
        estimate: of that fit.
        relief: what is left out of what was asked for; ``None`` for nothing.
        left_out: the same in words.
        whole: the estimate of what was asked for; ``None`` where that is done.
        borne_out: what past jobs make of the estimate, where it is let in or widened by that.
    """

    fit_rows: int
    estimate: Estimate
    relief: Relief | None = None
    left_out: tuple[str, ...] = ()
    whole: Estimate | None = None
    borne_out: Estimate | None = None


def check_fit_rows(fit_rows: int | None) -> None:
    """Refuse to fit on fewer rows than a whole table must have.

    Raises:
        DataError: for fewer than `MIN_ROWS`.
    """
    if fit_rows is not None and fit_rows < MIN_ROWS:
        raise DataError(
            f"{fit_rows:,} are too few: AutoFeat needs {MIN_ROWS} rows to cross-validate",
            subject="--fit-rows",
            remedy=f"use {MIN_ROWS} or more, or auto",
        )


def admit(
    survey: Survey,
    settings: FitSettings,
    budget_bytes: int,
    *,
    fit_rows: int | None = None,
    shrink: bool = False,
    setting: Callable[[Fit], str],
    capacity_bytes: int,
    judged: _Judge = lambda _, estimate: estimate,
) -> Admission:
    """Let a fit in, on fewer rows or lighter where that is allowed, or refuse it.

    Args:
        survey: what is known of the table.
        settings: for AutoFeat.
        budget_bytes: the job's bound.
        fit_rows: rows asked for; ``None`` for all usable ones.
        shrink: take as many rows as fit.
        setting: writes a change that would fit; `as_flag` or `as_argument`.
        capacity_bytes: the machine's; a budget beyond it is not proposed.
        judged: makes of an estimate for so many rows one that past jobs bear out; see
            `memguard_integrations.autofeat.forecasts.judged_by_past`.

    Raises:
        FitRefused: if it does not fit, or not even `MIN_ROWS` rows do.
        DataError: if fewer than that are asked for.
    """
    check_fit_rows(fit_rows)
    rows = min(survey.usable_rows, fit_rows or survey.usable_rows)
    request = request_for(survey, settings, rows)
    estimator = estimator_for(settings, budget_bytes)
    estimate = estimator(request, survey.counts)
    by_past = judged(rows, estimate)
    borne_out = None if by_past == estimate else by_past
    if by_past.high_bytes > estimate.high_bytes:
        estimator = _widened(estimator, by_past.high_bytes / max(1, estimate.high_bytes))

    def can_be_had(request: AutoFeatRequest, counts: AutoFeatCounts) -> bool:
        predicted = estimator(request, counts)
        return predicted.fits(budget_bytes) and not _overflows(predicted, survey)

    if by_past.fits(budget_bytes) and not _overflows(estimate, survey):
        return Admission(rows, estimate, borne_out=borne_out)
    if shrink and (fitting := _rows_to_be_had(request, survey.counts, can_be_had)):
        return Admission(fitting, estimator(replace(request, rows=fitting), survey.counts))
    if settings.engine is Engine.MEMGUARD and settings.light is Light.AUTO:
        found = lightest_loss(request, survey.counts, settings.transformations, can_be_had)
        if found is not None:
            smaller = replace(estimator(*found.applied(request, survey.counts)), plan=LIGHT)
            left_out = found.left_out(request, settings.transformations)
            return Admission(rows, smaller, found, left_out, by_past)
    if by_past.fits(budget_bytes):
        raise _no_scratch(estimate, survey)
    changes = what_fits(request, survey.counts, budget_bytes, estimator)
    possible = [fit for fit in changes if fit.what != "memory" or fit.value <= capacity_bytes]
    raise _refusal(request, survey, budget_bytes, by_past, _would_fit(possible, setting))


def _rows_to_be_had(request: AutoFeatRequest, counts: AutoFeatCounts, can_be_had: _Test) -> int:
    """Return the most rows that memory and disk have room for, in three figures; 0 for too few."""
    rows = _three_figures(most_rows(request, counts, can_be_had))
    return rows if rows >= MIN_ROWS and can_be_had(replace(request, rows=rows), counts) else 0


def _overflows(estimate: Estimate, survey: Survey) -> bool:
    """Whether more is to go to disk than has room there; blocks are larger than what is in them."""
    free = survey.scratch_bytes
    return free is not None and _scratch_of(estimate) > _SCRATCH_SHARE * free


def _scratch_of(estimate: Estimate) -> int:
    scratch = estimate.inputs.get("scratch_bytes", 0)
    return scratch if isinstance(scratch, int) else 0


def _no_scratch(estimate: Estimate, survey: Survey) -> FitRefused:
    scratch, free = _scratch_of(estimate), survey.scratch_bytes or 0
    return FitRefused(
        f"{survey.facts.source}: {format_bytes(scratch)} of the columns go to the folder for temporary files, which "
        f"has {format_bytes(free)} free ({estimate.reasons[0]}); name another one (TMPDIR), give more memory, or "
        f"let less be done (light mode auto)",
        requested_bytes=scratch,
        capacity_bytes=free,
        limited_by="scratch",
    )


def estimator_for(settings: FitSettings, budget_bytes: int) -> _Estimator:
    """Return what estimates fits with an engine, in a budget."""
    if settings.engine is Engine.STOCK:
        return estimate_autofeat
    return functools.partial(estimate_engine, budget_bytes=budget_bytes)


def _widened(estimator: _Estimator, factor: float) -> _Estimator:
    """Return an estimator whose high figure is larger, as past jobs of the fit that was asked for say it must be."""

    def widened(request: AutoFeatRequest, counts: AutoFeatCounts) -> Estimate:
        estimate = estimator(request, counts)
        return replace(estimate, high_bytes=int(estimate.high_bytes * factor))

    return widened


def request_for(survey: Survey, settings: FitSettings, rows: int) -> AutoFeatRequest:
    """Return a fit of so many rows as estimates take it."""
    return AutoFeatRequest(
        rows=rows,
        columns=len(survey.plan.columns),
        steps=settings.steps,
        transformations=len(settings.transformations),
        jobs=settings.jobs,
        selection_runs=settings.selection_runs,
        table_rows=survey.facts.rows,
        classes=settings.task is Task.CLASSIFICATION,
    )


def _refusal(
    request: AutoFeatRequest, survey: Survey, budget_bytes: int, estimate: Estimate, would_fit: str
) -> FitRefused:
    return FitRefused(
        f"{survey.facts.source}: fitting {request.rows:,} rows in {_steps(request.steps)} needs {estimate}; "
        f"the budget is {format_bytes(budget_bytes)} and must hold the most that may be needed "
        f"({estimate.reasons[0]}); {would_fit}",
        requested_bytes=estimate.high_bytes,
        capacity_bytes=budget_bytes,
        limited_by="budget",
    )


def _steps(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"


def _would_fit(possible: Sequence[Fit], setting: Callable[[Fit], str]) -> str:
    if not possible:
        return "nothing smaller would fit: choose fewer columns"
    return f"what would fit: {', or '.join(setting(fit) for fit in possible)}"


def as_flag(fit: Fit) -> str:
    """Write a change as a flag of the command."""
    flags = {"rows": f"--fit-rows {fit.value}", "steps": f"--steps {fit.value}"}
    return flags.get(fit.what, f"--memory {format_setting(fit.value)}")


def as_argument(fit: Fit) -> str:
    """Write a change in Python."""
    arguments = {"rows": f"X.sample({fit.value}, random_state=0) and its y", "steps": f"steps={fit.value}"}
    return arguments.get(fit.what, f'memory="{format_setting(fit.value)}"')


def summary_of(estimate: Estimate) -> EstimateSummary:
    """Return the estimate as a job's report holds it."""
    return EstimateSummary(
        estimate.expected_bytes, estimate.high_bytes, estimate.reasons, estimate.plan, dict(estimate.phases)
    )


def plan_said(estimate: Estimate) -> str:
    """Return how the work is to be done, with what goes where and the peak of each part, in words."""
    scratch = _scratch_of(estimate)
    how = f"columns {estimate.plan}" + (f", up to {format_bytes(scratch)} on disk" if scratch else "")
    parts = ", ".join(f"{name} {format_bytes(peak)}" for name, peak in estimate.phases.items())
    return f"plan: {how if estimate.plan != LIGHT else 'light'}; {parts}" if parts else "no plan by parts"


def light_mode(admission: Admission, budget_bytes: int, survey: Survey) -> LightMode:
    """Return what is to be told of an admission that leaves something out."""
    whole = admission.whole or admission.estimate
    scratch = _scratch_of(whole)
    if _overflows(whole, survey):
        why = "the folder for temporary files has no room for what does not fit into memory"
        return LightMode(admission.left_out, scratch, survey.scratch_bytes or 0, why)
    return LightMode(
        admission.left_out, whole.high_bytes, budget_bytes, "the budget has no room for all of it"
    )


def tell_light(manager: MemoryManager, told: LightMode) -> None:
    """Publish what is left out, and warn who called the caller; where nothing is, do nothing."""
    if told.left_out:
        manager.announce(told.event())
        warnings.warn(told, stacklevel=3)


def _three_figures(rows: int) -> int:
    unit = int(10 ** max(0, len(str(rows)) - 3))
    return rows // unit * unit
