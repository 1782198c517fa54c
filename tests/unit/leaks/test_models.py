"""Real scikit-learn models and NumPy arrays: they die by reference count alone, and their memory comes back."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

from memguard.leaks import HolderKind, ModelRegistry, SearchLimits, find_holders, known_bytes

ENOUGH = SearchLimits(time_s=10.0)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Whatever dies in these tests dies by reference count."""
    gc.disable()
    yield
    gc.enable()


def linear() -> Any:
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def forest() -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(n_estimators=5, random_state=0)


def pipeline() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), linear())


def lasso() -> Any:
    from sklearn.linear_model import LassoLarsCV

    return LassoLarsCV(cv=3)


MODELS = pytest.mark.parametrize("make", [linear, forest, pipeline, lasso])


def fitted(make: Callable[[], Any]) -> Any:
    import numpy as np

    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 4))
    return make().fit(features, features @ np.arange(4) + generator.normal(size=200))


@pytest.mark.requirement("R4.1", "R4.2", "R4.4")
@MODELS
def test_fitted_models_die_by_reference_count(make: Callable[[], Any]) -> None:
    """A fitted and used model is gone with its last reference, with the collector off: it is in no cycle."""
    registry = ModelRegistry()
    model = fitted(make)
    model.predict([[0.0, 1.0, 2.0, 3.0]])
    registry.register(model, job_id="job")
    watched = ref(model)
    del model
    assert watched() is None
    assert registry.survivors("job") == ()


@pytest.mark.requirement("R4.1", "R4.2")
def test_a_forests_trees_die_with_it() -> None:
    """The parts of a composite model go with it, unless somebody kept one."""
    registry = ModelRegistry()
    model = fitted(forest)
    for tree in model.estimators_:
        registry.register(tree, job_id="trees")
    kept = model.estimators_[0]
    del tree, model
    (survivor,) = registry.survivors("trees")
    assert survivor.type_name == "DecisionTreeRegressor"
    del kept
    assert registry.survivors("trees") == ()


@pytest.mark.requirement("R4.4")
@MODELS
def test_a_surviving_model_is_told(make: Callable[[], Any]) -> None:
    """A real model that a variable still holds is found with that variable, in a process full of real objects."""
    registry = ModelRegistry()
    model = fitted(make)
    registry.register(model, name="mine", job_id="job")
    (survivor,) = registry.survivors("job", within_s=10.0)
    assert survivor.name == "mine"
    assert survivor.known_bytes > 100
    kinds = [holder.kind for holder in survivor.holders]
    names = [str(holder) for holder in survivor.holders]
    assert kinds[0] is HolderKind.FRAME
    assert f"{test_a_surviving_model_is_told.__name__}: model -> {type(model).__name__}" in names[0]


@pytest.mark.requirement("R4.1")
def test_a_cycle_around_a_real_model_is_told() -> None:
    """A model made part of a cycle is found as one, with the types to look at."""
    model = fitted(linear)
    model.callback = [model]
    watched: ref[object] = ref(model)
    del model
    (holder,) = find_holders(watched, ENOUGH)
    assert str(holder) == "cycle: LinearRegression.callback -> list[0] -> LinearRegression"
    found: Any = watched()
    del found.callback
    del found
    assert watched() is None


@pytest.mark.requirement("R4.3")
def test_a_view_that_keeps_a_large_base_is_seen() -> None:
    """The size of a model that kept two numbers of a large array is the array's."""
    import numpy as np

    model = linear()
    model.kept = np.zeros(4_000_000)[:2]
    assert known_bytes(model) > 32_000_000
    model.kept = model.kept.copy()
    assert known_bytes(model) < 10_000


PROGRAM = """
import gc
gc.disable()
import numpy as np
from sklearn.linear_model import LinearRegression
from memguard.cleanup.emergency import own_private_bytes
from memguard.leaks import ModelRegistry, known_bytes

MIB = 1024**2
registry = ModelRegistry()

def job(size_mib):
    model = LinearRegression().fit(np.arange(20.0).reshape(10, 2), np.arange(10.0))
    model.memory = np.ones(size_mib * MIB // 8)
    registry.register(model, job_id="job")
    return model, known_bytes(model)

job(1)
before = own_private_bytes()
model, size = job(64)
during = own_private_bytes()
del model
after = own_private_bytes()
print(size // MIB, (during - before) // MIB, (after - before) / MIB, registry.live_count())
"""


@pytest.mark.requirement("R4.2", "R4.3", "R4.4")
def test_memory_of_a_dead_model_comes_back(project_root: Path) -> None:
    """Private memory of a fresh process rises by a model's 64 MiB and is back when it dies, collector off."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=project_root,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    size, rise, left, live = done.stdout.split()
    assert int(size) == 64
    assert 63 <= int(rise) <= 67
    # What stays is the allocator's and the interpreter's own, not the array.
    assert float(left) < 3
    assert live == "0"
