"""What a fit leaves behind, whichever engine made it: the model as data, and linear models to compare it with.

Runs inside the worker.
"""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from memguard_integrations.autofeat.encode import Matrix
from memguard_integrations.autofeat.linear import RidgeByRows
from memguard_integrations.autofeat.records import FeaturePlan, FittedModel, Formula, Task

__all__ = ["fit_linear", "fitted_model", "open_model", "quiet", "typed"]


def fitted_model(model: Any, plan: FeaturePlan, engineered: pd.DataFrame) -> FittedModel:
    """Return a fitted model as data; ``engineered`` are the rows it was fitted on, with their new columns."""
    spread = {name: float(engineered[name].std()) for name in model.good_cols_}
    return FittedModel(
        pickled=pickle.dumps(model, protocol=5),
        plan=plan,
        fills=(),
        attributes=_attributes(model),
        formulas=_formulas(model, spread),
        rows=len(engineered),
    )


def open_model(fitted: FittedModel) -> Any:
    """Return the model itself; autofeat's own compiles its formulas again at the first transform."""
    return pickle.loads(fitted.pickled)


def fit_linear(features: Matrix, target: Matrix, task: Task) -> Any:
    """Return a linear model on columns scaled to unit variance: what they are worth to a simple learner."""
    if task is Task.REGRESSION:
        return RidgeByRows().fit(features, target)
    with quiet():
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return linear.fit(features, typed(target, task))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what stock autofeat makes numpy, pandas and scikit-learn warn of; the user can change none."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def typed(target: Matrix, task: Task) -> Any:
    """Return a target as a model of its kind takes it."""
    return target if task is Task.REGRESSION else target.astype(np.int64)


def _attributes(model: Any) -> dict[str, Any]:
    return {
        "original_columns_": [str(name) for name in model.original_columns_],
        "all_columns_": [str(name) for name in model.all_columns_],
        "feateng_cols_": [str(name) for name in model.feateng_cols_],
        "new_feat_cols_": [str(name) for name in model.new_feat_cols_],
        "good_cols_": [str(name) for name in model.good_cols_],
        "feature_formulas_": {str(name): str(formula) for name, formula in model.feature_formulas_.items()},
        "intercept_": np.asarray(model.prediction_model_.intercept_, np.float64).tolist(),
        "n_features_in_": int(model.n_features_in_),
    }


def _formulas(model: Any, spread: dict[str, float]) -> tuple[Formula, ...]:
    coefficients = np.atleast_2d(model.prediction_model_.coef_)
    strongest = coefficients[np.argmax(np.abs(coefficients), axis=0), np.arange(coefficients.shape[1])]
    engineered = set(model.new_feat_cols_)
    found = [
        Formula(str(name), name in engineered, float(weight), float(weight) * spread[name])
        for name, weight in zip(model.good_cols_, strongest, strict=True)
    ]
    return tuple(sorted(found, key=lambda formula: -abs(formula.effect)))
