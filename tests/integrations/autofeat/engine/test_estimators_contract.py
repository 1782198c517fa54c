"""scikit-learn's own checks of an estimator, on whatever version is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import SkipTest

import pytest
from sklearn.utils import estimator_checks

from memguard_integrations.autofeat.engine import (
    AutoFeatClassifier,
    AutoFeatLight,
    AutoFeatModel,
    AutoFeatRegressor,
    FeatureSelector,
)

QUICK: dict[str, Any] = {"feateng_steps": 1, "featsel_runs": 1}
# What autofeat allows and scikit-learn does not know of: NaN passes `transform`, and `fit` refuses it. A tag says
# of both at once whether they may be given.
EXPECTED = {"check_estimators_nan_inf"}


def checks(estimator: Any) -> Iterator[tuple[Any, Callable[[Any], None], str]]:
    """Yield scikit-learn's checks with the name of each; the way to ask for them changed in 1.6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(estimator_checks, "estimator_checks_generator"):
            pairs = estimator_checks.estimator_checks_generator(estimator)
        else:
            pairs = estimator_checks.check_estimator(estimator, generate_only=True)
        for given, check in pairs:
            yield given, check, check.func.__name__


def failures(estimator: Any) -> tuple[set[str], int]:
    """Return the names of the checks that an estimator fails, and how many there were."""
    failed, count = set(), 0
    for given, check, name in checks(estimator):
        count += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                check(given)
            except SkipTest:
                continue
            except Exception:  # noqa: BLE001 - the check's name is what counts
                failed.add(name)
    return failed, count


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (AutoFeatRegressor(**QUICK), EXPECTED),
        (AutoFeatLight(), set()),
        pytest.param(AutoFeatRegressor(**QUICK, always_return_numpy=True), EXPECTED, marks=pytest.mark.heavy),
        pytest.param(AutoFeatClassifier(**QUICK), EXPECTED, marks=pytest.mark.heavy),
        pytest.param(AutoFeatModel(**QUICK), EXPECTED, marks=pytest.mark.heavy),
        pytest.param(FeatureSelector(featsel_runs=1), EXPECTED, marks=pytest.mark.heavy),
        pytest.param(AutoFeatLight(scale=True, power_transform=True), set(), marks=pytest.mark.heavy),
    ],
    ids=str,
)
@pytest.mark.timeout(900)
def test_scikit_learns_checks(estimator: Any, expected: set[str]) -> None:
    """Every check passes but those expected to fail, and these do."""
    failed, count = failures(estimator)
    assert failed == expected
    assert count >= 30
