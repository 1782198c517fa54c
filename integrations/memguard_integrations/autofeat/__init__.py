"""AutoFeat under guard, in workers that are held to a budget and end with the job; and an engine of its own.

Comes in: a file, or features and a target in memory, and a memory budget. Goes out: engineered columns,
formulas, scores, and a report of what was used. This package does not change what AutoFeat computes and never
takes fewer rows than asked for without saying so; the caller's process never imports autofeat. Read
processor.py for Python, table_run.py for files; stock.py is where AutoFeat itself is called. engine/ has estimators
that give autofeat's features without it, in the caller's process; they are loaded when one is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from memguard_integrations.autofeat import engine

if TYPE_CHECKING:
    from memguard_integrations.autofeat.admission import FitRefused
    from memguard_integrations.autofeat.engine import (
        AutoFeatClassifier,
        AutoFeatLight,
        AutoFeatModel,
        AutoFeatRegressor,
        FeatureSelector,
        LightMode,
        NonFiniteFeatures,
        engineer_features,
        select_features,
    )
    from memguard_integrations.autofeat.processor import AutoFeatProcessor, NotFittedError
    from memguard_integrations.autofeat.records import (
        Engine,
        FitSettings,
        FittedModel,
        Formula,
        Light,
        MissingPolicy,
        Scores,
        Survey,
        TableResult,
        Task,
    )
    from memguard_integrations.autofeat.table_run import TableRequest, TableRun, process_table

__all__ = [
    "AutoFeatClassifier",
    "AutoFeatLight",
    "AutoFeatModel",
    "AutoFeatProcessor",
    "AutoFeatRegressor",
    "Engine",
    "FeatureSelector",
    "FitRefused",
    "FitSettings",
    "FittedModel",
    "Formula",
    "Light",
    "LightMode",
    "MissingPolicy",
    "NonFiniteFeatures",
    "NotFittedError",
    "Scores",
    "Survey",
    "TableRequest",
    "TableResult",
    "TableRun",
    "Task",
    "engineer_features",
    "process_table",
    "select_features",
]


# Where each name is, so that who fits an estimator does not wait for what guards a job, and the other way round.
_HOMES: Final = {
    "AutoFeatProcessor": "processor",
    "Engine": "records",
    "FitRefused": "admission",
    "FitSettings": "records",
    "FittedModel": "records",
    "Formula": "records",
    "Light": "records",
    "MissingPolicy": "records",
    "NotFittedError": "processor",
    "Scores": "records",
    "Survey": "records",
    "TableRequest": "table_run",
    "TableResult": "records",
    "TableRun": "table_run",
    "Task": "records",
    "process_table": "table_run",
}


def __getattr__(name: str) -> Any:
    if name in engine.__all__:
        return getattr(engine, name)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
