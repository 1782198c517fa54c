"""Stock autofeat inside a worker: the same as outside, and the same each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("autofeat.feateng", reason="stock autofeat is not installed")

# Fits stock autofeat as the worker does, and prints what it selected.
OURS = """
import json
from sklearn.datasets import load_diabetes
from memguard_integrations.autofeat.jobs import fit_frame, survey_frame
from memguard_integrations.autofeat.records import FitSettings, Task
data = load_diabetes(as_frame=True, scaled=False)
features, target = data.data[["bmi", "bp", "s5"]], data.target
settings = FitSettings(Task.REGRESSION, steps=2, selection_runs=2)
fitted = fit_frame(features, target, survey_frame(features, target, settings), settings)
print(json.dumps([fitted.attributes["good_cols_"], fitted.attributes["intercept_"]]))
"""
# The same without anything of memguard.
THEIRS = """
import json
from autofeat import AutoFeatRegressor
from sklearn.datasets import load_diabetes
data = load_diabetes(as_frame=True, scaled=False)
model = AutoFeatRegressor(feateng_steps=2, featsel_runs=2)
model.fit(data.data[["bmi", "bp", "s5"]], data.target)
print(json.dumps([[str(name) for name in model.good_cols_], model.prediction_model_.intercept_]))
"""


def result_of(program: str, hash_seed: str) -> Any:
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    return json.loads(shown.stdout.splitlines()[-1])


def test_the_same_seed_gives_the_same_features_whatever_the_hash_seed() -> None:
    """AutoFeat walks through sets of texts, whose order changes from process to process; the features must not."""
    assert result_of(OURS, "1") == result_of(OURS, "2")


def test_autofeat_computes_what_it_computes_alone() -> None:
    """Phases, progress and ordered sets around it do not change what autofeat can select: plain columns, same kind."""
    ours, theirs = result_of(OURS, "0"), result_of(THEIRS, "0")
    # Which of nearly equal columns is kept depends on the order of autofeat's sets, so not every name is the same.
    assert set(ours[0]) & set(theirs[0])
