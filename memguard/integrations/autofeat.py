"""The door to AutoFeat: `memguard_integrations.autofeat`, or the extra that a name needs.

Comes in: a name. Goes out: the estimators of the engine, and what runs them, or stock autofeat, under guard. Nothing of
what they need is loaded by importing the door.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from memguard.errors import MissingExtra

if TYPE_CHECKING:
    from memguard_integrations.autofeat import (
        AutoFeatClassifier,
        AutoFeatLight,
        AutoFeatModel,
        AutoFeatProcessor,
        AutoFeatRegressor,
        Engine,
        FeatureSelector,
        FitRefused,
        FitSettings,
        FittedModel,
        Formula,
        Light,
        LightMode,
        MissingPolicy,
        NonFiniteFeatures,
        NotFittedError,
        Scores,
        Survey,
        TableRequest,
        TableResult,
        TableRun,
        Task,
        engineer_features,
        process_table,
        select_features,
    )

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


def _missing(*names: str) -> str:
    """Return which of some modules are not installed, as words; looked for and not imported."""
    return " and ".join(name for name in names if find_spec(name) is None)


if _lacking := _missing("numpy", "pandas", "sklearn", "sympy", "numba"):
    raise MissingExtra(
        f"AutoFeat needs {_lacking}: pip install 'automl-memguard[autofeat]'", extra="autofeat"
    )

# After the check that gives a better message.
from memguard_integrations import autofeat as _behind  # noqa: E402

_ENGINE: Final = frozenset(_behind.engine.__all__)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _ENGINE and (lacking := _missing("pyarrow")):
        raise MissingExtra(
            f"AutoFeat over tables needs {lacking}: pip install 'automl-memguard[autofeat]'", extra="autofeat"
        )
    return getattr(_behind, name)
