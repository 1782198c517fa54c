"""Which packages a template imports for a job: those the function uses, found without importing any."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pandas as pd
import pytest
import structlog

from memguard.worker.preload import modules_used_by, root_of


def roots(function: Any, *arguments: Any) -> set[str]:
    return {root_of(each) for each in modules_used_by(function, arguments)}


def calls_numpy() -> Any:
    return np.zeros(3)


def calls_another() -> Any:
    return calls_numpy()


def calls_through_three() -> Any:
    return [calls_another() for _ in range(2)]


def imports_inside() -> Any:
    import sklearn.linear_model

    def deeper() -> Any:
        from autofeat import AutoFeatRegressor

        return AutoFeatRegressor

    return sklearn, deeper


def uses_nothing() -> int:
    return len(json.dumps(sys.argv))


class Worker:
    def fit(self) -> Any:
        return pd.DataFrame()

    @classmethod
    def make(cls) -> Any:
        return structlog.get_logger()


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def around() -> Any:
        return function()

    return around


def closure() -> Any:
    module, inner = pd, calls_numpy

    def work() -> Any:
        return module, inner

    return work


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (calls_numpy, {"numpy"}),
        (calls_through_three, {"numpy"}),
        (imports_inside, {"sklearn", "autofeat"}),
        (uses_nothing, set()),
        (np.mean, {"numpy"}),
        (pd.DataFrame, {"pandas"}),
        (Worker().fit, {"pandas"}),
        (Worker.make, {"structlog"}),
        (decorated(calls_numpy), {"numpy"}),
        (functools.partial(functools.partial(calls_numpy)), {"numpy"}),
        (closure(), {"numpy", "pandas"}),
        (lambda: np.ones(1), {"numpy"}),
        (len, set()),
        (subprocess.run, set()),
    ],
)
def test_the_packages_of_a_function_are_found(function: Any, expected: set[str]) -> None:
    """Through globals, closures, wrappers, partials, methods and imports inside; only what is installed."""
    assert roots(function) == expected


def test_the_types_of_the_arguments_count() -> None:
    """A frame as an argument needs pandas before it can be unpickled."""
    assert roots(uses_nothing, pd.DataFrame(), 3, None) == {"pandas"}


def test_own_modules_and_memguard_are_left_out() -> None:
    """What the caller edits, and what every template has, is not named."""
    from memguard.units import parse_size

    assert roots(parse_size) == set()
    assert roots(roots) & {"memguard", "tests", "hypothesis"} == set()


class Answers:
    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self) -> Any:
        return self


class Raises:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("outside of its context")


answers, raises = Answers(), Raises()


def test_proxies_do_no_harm() -> None:
    """Objects that answer every name, or raise for each, neither hang nor break the search."""

    def uses() -> Any:
        return answers, raises, answers.func, calls_numpy

    assert roots(uses) == {"numpy"}
    assert roots(answers) == set()


def test_odd_functions_do_no_harm() -> None:
    """A function without a module, one that wraps itself, and an unbound closure variable are looked through."""
    nameless = types.FunctionType((lambda: None).__code__, {})
    nameless.__module__ = None  # type: ignore[assignment]
    assert roots(nameless) == set()

    def itself() -> None: ...

    itself.__wrapped__ = itself  # type: ignore[attr-defined]
    assert roots(itself) == set()

    def unbound() -> Any:
        def work() -> Any:
            return later

        found = roots(work)
        later = np
        return found, later

    assert unbound()[0] == set()


@pytest.mark.parametrize(("name", "root"), [("a", "a"), ("a.b", "a"), ("ab.c.d", "ab"), ("", "")])
def test_the_root_is_the_first_part(name: str, root: str) -> None:
    """A dotted name belongs to the package before its first dot."""
    assert root_of(name) == root
