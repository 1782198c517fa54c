"""AutoFeatProcessor where scikit-learn takes an estimator, with scikit-learn itself.

That a pipeline of it is cross-validated is shown by docs/autofeat.md, whose programs are run by a test too.
"""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError as NotFitted
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from memguard.errors import DataError
from memguard.manager import MemoryManager

pytest.importorskip("autofeat", reason="stock autofeat is not installed")

from memguard.integrations.autofeat import AutoFeatProcessor, NotFittedError

Data = tuple[pd.DataFrame, pd.Series]


@pytest.fixture
def processor(manager: MemoryManager) -> AutoFeatProcessor:
    """One step, one run."""
    return AutoFeatProcessor(steps=1, featsel_runs=1, manager=manager, memory="1GiB", name="steps")


def test_parameters_are_the_arguments_as_they_were_given(manager: MemoryManager) -> None:
    """Every argument can be read back under its name, the very object that was given."""
    names = ["log", "^2"]
    processor = AutoFeatProcessor("classification", transformations=names, manager=manager, memory="1GiB")
    parameters = processor.get_params()
    assert parameters["transformations"] is names is processor.transformations
    assert parameters["manager"] is manager
    assert (parameters["task"], parameters["memory"], parameters["seed"]) == ("classification", "1GiB", 0)
    assert type(processor)(**parameters).get_params() == parameters


def test_parameters_are_changed_together_or_not_at_all(processor: AutoFeatProcessor) -> None:
    """A refused value or an unknown name leaves every parameter as it was."""
    assert processor.set_params(steps=np.int64(2), missing="median") is processor
    assert (processor.settings.steps, processor.settings.missing) == (2, "median")
    before = processor.get_params()
    with pytest.raises(DataError, match="jobs: 0 is too few"):
        processor.set_params(steps=3, jobs=0)
    with pytest.raises(DataError, match=r"has no parameter 'step'; did you mean 'steps'\?"):
        processor.set_params(seed=3, step=3)
    assert processor.get_params() == before


def test_a_clone_has_the_parameters_and_no_fit(fitted: AutoFeatProcessor) -> None:
    """scikit-learn's clone shares the manager and is not fitted; the original still is."""
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params()
    with pytest.raises(NotFitted):
        check_is_fitted(copied)
    with pytest.raises(NotFittedError):
        copied.predict([[1]])
    check_is_fitted(fitted)


def test_it_says_what_it_predicts() -> None:
    """scikit-learn takes it for a classifier or a regressor by its task, in a pipeline too."""
    numbers, classes = AutoFeatProcessor(), AutoFeatProcessor("classification")
    assert is_regressor(numbers)
    assert not is_classifier(numbers)
    assert is_classifier(classes)
    assert is_classifier(make_pipeline(StandardScaler(), classes))


def test_a_fitted_one_is_the_last_step_of_a_pipeline(fitted: AutoFeatProcessor, patients: Data) -> None:
    """A pipeline predicts and scores with it as it does by itself."""
    pipeline = Pipeline([("features", fitted)])
    check_is_fitted(pipeline)
    known = patients[0].drop(index=1003)
    assert np.array_equal(pipeline.predict(known), fitted.predict(known), equal_nan=True)


def test_own_workers_end_with_the_processor() -> None:
    """A processor that nobody closed, as scikit-learn's clones are, ends its own manager when it is gone."""
    processor: Any = AutoFeatProcessor(memory="256MiB")
    manager = processor._manager()
    assert processor._manager() is manager
    processor.memory = "300MiB"
    changed = processor._manager()
    assert (changed is manager, changed.budget.limit_bytes) == (False, 300 * 2**20)
    del processor
    gc.collect()
    for ended in (manager, changed):
        with pytest.raises(RuntimeError, match="closed"):
            ended.run(int)


def test_a_copy_has_workers_of_its_own(fitted: AutoFeatProcessor) -> None:
    """Copying a processor copies its model and starts nothing."""
    copied = copy.copy(fitted)
    assert copied.formulas_ == fitted.formulas_
    assert copied.manager is None


def test_scikit_learn_is_not_imported_for_it() -> None:
    """Parameters and clones are had without scikit-learn."""
    program = (
        "import sys\n"
        "from memguard.integrations.autofeat import AutoFeatProcessor\n"
        "AutoFeatProcessor(**AutoFeatProcessor().get_params()).set_params(steps=1)\n"
        "print('sklearn' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
