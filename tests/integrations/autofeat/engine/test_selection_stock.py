"""Selection chooses what autofeat chooses, given that sets keep the same order in both."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("autofeat.featsel", reason="stock autofeat is not installed")

# Both select in one process, since both take their order of sets from its hash seed.
BOTH = """
import json, logging, warnings
import numpy as np, pandas as pd
from sklearn import datasets
warnings.simplefilter("ignore")
from autofeat.featsel import select_features as theirs
from memguard_integrations.autofeat.engine.selection import select_features as ours
logging.disable(logging.INFO)

def powers(frame):
    frame = frame.astype(np.float64)
    extra = {f"{a}*{b}": frame[a] * frame[b] for a in frame for b in frame if a <= b}
    return pd.concat([frame, pd.DataFrame(extra)], axis=1)

def named(values):
    return pd.DataFrame(values, columns=[f"x{i:03}" for i in range(values.shape[1])])

features, target = datasets.load_diabetes(return_X_y=True)
flowers, kinds = datasets.load_iris(return_X_y=True)
curves, heights = datasets.make_friedman1(300, 6, noise=0.5, random_state=0)
wide, sums = datasets.make_regression(40, 60, n_informative=3, noise=1, random_state=0)
sides, of = datasets.make_classification(150, 5, n_informative=3, random_state=2)
cases = {
    "diabetes": (powers(named(features[:, :6])), target, 2, None, "regression"),
    "float32": (powers(named(curves)).astype(np.float32), heights, 1, None, "regression"),
    "keep": (named(curves), heights, 2, ["x005", "nothing"], "regression"),
    "wide": (named(wide), sums, 1, None, "regression"),
    "no runs": (named(curves[:, :3]), heights, 0, None, "regression"),
    "one column": (named(features[:, 2:3]), target, 1, None, "regression"),
    "numbers as names": (pd.DataFrame(curves), heights, 1, None, "regression"),
    "other task": (named(curves), heights, 1, ["x001"], "clustering"),
    "classes": (named(flowers[::2]), kinds[::2], 1, None, "classification"),
    "two classes": (named(sides), np.array(["a", "b"])[of], 1, None, "classification"),
}
found = {}
for case, (frame, values, runs, keep, task) in cases.items():
    np.random.seed(0)
    state = np.random.get_state()[1].tolist()
    mine = [str(name) for name in ours(frame, values, runs, keep, task)]
    untouched = np.random.get_state()[1].tolist() == state
    found[case] = mine, [str(name) for name in theirs(frame, values, runs, keep, task)], untouched
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def choices() -> dict[str, tuple[list[str], list[str], bool]]:
    """Of every case: our choice, autofeat's, and whether ours left numpy's global random state alone."""
    # With several threads some BLAS sum in another order than with one, and autofeat's own choice changes with their
    # number: alike are both only where each product is summed alike.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BOTH], env=environment, capture_output=True, text=True, check=True, timeout=170
    )
    found: dict[str, tuple[list[str], list[str], bool]] = json.loads(done.stdout.splitlines()[-1])
    return found


CASES = (
    "diabetes",
    "float32",
    "keep",
    "wide",
    "no runs",
    "one column",
    "numbers as names",
    "other task",
    "classes",
    "two classes",
)


@pytest.mark.parametrize("case", CASES)
def test_the_same_columns_are_chosen_in_the_same_order(
    choices: dict[str, tuple[list[str], list[str], bool]], case: str
) -> None:
    """Our list is autofeat's list."""
    ours, theirs, _ = choices[case]
    assert ours == theirs


def test_the_cases_choose_something(choices: dict[str, tuple[list[str], list[str], bool]]) -> None:
    """Most cases have some columns in and some out; a comparison of empty lists would prove nothing."""
    assert sum(bool(ours) for ours, _, _ in choices.values()) >= 8
    assert len(choices["diabetes"][0]) < 27


def test_the_global_random_state_is_left_alone(
    choices: dict[str, tuple[list[str], list[str], bool]],
) -> None:
    """A program's own draws do not depend on whether it selected features."""
    assert all(untouched for _, _, untouched in choices.values())
