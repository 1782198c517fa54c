"""AutoFeatProcessor on real data: fit once, transform in batches, in guarded workers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine

from memguard.errors import DataError, MemoryLimitExceeded, SizeSyntaxError
from memguard.manager import MemoryManager
from memguard.report import Outcome
from memguard.units import MIB

pytest.importorskip("memguard.integrations.autofeat", reason="stock autofeat is not installed")

from memguard.integrations.autofeat import AutoFeatProcessor, FitRefused, NotFittedError
from memguard_integrations.autofeat.words import for_command_line

Data = tuple[pd.DataFrame, pd.Series]


@pytest.fixture(scope="module")
def transformed(fitted: AutoFeatProcessor, patients: Data) -> pd.DataFrame:
    """All patients transformed in one batch."""
    return fitted.transform(patients[0])


@pytest.mark.requirement("T2.2")
def test_rows_keep_their_order_and_index(transformed: pd.DataFrame, patients: Data) -> None:
    """The result has the rows of the input in their order, with its index, its name, and the values it had."""
    frame, _ = patients
    pd.testing.assert_index_equal(transformed.index, frame.index)
    for name, source in (("bmi", "bmi"), ("s5", "s5"), ("s1_tc", "s1 (tc)")):
        assert np.array_equal(transformed[name], frame[source], equal_nan=True)


def test_engineered_columns_are_what_their_formulas_say(
    fitted: AutoFeatProcessor, transformed: pd.DataFrame
) -> None:
    """Each engineered column equals its formula, evaluated by numpy from the columns beside it."""
    assert fitted.new_feat_cols_
    functions = {"exp": np.exp, "log": np.log, "sqrt": np.sqrt, "Abs": np.abs}
    names = functions | {name: transformed[name].to_numpy() for name in fitted.feateng_cols_}
    for name in fitted.new_feat_cols_:
        expected = eval(fitted.feature_formulas_[name], {"__builtins__": {}}, names)
        assert np.allclose(transformed[name], expected, equal_nan=True)


@pytest.mark.requirement("R3.4")
@pytest.mark.parametrize("batch_rows", [1, 100, 1000])
def test_batches_of_any_size_give_the_same(
    fitted: AutoFeatProcessor, patients: Data, transformed: pd.DataFrame, batch_rows: int
) -> None:
    """The result is the same to the last bit however the rows are cut."""
    rows = slice(None) if batch_rows > 1 else slice(0, 40)
    again = fitted.transform(patients[0].iloc[rows], batch_rows=batch_rows)
    pd.testing.assert_frame_equal(again, transformed.iloc[rows], check_exact=True)


def test_a_batch_without_a_category_has_the_same_columns(
    fitted: AutoFeatProcessor, patients: Data, transformed: pd.DataFrame
) -> None:
    """Rows of one sex only get the columns of both; autofeat's own encoder would give others."""
    frame, _ = patients
    women = frame[frame["sex"] == "f"]
    pd.testing.assert_frame_equal(fitted.transform(women), transformed.loc[women.index], check_exact=True)


def test_a_row_with_a_gap_is_kept_and_empty(
    fitted: AutoFeatProcessor, patients: Data, transformed: pd.DataFrame
) -> None:
    """A row with a missing value was not fitted on, stays in its place, and says so in the warnings."""
    assert fitted.n_rows_ == 441
    assert np.isnan(transformed.loc[1003, "bmi"])
    assert any("1 row of 442 with missing values" in warning for warning in fitted.warnings)
    predicted = fitted.predict(patients[0])
    needed = transformed[fitted.good_cols_].notna().all(axis=1)
    assert np.array_equal(np.isfinite(predicted), needed)


def test_the_score_is_that_of_the_predictions(fitted: AutoFeatProcessor, patients: Data) -> None:
    """R2 equals the textbook formula over the rows that can be predicted, and the model has learned something."""
    frame, target = patients
    predicted = fitted.predict(frame)
    known = np.isfinite(predicted)
    left = target[known] - predicted[known]
    expected = 1 - (left**2).sum() / ((target[known] - target[known].mean()) ** 2).sum()
    assert fitted.score(frame, target) == pytest.approx(expected)
    assert expected > 0.4


def test_columns_may_come_in_any_order_with_others_beside_them(
    fitted: AutoFeatProcessor, patients: Data, transformed: pd.DataFrame
) -> None:
    """Columns are found by their names."""
    shuffled = patients[0].iloc[:, ::-1].assign(more=1)
    pd.testing.assert_frame_equal(fitted.transform(shuffled), transformed, check_exact=True)


