"""AutoFeatProcessor on real data: fit once, transform in batches, in guarded workers."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine
from sklearn.metrics import get_scorer

from memguard.errors import (
    CapacityExceeded,
    DataError,
    DurationSyntaxError,
    MemoryLimitExceeded,
    SizeSyntaxError,
)
from memguard.events import Event
from memguard.manager import MemoryManager
from memguard.report import Outcome
from memguard.units import MIB

pytest.importorskip("autofeat", reason="stock autofeat is not installed")

from memguard.integrations.autofeat import AutoFeatProcessor, FitRefused, LightMode, NotFittedError
from memguard_integrations.autofeat.arguments import TRANSFORMATIONS
from memguard_integrations.autofeat.jobs import survey_frame
from memguard_integrations.autofeat.sources import TARGET
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
    copy.manager = manager
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
    # scikit-learn's scores take the columns of probabilities in the order of the sorted classes.
    assert list(processor.classes_) == sorted(set(target))
    assert get_scorer("roc_auc_ovr")(processor, features, target) > 0.8
    features[0] = np.nan
    with pytest.raises(DataError, match="1 rows lack a value"):
        processor.predict(features)
    # A class that the model has not seen is a miss, not a row that does not count.
    assert processor.score(features[1:], ["other"] * (len(features) - 1)) == 0.0


def test_a_fit_beyond_its_budget_is_refused_before_it_starts(patients: Data, manager: MemoryManager) -> None:
    """What the estimate says cannot fit does not run: one report, of the survey, and remedies in Python."""
    processor = AutoFeatProcessor(
        steps=3, featsel_runs=1, manager=manager, memory="150MiB", light_mode="never"
    )
    with pytest.raises(FitRefused, match=r"the budget is 150 MiB .*memory=\"") as caught:
        processor.fit(*patients)
    assert [report.name for report in processor.reports] == ["autofeat-survey"]
    assert caught.value.requested_bytes > 150 * MIB
    with pytest.raises(NotFittedError):
        processor.transform(patients[0])


def test_a_fit_beyond_its_budget_is_done_light_and_told(patients: Data, manager: MemoryManager) -> None:
    """By default it does less: a warning, an event and the report say what; it stays in its budget, which has forecasts."""
    processor = AutoFeatProcessor(steps=3, featsel_runs=1, manager=manager, memory="150MiB")
    told: list[Event] = []
    with (
        manager.events.subscribed(told.append),
        pytest.warns(LightMode, match="it would have needed") as caught,
    ):
        processor.fit(*patients)
    assert caught[0].filename == __file__
    events = [each for each in told if each.name == "memguard.light_mode_entered"]
    assert [each.fields["left_out"] for each in events] == ["; ".join(caught[0].message.left_out)]
    report = processor.reports[-1]
    assert report.notes["left_out"] == events[0].fields["left_out"]
    assert any("light mode: " in each.text for each in report.warnings)
    assert report.estimate.plan == "light"
    assert {"expand", "select", "fit"} <= set(report.estimate.phases) & {each.name for each in report.phases}
    assert 0 < report.notes["pool_peak_bytes"] < report.peak_bytes
    assert 0 <= report.notes["pool_reuse_rate"] <= 1


@pytest.mark.requirement("R1.4")
def test_a_step_that_outgrows_its_budget_leaves_the_model_usable(
    fitted: AutoFeatProcessor, patients: Data
) -> None:
    """A transform that is killed for its budget raises a MemoryError with its report; the next step works."""
    # A budget in which a worker starts but a million rows of results do not fit.
    many = pd.concat([patients[0]] * 3000, ignore_index=True)
    fitted.memory, before = "96MiB", fitted.memory
    try:
        with pytest.raises(MemoryLimitExceeded) as caught:
            fitted.transform(many)
    finally:
        fitted.memory = before
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
        ({"steps": 1.5}, "steps: 1.5 is no whole number; use a whole number, 1 or more"),
        ({"steps": True}, "steps: True is no whole number"),
        ({"jobs": 0}, "jobs: 0 is too few"),
        ({"featsel_runs": "many"}, "featsel_runs: 'many' is no whole number"),
        ({"seed": -1}, "seed: -1 is too few; use 0 or more"),
        (
            {"transformations": ("nope",)},
            "transformations: 'nope' is none that AutoFeat knows; use exp, exp-, log",
        ),
        ({"transformations": "log"}, "transformations: 'log' is no list of names"),
        ({"memory": "4 bananas"}, "memory: '4 bananas' is not a size"),
        ({"timeout": "soon"}, "timeout: 'soon' is not a duration"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    """A wrong argument is refused at once, with the choices."""
    with pytest.raises((DataError, SizeSyntaxError, DurationSyntaxError)) as caught:
        AutoFeatProcessor(**arguments)
    assert str(caught.value).startswith(message)


def test_more_memory_than_there_is_is_refused_by_its_name(patients: Data) -> None:
    """What the machine does not have is refused when it is needed, as the argument that was given."""
    with pytest.raises(CapacityExceeded, match="^memory 900000GiB is more than there is"):
        AutoFeatProcessor(memory="900000GiB").fit(*patients)


def test_the_known_transformations_are_autofeats() -> None:
    """Each transformation that is let in is one that autofeat has, and none that it has is kept out."""
    from autofeat.feateng import engineer_features

    block = re.search(
        r"func_transform = \{(.*?)\n        \}", inspect.getsource(engineer_features), re.DOTALL
    )
    assert block is not None
    assert tuple(re.findall(r'"([^"]+)": lambda', block[1])) == TRANSFORMATIONS


@pytest.mark.parametrize(
    ("target", "missing", "message"),
    [
        (
            ["x", "y"] * 10,
            "skip",
            "y: is text, not a number ('x' in data row 1); use task=\"classification\"",
        ),
        ([np.nan] * 20, "skip", "y: has no values; give a y that has some"),
        ([3.0] * 20, "skip", "y: is always 3; give a y whose values differ"),
        ([np.inf] + [1.0, 2.0] * 9 + [3.0], "skip", "y: has 1 infinite value; replace them"),
        (pd.Series(["x", 1.0] * 10, dtype=object), "skip", "y: holds values of mixed or unknown types"),
        ([1.0] * 6 + [2.0] + [np.nan] * 13, "skip", "X: has 6 usable rows of 20 (most are missing in y: 13)"),
        (list(range(20)), "error", "X: column 'a' has 1 missing value; use missing=\"skip\" to leave"),
    ],
)
def test_bad_targets_are_told_in_python(target: Any, missing: str, message: str) -> None:
    """To a caller in Python the target is y, and remedies are arguments; no flag, no name of our own."""
    frame = pd.DataFrame({"a": [np.nan, *range(19)], "b": np.arange(20.0) % 7})
    with pytest.raises(DataError) as caught:
        survey_frame(frame, target, AutoFeatProcessor(missing=missing).settings)
    assert str(caught.value).startswith(message)
    assert "--" not in str(caught.value)
    assert TARGET not in str(caught.value)


def test_unusable_columns_are_told_in_python() -> None:
    """The columns that can be used are written as they are chosen from a frame."""
    frame = pd.DataFrame(
        {"a": np.arange(30.0), "b c": np.arange(30.0) % 7, "name": [f"n{i}" for i in range(30)]}
    )
    with pytest.raises(DataError, match=r"choose the columns: X\[\['a', 'b c'\]\]$"):
        survey_frame(frame, np.arange(30), AutoFeatProcessor().settings)


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


@pytest.mark.heavy
@pytest.mark.requirement("R2.4")
def test_selection_in_two_processes(patients: Data, manager: MemoryManager) -> None:
    """Autofeat's own code: two processes select inside the one budget, and are gone with their shared memory before the result is used."""
    frame, target = patients
    processor = AutoFeatProcessor(
        steps=1, featsel_runs=2, jobs=2, engine="stock", manager=manager, memory="1500MiB"
    )
    processor.fit(frame[["bmi", "s5"]], target)
    report = processor.reports[-1]
    assert len(report.processes) > 1
    assert report.cleanup.verified
    assert report.cleanup.leftovers == ()
    assert processor.good_cols_
