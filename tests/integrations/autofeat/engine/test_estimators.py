"""The estimators: what they make of new rows, what scikit-learn and autofeat's users rely on, what bad input gets."""

from __future__ import annotations

import inspect
import logging
import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from memguard.errors import ConfigError, DataError, SizeSyntaxError
from memguard_integrations.autofeat.engine import (
    AutoFeatClassifier,
    AutoFeatLight,
    AutoFeatModel,
    AutoFeatRegressor,
    FeatureSelector,
    NonFiniteFeatures,
)
from memguard_integrations.autofeat.engine.estimators import model as model_module
from tests.support.houses import houses

# autofeat 2.1.3's constructors, for positional arguments must mean the same.
MODEL_ARGUMENTS = [
    *(
        "categorical_cols",
        "feateng_cols",
        "units",
        "feateng_steps",
        "featsel_runs",
        "max_gb",
        "transformations",
    ),
    *("apply_pi_theorem", "always_return_numpy", "n_jobs", "verbose"),
]
LIGHT_ARGUMENTS = [
    *("compute_ratio", "compute_product", "scale", "power_transform", "corrthr", "corrthr_init", "verbose"),
]
GUARDS = ["memory", "scratch_dir", "light_mode"]


def quick(**arguments: Any) -> AutoFeatRegressor:
    return AutoFeatRegressor(
        **{"feateng_steps": 1, "featsel_runs": 1, "categorical_cols": ["kind"], **arguments}
    )


@pytest.fixture(scope="module")
def fitted() -> AutoFeatRegressor:
    return quick(featsel_runs=0).fit(*houses())


@pytest.mark.parametrize(
    ("estimator", "arguments"),
    [
        (AutoFeatModel, ["problem_type", *MODEL_ARGUMENTS]),
        (AutoFeatRegressor, MODEL_ARGUMENTS),
        (AutoFeatClassifier, MODEL_ARGUMENTS),
        (FeatureSelector, ["problem_type", "featsel_runs", "keep", "n_jobs", "verbose"]),
        (AutoFeatLight, LIGHT_ARGUMENTS),
    ],
)
def test_arguments_are_autofeats_and_then_the_guards(estimator: Any, arguments: list[str]) -> None:
    """Positional arguments have autofeat's names and order; the guards follow as keywords."""
    parameters = inspect.signature(estimator).parameters
    kinds = [(name, each.kind is each.KEYWORD_ONLY) for name, each in parameters.items()]
    assert kinds == [(name, False) for name in arguments] + [(name, True) for name in GUARDS]
    assert sorted(estimator().get_params()) == sorted([*arguments, *GUARDS])