def test_a_missing_column_is_named(fitted: AutoFeatProcessor, patients: Data) -> None:
    """A column of the fit that is not there is refused with the nearest name."""
    with pytest.raises(
        DataError, match=r"no column 'bmi', which the model was fitted on; did you mean 'bmj'\?"
    ):
        fitted.transform(patients[0].rename(columns={"bmi": "bmj"}))


def test_no_rows_give_no_rows(fitted: AutoFeatProcessor, patients: Data, transformed: pd.DataFrame) -> None:
    """An empty frame comes back empty, with all columns."""
    empty = fitted.transform(patients[0].iloc[:0])
    assert empty.shape == (0, transformed.shape[1])
    assert list(empty.columns) == list(transformed.columns)


def test_an_unseen_category_is_reported(fitted: AutoFeatProcessor, patients: Data) -> None:
    """A category that the fit has not seen is no error and no secret: the step's report warns of it."""
    fitted.transform(patients[0].iloc[:20].assign(sex="x"))
    assert "20 values of 'sex' were not seen in the fit" in fitted.reports[-1].warnings[-1].text


@pytest.mark.requirement("R5.4")
def test_each_step_has_a_report(fitted: AutoFeatProcessor) -> None:
    """Survey and fit each left a report with phases and a peak inside the budget; the fit's has the estimate."""
    survey, fit = fitted.reports[:2]
    assert [phase.name for phase in survey.phases] == ["read", "prepare", "pilot"]
    assert [phase.name for phase in fit.phases] == ["prepare", "expand", "select", "fit"]
    assert fit.outcome is Outcome.COMPLETED
    assert 0 < fit.peak_bytes <= fit.budget.limit_bytes
    assert fitted.estimate is not None
    assert fit.estimate is not None
    assert fit.estimate.high_bytes == fitted.estimate.high_bytes
    assert fit.peak_bytes <= fitted.estimate.high_bytes


def test_the_caller_never_imports_autofeat(fitted: AutoFeatProcessor) -> None:
    """All this was done without autofeat, sympy or numba in this process; importing the door loads not even pandas."""
    assert fitted.n_rows_
    program = (
        "import sys, memguard.integrations.autofeat\n"
        "heavy = {'autofeat', 'numba', 'numpy', 'pandas', 'pyarrow', 'sklearn', 'sympy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_a_fitted_processor_travels(
    fitted: AutoFeatProcessor, patients: Data, manager: MemoryManager
) -> None:
    """It pickles with its model and without its manager, and works elsewhere."""
    copy = pickle.loads(pickle.dumps(fitted))
    assert copy.feature_formulas_ == fitted.feature_formulas_
    copy._given_manager = manager
    few = patients[0].iloc[:10]
    pd.testing.assert_frame_equal(copy.transform(few), fitted.transform(few), check_exact=True)


def test_classes_come_back_as_they_were(manager: MemoryManager) -> None:
    """Classes given as texts are predicted as texts, in one order for predictions and probabilities."""
    wine = load_wine(as_frame=True)
    features = wine.data[["flavanoids", "color_intensity"]].to_numpy()
    target = wine.target.map({0: "barolo", 1: "grignolino", 2: "barbera"})
    processor = AutoFeatProcessor("classification", steps=1, featsel_runs=1, manager=manager, memory="1GiB")
    predicted = processor.fit(features, target).predict(features)
    assert set(predicted) <= set(target) == set(processor.classes_)
    share = processor.score(features, target)
    assert share == pytest.approx((predicted == target).mean())
    assert share > 0.7
    probabilities = processor.predict_proba(features)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert (np.array(processor.classes_)[probabilities.argmax(axis=1)] == predicted).mean() > 0.95
    features[0] = np.nan
    with pytest.raises(DataError, match="1 rows lack a value"):
        processor.predict(features)
    # A class that the model has not seen is a miss, not a row that does not count.
    assert processor.score(features[1:], ["other"] * (len(features) - 1)) == 0.0


