"""Every kind of function runs in a job, with what it needs of its module."""

from __future__ import annotations

import functools
import pickle
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.guarded import (
    Guarded,
    by_value,
    guarded,
    run_python,
)

by_value(__name__)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("4GiB", grace="1s") as manager:
        manager.value(np.zeros, 1)
        manager.value(pd.DataFrame)
        yield manager


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def plus(self, number: int) -> int:
        return self.start + number

    def __call__(self, number: int) -> int:
        return self.start * number

    @classmethod
    def named(cls) -> str:
        return cls.__name__


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def around(*args: Any) -> Any:
        return function(*args) * 10

    return around


@decorated
def doubled(number: int) -> int:
    return number * 2


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda number: number + 1, 6),
        (functools.partial(pow, 2), 32),
        (functools.partial(functools.partial(pow), 3), 243),
        (Counter(3).plus, 8),
        (Counter(3), 15),
        (doubled, 100),
        (abs, 5),
        ([1, 2].__contains__, False),
        (np.sqrt, np.sqrt(5)),
    ],
)
def test_every_kind_of_callable_runs(jobs: Guarded, function: Any, expected: Any) -> None:
    """Lambdas, partials, bound methods, instances, decorated functions, builtins and ufuncs are jobs."""
    result = jobs.run(function, 5)
    assert result.value == expected
    assert result.report.name


def test_a_closure_takes_its_variables_along(jobs: Guarded) -> None:
    """Variables of the enclosing function cross by value, and a recursive inner function works."""
    base = np.ones(20_000)

    def outer() -> Any:
        def factorial(number: int) -> int:
            return 1 if number < 2 else number * factorial(number - 1)

        return lambda: (factorial(5), float(base.sum()), Counter.named())

    assert jobs.value(outer()) == (120, 20_000.0, "Counter")


def test_classes_of_the_caller_come_back_as_themselves(jobs: Guarded) -> None:
    """An instance of a class that crossed by value is, on its return, one of the caller's own class."""
    assert isinstance(jobs.value(Counter, 3), Counter)


def test_a_notebook_cell_runs(jobs: Guarded) -> None:
    """Functions and classes of cells, made by exec in ``__main__``, run as they are now."""
    program = """
import sys
from memguard import MemoryManager
cells = ["factor = 3", "class Model:\\n    def predict(self, x):\\n        return x * factor",
         "def train(x):\\n    return Model().predict(x), Model()", "factor = 4"]
with MemoryManager("200MiB") as manager:
    for cell in cells:
        exec(compile(cell, f"<cell>", "exec"), vars(sys.modules["__main__"]))
    value, model = manager.run(train, 5).value
    print(value, type(model) is Model, train.__module__)
"""
    done = run_python(program)
    assert (done.stdout, done.stderr) == ("20 True __main__\n", "")


def test_a_module_in_the_working_directory_is_used(tmp_path: Path) -> None:
    """A function of a module that is not installed runs, and after a change of its file the new one runs."""
    program = """
import sys
sys.path.insert(0, "")
import mine
from memguard import MemoryManager
with MemoryManager("200MiB") as manager:
    print(manager.run(mine.work, 4).value, manager.run(mine.Thing, 4).value.number)
    with open("mine.py") as file:
        text = file.read()
    with open("mine.py", "w") as file:
        file.write(text.replace("* 2", "* 3000000000"))
    print(manager.run(mine.work, 4).value)
"""
    (tmp_path / "mine.py").write_text(
        "import helper\n\ndef work(n):\n    return helper.base + n * 2\n\n"
        "class Thing:\n    def __init__(self, number):\n        self.number = number\n"
    )
    (tmp_path / "helper.py").write_text("base = 100\n")
    done = run_python(program, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("108 4\n12000000100\n", "")


class Answers:
    """Answers every name with itself, as lazy proxies do."""

    def __getattr__(self, name: str) -> Answers:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self) -> Answers:
        return self


class Raises:
    """Raises whatever is asked of it, as proxies outside of their context do."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("__reduce_ex__", "__class__"):
            return object.__getattribute__(self, name)
        raise RuntimeError("outside of its context")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return int, ()


answers, raises = Answers(), Raises()


def test_odd_globals_do_no_harm(jobs: Guarded) -> None:
    """A function may name lazy proxies, modules and missing things: looking for its imports stumbles over none."""

    def uses() -> str:
        return (
            f"{answers.x is answers} {raises} {types.ModuleType} {pickle.__name__} {missing if False else ''}"  # type: ignore[name-defined]  # noqa: F821
        )

    assert jobs.value(uses).startswith("True 0 ")
