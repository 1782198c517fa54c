"""Which AutoFeat jobs are alike: the same step with the same engine and task; by what they differ before they run.

Comes in: what is known of a table, of a model, of settings. Goes out: a `Likeness`. Sizes, counts and settings only, no
value of any data; no numpy or pandas is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from memguard.estimate import Relief
from memguard.estimate.likeness import Likeness
from memguard.forecasting import sizes_of, world_of_libraries
from memguard_integrations.autofeat.records import ColumnKind, FitSettings, FittedModel, Survey

__all__ = ["BOUND", "likeness_of_fit", "likeness_of_survey", "likeness_of_use"]

# The name of the feature with a job's bound.
BOUND: Final = "budget_bytes"


def likeness_of_survey(data: Sequence[Any], settings: FitSettings, budget_bytes: int) -> Likeness:
    """Return what tells a survey from others.

    Args:
        data: a file's path, or features and target.
        settings: for AutoFeat.
        budget_bytes: the job's bound, by which the pilot chooses its rows.
    """
    return _alike("survey", settings, {**sizes_of(data), **_asked(settings, budget_bytes)})


def likeness_of_fit(survey: Survey, settings: FitSettings, fit_rows: int, budget_bytes: int) -> Likeness:
    """Return what tells a fit from others.

    Args:
        survey: of its table, with the columns that a pilot counted.
        settings: for AutoFeat, with what is to be left out.
        fit_rows: rows to fit on.
        budget_bytes: the job's bound, which its plan follows.
    """
    # No more than sixteen features count, among them the estimate and a user's own figure.
    relief = settings.relief
    kinds = [kind for _, kind in survey.plan.kinds]
    features = {
        **_asked(settings, budget_bytes),
        "rows": fit_rows,
        "table_rows": survey.facts.rows,
        "columns": len(survey.plan.columns),
        "number_columns": kinds.count(ColumnKind.NUMBER),
        "text_columns": kinds.count(ColumnKind.TEXT),
        "generated_columns": survey.counts.generated,
        "kept_columns": survey.counts.kept,
    }
    features |= {"select_rows": 0, "most_columns": 0} if relief is None else _left(relief)
    return _alike("fit", settings, features)


def likeness_of_use(
    step: str, data: Sequence[Any], fitted: FittedModel, settings: FitSettings, batch_rows: int | None
) -> Likeness:
    """Return what tells from others a transformation, a prediction or a score.

    Args:
        step: which of them.
        data: what it is done to.
        fitted: the model.
        settings: it was fitted with.
        batch_rows: rows worked on at once; ``None`` where that follows from the columns.
    """
    features = {
        **sizes_of(data),
        "batch_rows": batch_rows or 0,
        "features_out": len(fitted.attributes.get("all_columns_", ())),
        "encoded_columns": len(fitted.plan.columns),
        "model_bytes": len(fitted.pickled),
    }
    return _alike(step, settings, features)


def _left(relief: Relief) -> dict[str, float]:
    return {
        "steps": relief.steps,
        "transformations": len(relief.transformations),
        "select_rows": relief.select_rows,
        "most_columns": relief.most_columns,
    }


def _alike(step: str, settings: FitSettings, features: dict[str, Any]) -> Likeness:
    told = {name: float(value) for name, value in features.items()}
    return Likeness(f"autofeat {step} {settings.engine} {settings.task}", told, world_of_libraries())


def _asked(settings: FitSettings, budget_bytes: int) -> dict[str, float]:
    return {
        "steps": settings.steps,
        "transformations": len(settings.transformations),
        "selection_runs": settings.selection_runs,
        "jobs": settings.jobs,
        BOUND: budget_bytes,
    }