def test_a_fit_beyond_its_budget_is_refused_before_it_starts(patients: Data, manager: MemoryManager) -> None:
    """What the estimate says cannot fit does not run: one report, of the survey, and remedies in Python."""
    processor = AutoFeatProcessor(steps=3, featsel_runs=1, manager=manager, memory="150MiB")
    with pytest.raises(FitRefused, match=r"the budget is 150 MiB .*memory=\"") as caught:
        processor.fit(*patients)
    assert [report.name for report in processor.reports] == ["autofeat-survey"]
    assert caught.value.requested_bytes > 150 * MIB
    with pytest.raises(NotFittedError):
        processor.transform(patients[0])


@pytest.mark.requirement("R1.4")
def test_a_step_that_outgrows_its_budget_leaves_the_model_usable(
    fitted: AutoFeatProcessor, patients: Data
) -> None:
    """A transform that is killed for its budget raises a MemoryError with its report; the next step works."""
    # A budget in which a worker starts but half a million rows of results do not fit.
    many = pd.concat([patients[0]] * 1200, ignore_index=True)
    fitted._memory, before = "96MiB", fitted._memory
    try:
        with pytest.raises(MemoryLimitExceeded) as caught:
            fitted.transform(many)
    finally:
        fitted._memory = before
    assert isinstance(caught.value, MemoryError)
    assert caught.value.report is not None
    assert fitted.reports[-1].outcome.is_memory_death
    # The same report as the command writes it: what to do next is a flag.
    advice = for_command_line(caught.value.report).recommendations
    assert any("--memory" in each for each in advice)
    assert any("--fit-rows" in each for each in advice)
    assert not any('memory="' in each or "job.batches" in each for each in advice)
    assert len(fitted.transform(patients[0].iloc[:5])) == 5


def test_before_a_fit_everything_says_so() -> None:
    """Methods and fitted attributes say that a fit is needed, as scikit-learn's do; other names are unknown."""
    processor = AutoFeatProcessor()
    for ask in (
        lambda: processor.transform([[1]]),
        lambda: processor.good_cols_,
        lambda: processor.formulas_,
    ):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            ask()
    assert not hasattr(processor, "nothing")
    assert not hasattr(processor, "feature_formulas_")
    assert repr(processor) == "AutoFeatProcessor('regression', steps=2, not fitted)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "clustering"}, "task: 'clustering' is none of 'regression', 'classification'"),
        ({"missing": "mean"}, "missing: 'mean' is none of 'skip', 'median', 'error'"),
        ({"steps": 0}, "steps: 0 is too few"),
        ({"jobs": 0}, "jobs: 0 is too few"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    """A wrong argument is refused at once, with the choices."""
    with pytest.raises(DataError, match=message):
        AutoFeatProcessor(**arguments)


@pytest.mark.parametrize(
    ("features", "target", "message"),
    [
        (np.zeros(20), np.arange(20), r"X: has the shape \(20,\)"),
        (np.zeros((20, 2)), np.arange(19), "y: has 19 values; give one for each of 20 rows"),
        (np.zeros((20, 2)), np.zeros((20, 2)), r"y: has the shape \(20, 2\)"),
        (np.random.default_rng(0).normal(size=(5, 2)), np.arange(5), "X: has 5 rows"),
        (np.ones((20, 2)), np.arange(20), "no column is left to learn from"),
    ],
)
def test_data_of_another_shape_is_refused(
    manager: MemoryManager, features: Any, target: Any, message: str
) -> None:
    """Shapes, lengths and too few rows are refused by the worker before anything is fitted."""
    with pytest.raises(DataError, match=message):
        AutoFeatProcessor(steps=1, featsel_runs=1, manager=manager).fit(features, target)


def test_a_size_that_is_none_is_refused(patients: Data) -> None:
    """A budget that cannot be read is refused when it is needed, and names the forms."""
    with (
        pytest.raises(SizeSyntaxError, match="4 bananas"),
        AutoFeatProcessor(memory="4 bananas") as processor,
    ):
        processor.fit(*patients)


@pytest.mark.requirement("R2.4")
def test_selection_in_two_processes(patients: Data, manager: MemoryManager) -> None:
    """Two processes select inside the one budget, and are gone with their shared memory before the result is used."""
    frame, target = patients
    processor = AutoFeatProcessor(steps=1, featsel_runs=2, jobs=2, manager=manager, memory="1500MiB")
    processor.fit(frame[["bmi", "s5"]], target)
    report = processor.reports[-1]
    assert len(report.processes) > 1
    assert report.cleanup.verified
    assert report.cleanup.leftovers == ()
    assert processor.good_cols_