class TestTransform:
    """What a fitted model makes of rows."""

    def test_it_has_autofeats_attributes(self, fitted: AutoFeatRegressor) -> None:
        """Each attribute that autofeat documents is there and fits the others."""
        assert fitted.original_columns_ == ["side", "x 2", "kind"]
        assert fitted.categorical_cols_map_ == {"kind": ["cat_kind_a", "cat_kind_b"]}
        assert fitted.feateng_cols_ == ["side", "x 2", "cat_kind_a", "cat_kind_b"]
        assert fitted.all_columns_ == [*fitted.feateng_cols_, *fitted.new_feat_cols_]
        assert list(fitted.feature_formulas_) == [*fitted.new_feat_cols_, *fitted.feateng_cols_]
        assert list(fitted.feature_functions_) == fitted.new_feat_cols_
        assert "x2**2" in fitted.new_feat_cols_
        assert set(fitted.new_feat_cols_) < set(fitted.good_cols_)
        assert fitted.prediction_model_.coef_.shape == (len(fitted.good_cols_),)
        assert fitted.n_features_in_ == 3
        columns, function, _ = fitted.feature_functions_["x2**2"]
        assert columns == ["x 2"]
        assert function is not None
        assert function(np.array([3.0])).tolist() == [9.0]

    def test_index_and_columns_are_kept(self, fitted: AutoFeatRegressor) -> None:
        """The result has the rows' index, and the columns that get_feature_names_out tells."""
        frame, _ = houses()
        made = fitted.transform(frame)
        assert made.index.equals(frame.index)
        assert made.columns.tolist() == fitted.get_feature_names_out().tolist() == fitted.all_columns_
        assert made["side"].equals(frame["side"])

    def test_fit_transform_is_fit_and_then_transform(self, fitted: AutoFeatRegressor) -> None:
        """Both ways give the same frame."""
        frame, target = houses()
        made = quick(featsel_runs=0).fit_transform(frame, target)
        pd.testing.assert_frame_equal(made, fitted.transform(frame), check_exact=True)

    def test_a_row_alone_is_as_good_as_among_others(
        self, fitted: AutoFeatRegressor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each row alone, all rows at once, and blocks of seven rows give the same."""
        frame, _ = houses()
        whole, predicted = fitted.transform(frame), fitted.predict(frame)
        alone = pd.concat([fitted.transform(frame.iloc[[row]]) for row in range(5)])
        pd.testing.assert_frame_equal(alone, whole.iloc[:5], check_exact=True)
        monkeypatch.setattr(model_module, "_BLOCK_ROWS", 7)
        pd.testing.assert_frame_equal(fitted.transform(frame), whole, check_exact=True)
        np.testing.assert_allclose(fitted.predict(frame), predicted, rtol=1e-12)

    def test_a_category_that_fit_has_not_seen_is_zeros(self, fitted: AutoFeatRegressor) -> None:
        """Unseen and missing values give the columns of the fit, all zero; the encoder is not fitted again."""
        frame, _ = houses()
        few = frame.iloc[:3].assign(kind=["b", "never seen", None])
        made = fitted.transform(few)
        assert list(made.columns) == fitted.all_columns_
        assert made[["cat_kind_a", "cat_kind_b"]].to_numpy().tolist() == [[0, 1], [0, 0], [0, 0]]
        assert fitted.transform(frame)["cat_kind_a"].sum() == (frame["kind"] == "a").sum()

    def test_a_missing_number_is_missing_in_what_is_made_of_it(self, fitted: AutoFeatRegressor) -> None:
        """NaN gives NaN in its own columns and in no other, without a warning; predict refuses it."""
        frame, _ = houses()
        holed = frame.copy()
        holed.loc[501, "x 2"] = np.nan
        made = fitted.transform(holed)
        assert made.loc[501].isna().sum() == sum("x2" in name or name == "x 2" for name in made.columns)
        assert made.drop(index=501).notna().all(axis=None)
        with pytest.raises(ValueError, match="NaN"):
            fitted.predict(holed)

    def test_what_is_not_finite_is_told_by_column_and_row(self, fitted: AutoFeatRegressor) -> None:
        """Values outside a formula's domain stay as they come out, and a warning names columns and rows."""
        frame, _ = houses()
        beyond = frame.assign(side=frame["side"].where(frame.index != 502, 0.0))
        with pytest.warns(NonFiniteFeatures, match="1/side") as caught:
            made = fitted.transform(beyond)
        told = caught[0].message
        assert isinstance(told, NonFiniteFeatures)
        assert told.counts["1/side"] == 1
        assert told.first_rows["1/side"] == (2,)
        assert np.isposinf(made.loc[502, "1/side"])
        with pytest.raises(DataError, match=r"'1/side' in 1 row \(2\)"):
            fitted.predict(beyond)

    def test_a_model_predicts_from_what_it_transformed(self, fitted: AutoFeatRegressor) -> None:
        """Original columns and transformed ones give the same predictions and scores."""
        frame, target = houses()
        made = fitted.transform(frame)
        assert np.array_equal(fitted.predict(made), fitted.predict(frame))
        assert fitted.score(made, target) == fitted.score(frame, target) > 0.99

    def test_arrays(self) -> None:
        """An array's columns are called x000, x001; always_return_numpy gives an array; integers stay integers."""
        frame, target = houses()
        values = frame[["side", "x 2"]].to_numpy()
        made = quick(categorical_cols=None).fit_transform(values, target)
        assert made.columns.tolist()[:2] == ["x000", "x001"]
        numbers = quick(categorical_cols=None, always_return_numpy=True).fit_transform(values, target)
        assert np.array_equal(numbers, made.to_numpy())
        whole = quick(categorical_cols=None, feateng_steps=0).fit_transform(
            np.arange(240).reshape(120, 2) % 50, target
        )
        assert whole.dtypes.astype(str).tolist() == ["int64", "int64"]


class TestScikitLearn:
    """What scikit-learn's users expect beyond its own checks."""

    def test_fit_changes_no_argument(self) -> None:
        """After a fit with units every argument is the object that was given, unchanged, and a clone is unfitted."""
        pytest.importorskip("pint")
        units = {"side": "m", "speed": "m/sec", "time": "sec"}
        frame, target = houses()
        frame = frame.assign(speed=frame["side"] * 2 + frame["x 2"], time=np.linspace(1, 2, len(frame)) ** 2)
        model = quick(units=units).fit(frame, target)
        assert model.units is units
        assert units == {"side": "m", "speed": "m/sec", "time": "sec"}
        assert not hasattr(clone(model), "all_columns_")
        assert not hasattr(clone(model), "feature_formulas_")
        assert any(name.startswith("PT1_") for name in model.all_columns_)

    def test_pipelines_and_cross_validation(self) -> None:
        """The regressor works as the end of a pipeline and in cross_val_score, each estimator in its midst."""
        frame, target = houses()
        numbers = frame[["side", "x 2"]]
        model = quick(categorical_cols=None)
        assert cross_val_score(make_pipeline(StandardScaler(), model), numbers, target, cv=3).min() > 0.9
        line = make_pipeline(
            AutoFeatLight(), FeatureSelector(featsel_runs=1), quick(categorical_cols=None, feateng_steps=0)
        )
        assert line.fit(numbers, target).score(numbers, target) > 0.8

    @pytest.mark.parametrize("kind", ["pandas", "default"])
    def test_set_output(self, kind: str) -> None:
        """set_output gives frames with the right names, also where an array was asked for."""
        frame, target = houses()
        model = quick(always_return_numpy=True).set_output(transform=kind)
        made = model.fit_transform(frame, target)
        assert isinstance(made, pd.DataFrame if kind == "pandas" else np.ndarray)
        if kind == "pandas":
            assert made.columns.tolist() == model.all_columns_
            assert made.index.equals(frame.index)

    def test_names_may_be_left_out_later(self, fitted: AutoFeatRegressor) -> None:
        """An array with as many columns as the frame of the fit goes by position, with scikit-learn's warning."""
        frame, _ = houses()
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            made = fitted.transform(frame.to_numpy())
        assert np.array_equal(made.to_numpy(), fitted.transform(frame).to_numpy())

    def test_classes_of_any_name(self) -> None:
        """A classifier of texts gives its classes, probabilities in their order, and predictions among them."""
        frame, target = houses()
        grades = np.where(target > target.median(), "dear", "cheap")
        model = AutoFeatClassifier(["kind"], feateng_steps=1, featsel_runs=1).fit(frame, grades)
        assert model.classes_.tolist() == ["cheap", "dear"]
        chances = model.predict_proba(frame)
        assert np.array_equal(model.classes_[chances.argmax(axis=1)], model.predict(frame))
        assert model.score(frame, grades) > 0.9

    def test_a_loaded_model_compiles_nothing(self, fitted: AutoFeatRegressor, tmp_path: Any) -> None:
        """A pickled model transforms and predicts in a fresh process without sympy, numba or autofeat."""
        frame, _ = houses()
        path = tmp_path / "model.pkl"
        path.write_bytes(pickle.dumps((fitted, frame.iloc[:1])))
        program = (
            "import pickle, sys\n"
            f"model, row = pickle.load(open({str(path)!r}, 'rb'))\n"
            "made = model.transform(row)\n"
            "model.predict(row)\n"
            "print(sorted({'autofeat', 'numba', 'sympy', 'pint'} & set(sys.modules)))\n"
            "print([value.hex() for value in made.iloc[0]])\n"
            "print(len(model.feature_formulas_), 'sympy' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        loaded, values, formulas = done.stdout.splitlines()
        assert loaded == "[]"
        assert values == str([value.hex() for value in fitted.transform(frame.iloc[:1]).iloc[0]])
        assert formulas == f"{len(fitted.feature_formulas_)} True"


class TestBadInput:
    """Each refusal is a ValueError of memguard's tree, or scikit-learn's own, and says what is meant."""

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (
                lambda frame: frame.rename(columns={"side": "edge"}),
                r"missing: 'side'; not seen in fit: 'edge'",
            ),
            (lambda frame: frame[["x 2", "side", "kind"]], r"another order: fit had 'side', 'x 2', 'kind'"),
            (lambda frame: frame.drop(columns="x 2"), r"missing: 'x 2'"),
            (lambda frame: frame.assign(side="wide"), r"the column 'side': is not numeric"),
            (lambda frame: frame.assign(side=np.inf), r"infinity"),
            (lambda frame: frame.iloc[:0], r"0 sample"),
        ],
    )
    def test_rows_that_do_not_fit_the_model(self, fitted: AutoFeatRegressor, change: Any, told: str) -> None:
        """Columns that changed since fit are told by name, before anything is computed."""
        with pytest.raises(ValueError, match=told):
            fitted.transform(change(houses()[0]))

    @pytest.mark.parametrize(
        ("arguments", "change", "told"),
        [
            (
                {"categorical_cols": ["kinds"]},
                {},
                r"'kinds': is no column of X \(categorical_cols\); did you mean 'kind'",
            ),
            ({"feateng_cols": ["edge"]}, {}, r"'edge': is no column of X \(feateng_cols\)"),
            ({"categorical_cols": None}, {}, r"the column 'kind': is not numeric"),
            ({}, {"x 2": np.nan}, r"NaN"),
            (
                {},
                {"kind": None},
                r"the categorical column 'kind': has missing values \(NaN\), first in row 0",
            ),
            (
                {},
                {"kind": ["a", 1] * 60},
                r"the categorical column 'kind': has values that cannot be ordered",
            ),
            ({}, {"x2": 1.5}, r"the columns 'x 2' and 'x2': would both be called 'x2'"),
            ({}, {"cat_kind_a": 1.5}, r"'cat_kind_a': is the name of a column and of one to be added"),
            ({}, {"side": pd.Timestamp(0)}, r"the column 'side': holds points or spans of time"),
            ({"transformations": ("exp", "tan")}, {}, r"'tan' is no transformation"),
        ],
    )
    def test_a_fit_that_cannot_be(self, arguments: Any, change: Any, told: str) -> None:
        """A fit refuses what it cannot work with, and names it."""
        frame, target = houses()
        with pytest.raises(ValueError, match=told):
            quick(**arguments).fit(frame.assign(**change), target)

    def test_names_that_are_one_as_texts(self) -> None:
        """Columns 1 and '1' are refused, for autofeat's names are texts."""
        frame, target = houses()
        twice = frame[["side", "x 2"]].set_axis([1, "1"], axis=1)
        with pytest.raises(DataError, match="the name '1': occurs more than once"):
            quick(categorical_cols=None).fit(twice, target)

    def test_targets_of_the_wrong_kind(self) -> None:
        """Words are no target of a regression, fractions and a single class none of a classification."""
        frame, target = houses()
        with pytest.raises(DataError, match="the target: is not numeric"):
            quick().fit(frame, np.where(target > 5, "dear", "cheap"))
        with pytest.raises(ValueError, match="Unknown label type"):
            AutoFeatClassifier(["kind"]).fit(frame, target)
        with pytest.raises(DataError, match="only one class"):
            AutoFeatClassifier(["kind"]).fit(frame, np.ones(len(frame), dtype=int))

    @pytest.mark.parametrize("estimator", [quick(), FeatureSelector(), AutoFeatLight()])
    def test_guards_that_mean_nothing(self, estimator: Any, tmp_path: Any) -> None:
        """Each guard argument is checked in fit, not in the constructor."""
        frame, target = houses()
        wrong: list[tuple[dict[str, Any], type[Exception]]] = [
            ({"memory": "much"}, SizeSyntaxError),
            ({"scratch_dir": tmp_path / "none"}, ConfigError),
            ({"light_mode": "always"}, ConfigError),
        ]
        for arguments, error in wrong:
            with pytest.raises(error):
                clone(estimator).set_params(**arguments).fit(frame, target)


