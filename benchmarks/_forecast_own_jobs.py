"""The real jobs that are recorded: estimators and data, drawn by chance; a module that workers can import."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

__all__ = ["PRELOAD", "drawn"]

PRELOAD: Final = (
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.svm",
    "sklearn.cluster",
    "sklearn.decomposition",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.model_selection",
    "memguard_integrations.autofeat.engine",
)
_TRANSFORMATIONS: Final = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3")
Job = tuple[Callable[..., Any], tuple[Any, ...]]


def drawn(chance: random.Random) -> Job:
    """Return a job as chance has it: what to call, and with what."""
    return chance.choice(_DRAWS)(chance)


def _scaled(chance: random.Random, least: float, most: float) -> int:
    """Return a count that is as likely in each of its orders of magnitude."""
    return round(math.exp(chance.uniform(math.log(least), math.log(most))))


def _table(chance: random.Random, rows: int, columns: int) -> tuple[Any, Any]:
    """Return numbers, of single precision now and then, and a target that follows some of them."""
    source = np.random.default_rng(chance.randrange(1 << 30))
    values = source.standard_normal((rows, columns), np.float32)
    if chance.random() < 0.8:
        values = values.astype(np.float64)
    return values, values[:, 0] * 2 + np.sin(values[:, -1]) + 0.5 * source.standard_normal(rows, values.dtype)


def _classes(chance: random.Random, rows: int, columns: int) -> tuple[Any, Any]:
    values, target = _table(chance, rows, columns)
    return values, np.digitize(target, np.quantile(target, [0.5] if chance.random() < 0.7 else [0.3, 0.6]))


def _autofeat(chance: random.Random) -> Job:
    from memguard_integrations.autofeat.engine import AutoFeatRegressor  # noqa: PLC0415 - it loads kernels

    steps = 1 if chance.random() < 0.6 else 2
    frame, target = _shipped(chance) if chance.random() < 0.5 else _made_up(chance, steps)
    columns = chance.randint(2, 10 if steps == 1 else 3)
    few = chance.sample(_TRANSFORMATIONS, chance.randint(2, 7 if steps == 1 else 4))
    model = AutoFeatRegressor(
        feateng_steps=steps,
        featsel_runs=1,
        transformations=tuple(each for each in _TRANSFORMATIONS if each in few),
    )
    return model.fit_transform, (frame.iloc[:, :columns], target)


def _shipped(chance: random.Random) -> tuple[pd.DataFrame, Any]:
    from sklearn import datasets  # noqa: PLC0415 - only who draws it pays for it

    name = chance.choice(("breast_cancer", "diabetes", "digits", "iris", "wine"))
    found = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = found.data.loc[:, found.data.std() > 0]
    rows = chance.randint(len(frame) // 2, len(frame))
    return frame.iloc[:rows], np.asarray(found.target, float)[:rows]


def _made_up(chance: random.Random, steps: int) -> tuple[pd.DataFrame, Any]:
    values, target = _table(chance, _scaled(chance, 500, 20_000 if steps == 1 else 3_000), 10)
    return pd.DataFrame(values, columns=[f"x{number}" for number in range(10)]), target


def _forest(chance: random.Random) -> Job:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor  # noqa: PLC0415

    rows, columns = _scaled(chance, 2_000, 40_000), chance.randint(3, 8)
    trees = max(2, min(40, round(chance.uniform(0.5, 1) * 120_000 / rows)))
    if chance.random() < 0.5:
        depth = chance.choice([None, None, 8, 12])
        model = RandomForestClassifier(trees, max_depth=depth, random_state=0)
        return model.fit, _classes(chance, rows, columns)
    return RandomForestRegressor(trees, max_features=0.5, random_state=0).fit, _table(chance, rows, columns)


def _boosting(chance: random.Random) -> Job:
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415

    data = _table(chance, _scaled(chance, 5_000, 150_000), chance.randint(4, 20))
    model = HistGradientBoostingRegressor(
        max_iter=chance.choice([5, 10]), max_leaf_nodes=chance.choice([15, 31])
    )
    return model.fit, data


def _logistic(chance: random.Random) -> Job:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    data = _classes(chance, _scaled(chance, 5_000, 250_000), chance.randint(5, 50))
    return LogisticRegression(C=chance.choice([0.1, 1.0, 10.0]), max_iter=5).fit, data


def _support_vectors(chance: random.Random) -> Job:
    from sklearn.svm import SVC  # noqa: PLC0415

    data = _classes(chance, _scaled(chance, 500, 4_000), chance.randint(4, 30))
    return SVC(kernel=chance.choice(["rbf", "linear"]), cache_size=chance.choice([200, 400])).fit, data


def _clusters(chance: random.Random) -> Job:
    from sklearn.cluster import KMeans  # noqa: PLC0415

    data = _table(chance, _scaled(chance, 10_000, 800_000), chance.randint(4, 60))
    return KMeans(chance.randint(3, 8), n_init=1, max_iter=2, random_state=0).fit, data[:1]


def _components(chance: random.Random) -> Job:
    from sklearn.decomposition import PCA  # noqa: PLC0415

    columns = chance.randint(10, 80)
    data = _table(chance, _scaled(chance, 5_000, 600_000), columns)
    solver = chance.choice(["auto", "covariance_eigh", "randomized"])
    return PCA(chance.randint(2, columns // 2), svd_solver=solver).fit_transform, data[:1]


def _pipeline(chance: random.Random) -> Job:
    from sklearn.linear_model import Ridge  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler  # noqa: PLC0415

    if chance.random() < 0.5:
        data = _table(chance, _scaled(chance, 20_000, 900_000), chance.randint(10, 60))
        return make_pipeline(StandardScaler(), Ridge(solver="cholesky")).fit, data
    data = _table(chance, _scaled(chance, 5_000, 250_000), chance.randint(4, 24))
    return make_pipeline(PolynomialFeatures(2), Ridge(solver="cholesky")).fit, data


def _grid(chance: random.Random) -> Job:
    from sklearn.linear_model import Ridge  # noqa: PLC0415
    from sklearn.model_selection import GridSearchCV  # noqa: PLC0415

    search = GridSearchCV(
        Ridge(solver="cholesky"), {"alpha": [0.1, 1.0, 10.0]}, cv=chance.choice([2, 3, 5]), n_jobs=1
    )
    return search.fit, _table(chance, _scaled(chance, 10_000, 500_000), chance.randint(5, 60))


# AutoFeat and forests of which there are more sorts come more often.
_DRAWS: Final = (
    *[_autofeat] * 3,
    *[_forest] * 2,
    _boosting,
    _logistic,
    _support_vectors,
    _clusters,
    _components,
    *[_pipeline] * 3,
    *[_grid] * 2,
)
