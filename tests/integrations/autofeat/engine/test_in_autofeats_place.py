"""Programs that import autofeat get this engine by its alias, and what its pages promise of it holds."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memguard_integrations.autofeat import engine


@pytest.fixture
def autofeat(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`autofeat` as a program imports it that knows of nothing else."""
    monkeypatch.setitem(sys.modules, "autofeat", engine)
    import autofeat

    return autofeat


def formula_of_the_readme(rows: int = 300) -> tuple[pd.DataFrame, Any]:
    """Three columns and 2 + 15 x1 + 3 / (x2 - 1 / x3) + 5 (x2 + log x1)^3, where that is tame."""
    random = np.random.RandomState(15)
    x1, x2, x3 = random.rand(rows) + 0.1, random.randn(rows), random.rand(rows) + 0.2
    # No pole within the data.
    x2 = np.minimum(x2, 0.5 / x3)
    return pd.DataFrame({"x1": x1, "x2": x2, "x3": x3}), 2 + 15 * x1 + 3 / (x2 - 1 / x3) + 5 * (
        x2 + np.log(x1)
    ) ** 3


def test_names(autofeat: ModuleType) -> None:
    """Every class that autofeat has at its door is there."""
    for name in (
        "AutoFeatModel",
        "AutoFeatRegressor",
        "AutoFeatClassifier",
        "FeatureSelector",
        "AutoFeatLight",
    ):
        assert isinstance(getattr(autofeat, name), type)


def test_almost_nothing(autofeat: ModuleType) -> None:
    """Without steps and selection the table comes back as it is, and a model is fitted on it."""
    frame, target = formula_of_the_readme()
    model = autofeat.AutoFeatRegressor(verbose=0, feateng_steps=0, featsel_runs=0)
    made = model.fit_transform(frame, target)
    assert list(made.columns) == list(frame.columns)
    assert (made.to_numpy() == frame.to_numpy()).all()
    assert model.score(frame, target) == pytest.approx(model.score(made, target))


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["array", "frame"])
def test_the_formula_is_found(autofeat: ModuleType, kind: str) -> None:
    """The formula of the readme is found, on arrays and frames, with targets of either kind."""
    frame, target = formula_of_the_readme()
    given, answer = (frame.to_numpy(), target) if kind == "array" else (frame, pd.Series(target))
    model = autofeat.AutoFeatRegressor(verbose=0, feateng_steps=2, featsel_runs=3)
    made = model.fit_transform(given, answer)
    assert model.score(given, answer) >= 0.999
    assert model.score(made, answer) == pytest.approx(model.score(given, answer))
    start = ["x000", "x001", "x002"] if kind == "array" else ["x1", "x2", "x3"]
    assert list(made.columns[:3]) == start


def test_names_that_no_formula_could_have(autofeat: ModuleType) -> None:
    """Columns with blanks, signs and words of Python in their names are worked with, and keep them."""
    frame, target = formula_of_the_readme()
    frame.columns = ["x 1.1", "lambda", "x3()/*"]
    model = autofeat.AutoFeatRegressor(verbose=0, feateng_steps=1, featsel_runs=1)
    made = model.fit_transform(frame, target)
    assert list(made.columns[:3]) == list(frame.columns)
    assert model.score(frame, target) > 0.5


def test_nans(autofeat: ModuleType) -> None:
    """Fit and predict refuse NaN; transform hands it on into what is made of it, the other rows unharmed."""
    frame, target = formula_of_the_readme()
    model = autofeat.AutoFeatRegressor(verbose=0, feateng_steps=1, featsel_runs=1)
    holed = frame.copy()
    holed.loc[[0, 7], "x1"] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.fit_transform(holed, target)
    model.fit(frame, target)
    with pytest.raises(ValueError, match="NaN"):
        model.predict(holed)
    made, whole = model.transform(holed), model.transform(frame)
    others = np.setdiff1d(np.arange(len(frame)), [0, 7])
    assert np.isnan(made["x1"].iloc[[0, 7]]).all()
    assert (made.iloc[others].to_numpy() == whole.iloc[others].to_numpy()).all()


def test_columns_to_engineer_from(autofeat: ModuleType) -> None:
    """Only the columns named are engineered from; one that is not there, or gone later, is an error of value."""
    frame, target = formula_of_the_readme()
    model = autofeat.AutoFeatRegressor(verbose=0, feateng_cols=["x1", "x3"], feateng_steps=2, featsel_runs=1)
    made = model.fit_transform(frame, target)
    assert not any("x2" in name for name in made.columns[3:])
    with pytest.raises(ValueError, match="x2"):
        model.transform(frame[["x1", "x3"]])
    with pytest.raises(ValueError, match="x17"):
        autofeat.AutoFeatRegressor(verbose=0, feateng_cols=["x1", "x17"]).fit(frame, target)