def test_a_column_of_one_value_is_passed_through() -> None:
    """It is never selected and does no harm; where there is no other a fit is refused."""
    frame, target = houses()
    model = quick().fit(frame.assign(one=1.5), target)
    assert "one" not in model.good_cols_
    assert model.good_cols_ == quick().fit(frame, target).good_cols_
    assert model.transform(frame.assign(one=1.5))["one"].eq(1.5).all()
    for steps in (0, 1):
        with pytest.raises(DataError, match="the columns 'one': hold a single value each"):
            quick(categorical_cols=None, feateng_steps=steps).fit(pd.DataFrame({"one": [1.5] * 120}), target)


def test_memory_and_scratch_folder_change_no_result(tmp_path: Any) -> None:
    """A fit that may hold little gives what a fit without a bound gives, and leaves its folder empty."""
    frame, target = houses()
    free = quick(feateng_steps=2).fit_transform(frame, target)
    bounded = quick(feateng_steps=2, memory="96MiB", scratch_dir=tmp_path, light_mode="never")
    pd.testing.assert_frame_equal(bounded.fit_transform(frame, target), free, check_exact=True)
    assert list(tmp_path.iterdir()) == []


def test_max_gb_takes_rows_by_numpys_state() -> None:
    """The same state of numpy's generator gives the same fit, and every row is transformed."""
    frame, target = houses()
    made = []
    for _ in range(2):
        np.random.seed(5)
        made.append(quick(max_gb=4e-6).fit_transform(frame, target))
    pd.testing.assert_frame_equal(*made, check_exact=True)
    assert len(made[0]) == len(frame)


def test_verbose_goes_to_memguards_logger(caplog: pytest.LogCaptureFixture) -> None:
    """With verbose something is logged to memguard.autofeat; the root logger is not configured."""
    frame, target = houses()
    before = list(logging.getLogger().handlers)
    with caplog.at_level(logging.INFO, logger="memguard.autofeat"):
        quick(verbose=1).fit(frame, target)
    assert any(record.name == "memguard.autofeat" for record in caplog.records)
    assert logging.getLogger().handlers == before


def test_nothing_warns() -> None:
    """A fit and a transform of good data are silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame, target = houses()
        quick().fit(frame, target).transform(frame)
