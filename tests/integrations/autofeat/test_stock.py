"""Stock autofeat inside a worker: the same as outside, and the same each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("autofeat.feateng", reason="stock autofeat is not installed")

_DATA = """
import json
from sklearn.datasets import load_diabetes
data = load_diabetes(as_frame=True, scaled=False)
features, target = data.data[["bmi", "s5"]], data.target
"""
# Fits as the worker does, and tells what came out.
OURS = f"""{_DATA}
from memguard_integrations.autofeat.jobs import fit_frame, survey_frame
from memguard_integrations.autofeat.records import FitSettings, Task
settings = FitSettings(Task.REGRESSION, steps=2, selection_runs=1)
model = fit_frame(features, target, survey_frame(features, target, settings), settings).attributes
print(json.dumps([model["good_cols_"], model["intercept_"]]))
"""
# The same without anything of memguard. AutoFeat walks through sets of texts, whose order differs from process to
# process; here they keep their order, since otherwise there would be nothing certain to compare with.
THEIRS = f"""{_DATA}
import autofeat.featsel
class Ordered(list):
    def __init__(self, members=()):
        super().__init__(dict.fromkeys(members))
    def difference(self, others):
        return Ordered(each for each in self if each not in others)
    def update(self, members):
        self.extend(each for each in dict.fromkeys(members) if each not in self)
autofeat.featsel.set = Ordered
model = autofeat.AutoFeatRegressor(feateng_steps=2, featsel_runs=1)
model.fit(features, target)
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


def test_a_fit_is_autofeats_own_and_repeatable() -> None:
    """Phases and progress around it change nothing, and the same data give the same features in every process."""
    ours = result_of(OURS, hash_seed="1")
    assert ours == result_of(THEIRS, hash_seed="2")
    assert ours[0]
