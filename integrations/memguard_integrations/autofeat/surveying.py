"""Before the fit: which columns, which rows, and a pilot that counts the columns AutoFeat makes of them.

Runs inside the worker. A `Source` comes in, a `Survey` goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from memguard.errors import DataError
from memguard.estimate import (
    AutoFeatCounts,
    AutoFeatRequest,
    bound_counts,
    estimate_autofeat,
    estimate_engine,
)
from memguard_integrations.autofeat.checks import check_usable_rows, make_plan
from memguard_integrations.autofeat.encode import (
    Mask,
    Matrix,
    RowNumbers,
    collect,
    drop_constant,
    fill,
    medians,
    sample_rows,
    usable_rows,
)
from memguard_integrations.autofeat.engine.scratch import scratch_free_bytes
from memguard_integrations.autofeat.names import require_known
from memguard_integrations.autofeat.progress import Progress
from memguard_integrations.autofeat.records import (
    Engine,
    FeaturePlan,
    FitSettings,
    MissingPolicy,
    Survey,
    TableFacts,
)
from memguard_integrations.autofeat.sources import Source
from memguard_integrations.autofeat.survey import survey

__all__ = ["Prepared", "prepare", "survey_source"]

# A thousand rows show nearly every column that more rows would: which transformations are possible depends on
# the range of values, and a rare value that forbids one only makes the job smaller.
_PILOT_ROWS: Final = 1_000
_FEWEST_PILOT_ROWS: Final = 200
# The pilot may use this share of the budget by its own, pessimistic, estimate.
_PILOT_SHARE: Final = 0.8
# About a third of a millisecond each: a minute. Beyond that the bound has to do.
_MOST_PILOT_COLUMNS: Final = 200_000


def survey_source(
    source: Source,
    target: str,
    columns: Sequence[str] | None,
    settings: FitSettings,
) -> Survey:
    """Survey a table.

    Args:
        source: the table.
        target: the target's column.
        columns: feature columns, ``None`` for all others.
        settings: for AutoFeat.

    Raises:
        DataError: for unknown columns and everything `make_plan` refuses.
    """
    progress = Progress()
    progress.phase("read")
    features = _feature_columns(source, target, columns)
    facts = survey(source, [*features, target])
    plan = make_plan(facts, target, settings.task, settings.missing, source.wording)
    progress.phase("prepare")
    usable = usable_rows(source, plan)
    said = check_usable_rows(plan, facts, int(usable.sum()), source.wording)
    progress.phase("pilot")
    counts = _count(source, plan, facts, usable, settings=settings, progress=progress)
    free = scratch_free_bytes(None)
    progress.note("scratch_free_bytes", free)
    return Survey(facts, plan, int(usable.sum()), counts, (*plan.warnings, *said), free)


def _feature_columns(source: Source, target: str, columns: Sequence[str] | None) -> tuple[str, ...]:
    require_known([target], source.names, source=source.label, flag="--target")
    if columns is None:
        return tuple(name for name in source.names if name != target)
    require_known(columns, source.names, source=source.label, flag="--columns")
    if target in columns:
        raise DataError(
            f"{target!r} is both the target and one of --columns",
            subject=source.label,
            remedy="take it out of --columns: a model that is told the answer learns nothing",
        )
    return tuple(dict.fromkeys(columns))


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows ready for AutoFeat: encoded, filled, constant columns left out.

    Attributes:
        features: rows x columns, finite.
        target: numbers or class codes.
        plan: of the columns that are left.
        fills: what missing values become, one for each of them; empty unless they are filled.
        warnings: what was left out.
    """

    features: Matrix
    target: Matrix
    plan: FeaturePlan
    fills: tuple[float, ...]
    warnings: tuple[str, ...]


def prepare(source: Source, plan: FeaturePlan, facts: TableFacts, rows: RowNumbers) -> Prepared:
    """Collect and prepare the given rows.

    Raises:
        DataError: if no column varies in them.
    """
    features, target = collect(source, plan, rows)
    fills = medians(features, plan, facts) if plan.missing is MissingPolicy.MEDIAN else ()
    features, left, dropped = drop_constant(fill(features, fills), plan)
    by_name = dict(zip(plan.names, fills, strict=False))
    said = f"left out, constant in the {len(rows):,} rows fitted on: {', '.join(dropped)}"
    kept_fills = tuple(by_name[name] for name in left.names) if fills else ()
    return Prepared(features, target, left, kept_fills, (said,) if dropped else ())


def _count(
    source: Source,
    plan: FeaturePlan,
    facts: TableFacts,
    usable: Mask,
    *,
    settings: FitSettings,
    progress: Progress,
) -> AutoFeatCounts:
    request = AutoFeatRequest(_PILOT_ROWS, len(plan.columns), settings.steps, len(settings.transformations))
    bound = bound_counts(request)
    rows = _pilot_rows(request, bound, int(progress.budget_bytes * _PILOT_SHARE), settings)
    if not rows or bound.generated > _MOST_PILOT_COLUMNS:
        return bound
    sample = prepare(source, plan, facts, sample_rows(usable, rows, settings.seed))
    from memguard_integrations.autofeat.engines import count_columns  # noqa: PLC0415 - seconds of imports

    generated, kept = count_columns(sample.features, sample.plan, settings, progress)
    progress.note("generated_columns", generated)
    progress.note("kept_columns", kept)
    return AutoFeatCounts(max(generated, kept), kept, len(sample.target))


def _pilot_rows(
    request: AutoFeatRequest, bound: AutoFeatCounts, budget_bytes: int, settings: FitSettings
) -> int:
    for rows in (_PILOT_ROWS, _FEWEST_PILOT_ROWS):
        smaller = replace(request, rows=rows)
        if settings.engine is Engine.STOCK:
            estimate = estimate_autofeat(smaller, bound)
        else:
            estimate = estimate_engine(smaller, bound, budget_bytes)
        if estimate.fits(budget_bytes):
            return rows
    return 0
