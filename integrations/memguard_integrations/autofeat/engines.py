"""Which code fits: this project's engine, or autofeat's own. Imports inside, for each takes its seconds.

Runs inside the worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memguard_integrations.autofeat.records import Engine, FeaturePlan, FitSettings, FittedModel

if TYPE_CHECKING:
    import pandas as pd

    from memguard_integrations.autofeat.encode import Matrix
    from memguard_integrations.autofeat.progress import Progress

__all__ = ["count_columns", "fit"]


def fit(
    features: Matrix, target: Matrix, plan: FeaturePlan, settings: FitSettings, progress: Progress
) -> tuple[FittedModel, Any, pd.DataFrame]:
    """Fit with the engine that the settings name; see `memguard_integrations.autofeat.engine_fit.fit`."""
    return _of(settings).fit(features, target, plan, settings, progress)  # type: ignore[no-any-return]


def count_columns(
    features: Matrix, plan: FeaturePlan, settings: FitSettings, progress: Progress
) -> tuple[int, int]:
    """Expand a few rows; returns how many columns were made, start columns included, and how many are kept."""
    return _of(settings).count_columns(features, plan, settings, progress)  # type: ignore[no-any-return]


def _of(settings: FitSettings) -> Any:
    if settings.engine is Engine.STOCK:
        from memguard_integrations.autofeat import stock  # noqa: PLC0415

        return stock
    from memguard_integrations.autofeat import engine_fit  # noqa: PLC0415

    return engine_fit
