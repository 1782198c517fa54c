"""Write down what autofeat makes of some tables, or what the engine makes of them, in the same form.

    PYTHONHASHSEED=0 python -m tools.record_autofeat stock > tests/integrations/autofeat/engine/recorded.json

The engine is compared with that file where autofeat itself cannot be installed (`make test-modern`). The tables come
from numpy's legacy generator, whose streams do not change between versions. Values are written as they are: a hash
of the float32 columns, and some numbers in hexadecimal.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd

_ALL = ("1/", "exp", "log", "abs", "sqrt", "^2", "^3", "1+", "1-", "sin", "cos", "exp-", "2^")
_ROWS = 150


def _source(name: str) -> Any:
    if name == "stock":
        import autofeat  # noqa: PLC0415 - only one of the two is there in each environment
        from autofeat.feateng import engineer_features  # noqa: PLC0415

        autofeat.engineer_features = engineer_features
        return autofeat
    from memguard_integrations.autofeat import engine  # noqa: PLC0415

    return engine


def tables() -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Return a table of 150 rows and a target for each problem type."""
    draw = np.random.RandomState(4)
    frame = pd.DataFrame(
        {
            "length": draw.uniform(0.2, 3.0, _ROWS),
            "x 2": draw.normal(size=_ROWS),
            "3rd": draw.randint(1, 9, _ROWS).astype(float),
        }
    )
    value = 3 * frame["length"] ** 2 + frame["x 2"] * frame["length"] - np.log(frame["3rd"])
    value += 0.05 * draw.normal(size=_ROWS)
    return frame, {"regression": value, "classification": (value > value.median()).astype(int)}


def _expansion(
    source: Any, frame: pd.DataFrame, steps: int, transformations: tuple[str, ...]
) -> dict[str, Any]:
    columns, formulas = source.engineer_features(frame, None, None, steps, transformations)
    values = np.ascontiguousarray(columns.to_numpy(dtype=np.float32).T)
    return {
        "names": list(columns.columns),
        "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
        "formulas": len(formulas),
    }


def _fit(model: Any, frame: pd.DataFrame, target: pd.Series) -> dict[str, Any]:
    made = model.fit_transform(frame, target)
    return {
        "columns": list(made.columns),
        "good": sorted(model.good_cols_),
        "formulas": {name: str(formula) for name, formula in model.feature_formulas_.items()},
        "values": [[float(value).hex() for value in row] for row in made.to_numpy(dtype=float)[:3]],
        "predictions": [float(value).hex() for value in model.predict(frame)[:5]],
        "score": float(model.score(frame, target)),
    }


def _light(model: Any, frame: pd.DataFrame) -> dict[str, Any]:
    made = model.fit_transform(frame)
    return {
        "columns": list(made.columns),
        "values": [[float(value).hex() for value in row] for row in made.to_numpy(dtype=float)[:3]],
    }


def record(name: str) -> dict[str, Any]:
    """Return what ``stock`` or ``engine`` makes of the tables."""
    source = _source(name)
    frame, targets = tables()
    with_category = frame.assign(kind=np.where(frame["3rd"] > 4, "high", "low"))
    regress, classify = source.AutoFeatRegressor, source.AutoFeatClassifier
    return {
        "expansion": [
            _expansion(source, frame, 1, _ALL),
            _expansion(source, frame, 2, _ALL[:7]),
            _expansion(source, frame[["length", "x 2"]], 3, _ALL[:5]),
        ],
        "regression": _fit(regress(featsel_runs=1), frame, targets["regression"]),
        "categories": _fit(
            regress(["kind"], feateng_steps=1, featsel_runs=1), with_category, targets["regression"]
        ),
        "everything": _fit(regress(feateng_steps=1, featsel_runs=0), frame, targets["regression"]),
        "classification": _fit(classify(feateng_steps=1, featsel_runs=1), frame, targets["classification"]),
        "light": _light(source.AutoFeatLight(), frame),
        "light scaled": _light(source.AutoFeatLight(power_transform=True), frame),
    }


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0" or sys.argv[1:] not in (["stock"], ["engine"]):
        raise SystemExit("run as: PYTHONHASHSEED=0 python -m tools.record_autofeat stock|engine")
    warnings.simplefilter("ignore")
    logging.disable()
    json.dump(record(sys.argv[1]), sys.stdout, indent=1)
    sys.stdout.write("\n")
