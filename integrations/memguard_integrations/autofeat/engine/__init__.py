"""The AutoFeat engine: autofeat 2.1.3's features from code of its own, in a part of the memory and the time.

Comes in: a frame and a target. Goes out: the columns, names and formulas that autofeat gives, and estimators that take
autofeat's arguments. This room imports nothing of autofeat, guards no job, is told how much memory it may have, and
loads nothing until a name is asked for, for numpy, pandas, scikit-learn, sympy and numba take their time. Read
``estimators/model.py`` first, then ``columns.py``, ``expansion`` for how columns are made and ``selection`` for how
they are chosen.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from memguard_integrations.autofeat.engine.estimators.light import AutoFeatLight
    from memguard_integrations.autofeat.engine.estimators.model import AutoFeatModel
    from memguard_integrations.autofeat.engine.estimators.models import AutoFeatClassifier, AutoFeatRegressor
    from memguard_integrations.autofeat.engine.estimators.selector import FeatureSelector
    from memguard_integrations.autofeat.engine.estimators.surprises import NonFiniteFeatures
    from memguard_integrations.autofeat.engine.expansion import engineer_features
    from memguard_integrations.autofeat.engine.planning.told import LightMode
    from memguard_integrations.autofeat.engine.selection import select_features

__all__ = [
    "AutoFeatClassifier",
    "AutoFeatLight",
    "AutoFeatModel",
    "AutoFeatRegressor",
    "FeatureSelector",
    "LightMode",
    "NonFiniteFeatures",
    "engineer_features",
    "select_features",
]

_HOMES: Final = {
    "AutoFeatClassifier": "estimators.models",
    "AutoFeatLight": "estimators.light",
    "AutoFeatModel": "estimators.model",
    "AutoFeatRegressor": "estimators.models",
    "FeatureSelector": "estimators.selector",
    "LightMode": "planning.told",
    "NonFiniteFeatures": "estimators.surprises",
    "engineer_features": "expansion",
    "select_features": "selection",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