def test_categories(autofeat: ModuleType) -> None:
    """A categorical column becomes one of 0 and 1 for each value, by autofeat's names, in every later batch too."""
    frame, target = formula_of_the_readme()
    frame["x4"] = np.array([2, 1, 2] * (len(frame) // 3))
    model = autofeat.AutoFeatRegressor(
        verbose=0, categorical_cols=["x4"], feateng_cols=["x1", "x2", "x3"], feateng_steps=1, featsel_runs=1
    )
    made = model.fit_transform(frame, target + 7 * frame["x4"])
    assert model.categorical_cols_map_ == {"x4": ["cat_x4_1.0", "cat_x4_2.0"]}
    assert list(model.transform(frame.iloc[:1]).columns) == list(made.columns)
    with pytest.raises(ValueError, match="x9"):
        autofeat.AutoFeatRegressor(verbose=0, categorical_cols=["x9"]).fit(frame, target)


def test_units(autofeat: ModuleType) -> None:
    """With units only what they allow is added, and the pi theorem gives products without a dimension."""
    pytest.importorskip("pint")
    frame, _ = formula_of_the_readme()
    units = {"x1": "m/sec", "x2": "", "x3": "sec"}
    target = frame["x1"] * frame["x3"]
    model = autofeat.AutoFeatRegressor(verbose=0, units=units, feateng_steps=2, featsel_runs=1)
    model.fit(frame, target)
    assert model.score(frame, target) > 0.99
    assert not any("x1 + x3" in name or "x1 - x3" in name for name in model.new_feat_cols_)
    assert units == {"x1": "m/sec", "x2": "", "x3": "sec"}


def test_classes(autofeat: ModuleType) -> None:
    """A classification predicts the labels it was given, with probabilities that add up, on arrays and frames."""
    frame, target = formula_of_the_readme(150)
    labels = np.where(target > np.median(target), "high", "low")
    model = autofeat.AutoFeatClassifier(verbose=0, feateng_steps=1, featsel_runs=1).fit(frame, labels)
    assert set(model.predict(frame)) == {"high", "low"}
    assert model.predict_proba(frame).sum(axis=1) == pytest.approx(np.ones(len(frame)))
    assert model.score(frame, labels) > 0.9


class TestSelecting:
    """FeatureSelector, on seven columns of which some are noise and some repeat others."""

    @staticmethod
    def data() -> tuple[Any, Any]:
        random = np.random.RandomState(10)
        x1, x2, x3 = random.rand(1000), random.randn(1000), random.rand(1000)
        target = 2 + 15 * x1 + 3 / (x2 - 1 / (x3 + 0.1)).clip(None, -0.2) + 5 * x1**3
        noise = random.randn(1000, 2)
        return np.column_stack([x1, x2, x3, noise, x1**3, 1 / (x2 - 1 / (x3 + 0.1)).clip(None, -0.2)]), target

    @pytest.mark.filterwarnings("ignore:A column-vector y")
    @pytest.mark.parametrize("target_as_frame", [False, True])
    def test_what_explains_is_chosen_and_noise_is_not(
        self, autofeat: ModuleType, target_as_frame: bool
    ) -> None:
        """Columns the target is made of are found; the array keeps its columns, and noise is left out."""
        columns, target = self.data()
        answer = pd.DataFrame(target, columns=["y"]) if target_as_frame else target
        selector = autofeat.FeatureSelector(verbose=0)
        chosen = selector.fit_transform(pd.DataFrame(columns, columns=[f"x {n}" for n in range(7)]), answer)
        assert {"x 6"} < set(chosen.columns)
        assert not {"x 3", "x 4"} & set(chosen.columns)
        assert isinstance(selector.fit_transform(columns, answer), np.ndarray)

    def test_columns_to_keep(self, autofeat: ModuleType) -> None:
        """Named columns stay, noise or not."""
        columns, target = self.data()
        frame = pd.DataFrame(columns, columns=[str(n) for n in range(7)])
        chosen = autofeat.FeatureSelector(verbose=0, keep=["3", "4"]).fit_transform(frame, target)
        assert {"3", "4", "6"} <= set(chosen.columns)

    def test_nans(self, autofeat: ModuleType) -> None:
        """Fit refuses NaN, transform hands it on; a frame of other columns is refused."""
        columns, target = self.data()
        holed = columns.copy()
        holed[998, 6] = np.nan
        selector = autofeat.FeatureSelector(verbose=0, featsel_runs=1)
        with pytest.raises(ValueError, match="NaN"):
            selector.fit(holed, target)
        chosen = selector.fit(columns, target).transform(holed)
        assert np.isnan(chosen).any(axis=1).nonzero()[0].tolist() == [998]
        with pytest.raises(ValueError, match="columns|features"):
            selector.transform(columns[:, :3])


def test_light(autofeat: ModuleType) -> None:
    """AutoFeatLight gives ratios and products, drops what repeats a column, and transforms new rows the same."""
    frame, _ = formula_of_the_readme()
    frame["again"] = 2 * frame["x1"]
    light = autofeat.AutoFeatLight()
    made = light.fit_transform(frame)
    assert "again" not in made.columns
    assert {"x1 / x3", "x1 * x3"} <= set(made.columns)
    assert light.transform(frame.iloc[:2]).equals(made.iloc[:2])
