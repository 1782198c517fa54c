"""FeatureSelector and AutoFeatLight by themselves, on frames and arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from memguard_integrations.autofeat.engine import AutoFeatLight, FeatureSelector
from tests.support.houses import houses


class TestFeatureSelector:
    """autofeat's selector on frames and arrays."""

    def columns(self) -> tuple[pd.DataFrame, pd.Series]:
        frame, target = houses()
        return frame[["side", "x 2"]].assign(
            square=frame["side"] ** 2, noise=np.cos(np.arange(len(frame)))
        ), target

    def test_frames(self) -> None:
        """A frame gives a frame of the chosen columns on its index; get_support tells the same."""
        frame, target = self.columns()
        selector = FeatureSelector(featsel_runs=2, keep=["noise"])
        made = selector.fit_transform(frame, target)
        assert list(made.columns) == selector.good_cols_ == selector.get_feature_names_out().tolist()
        assert made.index.equals(frame.index)
        assert {"square", "noise"} <= set(made.columns)
        assert set(frame.columns[selector.get_support()]) == set(made.columns)

    def test_arrays_and_numbers_as_names(self) -> None:
        """An array gives an array; a frame named by numbers keeps numbers, and texts where one name is a text."""
        frame, target = self.columns()
        assert isinstance(FeatureSelector(featsel_runs=1).fit_transform(frame.to_numpy(), target), np.ndarray)
        numbered = FeatureSelector(featsel_runs=1).fit(frame.set_axis(range(4), axis=1), target)
        assert all(isinstance(name, int) for name in numbered.good_cols_)
        mixed = FeatureSelector(featsel_runs=1).fit(frame.set_axis([0, 1, 2, "n"], axis=1), target)
        assert "2" in mixed.good_cols_

    def test_missing_numbers(self) -> None:
        """NaN passes transform and not fit."""
        frame, target = self.columns()
        selector = FeatureSelector(featsel_runs=1, keep=["noise"]).fit(frame, target)
        holed = frame.assign(noise=np.nan)
        assert selector.transform(holed)["noise"].isna().all()
        with pytest.raises(ValueError, match="NaN"):
            FeatureSelector().fit(holed, target)


def test_light_is_the_same_in_blocks() -> None:
    """With little memory, where correlations are summed by blocks, the same columns come out."""
    frame, _ = houses()
    numbers = frame[["side", "x 2"]].assign(third=np.sin(np.arange(len(frame))), one=1.0)
    exact, bounded = AutoFeatLight(), AutoFeatLight(memory=1000)
    made = exact.fit_transform(numbers)
    pd.testing.assert_frame_equal(bounded.fit_transform(numbers), made, check_exact=True)
    assert "one" not in made
    doubled = numbers.assign(twice=2 * frame["side"])
    for light in (AutoFeatLight(), AutoFeatLight(memory=1000)):
        assert len({"side", "twice"} & set(light.fit_transform(doubled).columns)) == 1
    pd.testing.assert_frame_equal(exact.transform(numbers), made, check_exact=True)
