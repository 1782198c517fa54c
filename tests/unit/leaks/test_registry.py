"""The weak register of models: it holds nothing, forgets the dead, and tells who survived."""

from __future__ import annotations

import gc
import os
import threading
from array import array
from collections.abc import Iterator
from weakref import ref

import pytest

from memguard.leaks import HolderKind, ModelRegistry, Survivor, known_bytes

PATIENCE_S = 10.0


class Model:
    """Anything that can be weakly referenced."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Whatever dies in these tests dies by reference count."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.requirement("R4.2")
def test_registered_models_die_by_reference_count() -> None:
    """A model dies with its last reference although it is registered, and its entry goes with it."""
    registry = ModelRegistry()
    model = Model()
    watched = ref(model)
    registry.register(model, name="m", job_id="job")
    assert registry.live_count() == registry.live_count("job") == 1
    assert registry.live_count("other") == 0
    del model
    assert watched() is None
    assert registry.live_count() == 0
    assert registry.survivors("job") == ()


def test_a_registry_does_not_grow_with_the_dead() -> None:
    """After thousands of models only the entries of the living are left."""
    registry = ModelRegistry()
    kept = Model()
    registry.register(kept)
    for _ in range(5000):
        registry.register(Model(), job_id="many")
    statistics = registry.statistics()
    assert (statistics.registered, statistics.died, statistics.live) == (5001, 5000, 1)
    assert statistics.live_by_type == (("Model", 1),)
    assert len(registry._entries) == len(registry._tokens) == 1
    assert not registry._died


def test_a_registry_dies_by_reference_count() -> None:
    """The registry is no part of a cycle, even while its models live."""
    registry, model = ModelRegistry(), Model()
    registry.register(model)
    watched = ref(registry)
    del registry
    assert watched() is None


def test_registering_twice_is_once_per_job() -> None:
    """The same model has one entry for each job it was registered for."""
    registry, model = ModelRegistry(), Model()
    first = registry.register(model, job_id="a")
    assert registry.register(model, job_id="a") == first
    assert registry.register(model, job_id="b") != first
    assert registry.live_count() == 2
    assert registry.unregister(first)
    assert not registry.unregister(first)
    assert registry.live_count("a") == 0
    statistics = registry.statistics()
    assert (statistics.registered, statistics.forgotten, statistics.died) == (2, 1, 0)


def test_a_place_in_memory_is_no_identity() -> None:
    """A new model in the place of a dead one is a new entry."""
    registry = ModelRegistry()
    places, tokens = set(), set()
    for _ in range(50):
        model = Model()
        places.add(id(model))
        tokens.add(registry.register(model))
        del model
    assert len(places) < 50, "memory was never used again, so the test shows nothing"
    assert len(tokens) == 50


@pytest.mark.parametrize("model", [{}, [], (), 1, "text", object(), None])
def test_what_has_no_weak_references_is_refused(model: object) -> None:
    """A model that cannot be referenced weakly is refused with the remedy."""
    with pytest.raises(TypeError, match="register the object that owns it"):
        ModelRegistry().register(model)


def test_slots_without_weak_references_are_refused() -> None:
    """A class whose slots leave no room is told what to add."""

    class Slotted:
        __slots__ = ("coefficients",)

    class Roomy:
        __slots__ = ("__weakref__", "coefficients")

    registry, roomy = ModelRegistry(), Roomy()
    with pytest.raises(TypeError, match="add '__weakref__' to its __slots__"):
        registry.register(Slotted())
    registry.register(roomy)
    assert registry.live_count() == 1


class Hostile:
    """Everything that a register might ask a model goes wrong."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    def __hash__(self) -> int:
        raise RuntimeError("hashed")

    def __bool__(self) -> bool:
        raise RuntimeError("asked for its truth")

    def __repr__(self) -> str:
        raise RuntimeError("shown")

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"asked for {name}")

    def __sizeof__(self) -> int:
        raise RuntimeError("measured")

    def __len__(self) -> int:
        raise RuntimeError("counted")

    @property
    def nbytes(self) -> int:
        raise RuntimeError("asked for its bytes")

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("asked for its class")


HELD: dict[str, object] = {}


def test_hostile_models_do_no_harm() -> None:
    """Models with a broken __eq__, __hash__, __class__ and so on are registered, told of and forgotten."""
    registry = ModelRegistry()
    hostile = Hostile()
    registry.register(hostile, job_id="job")
    HELD["hostile"] = hostile
    del hostile
    (survivor,) = registry.survivors("job")
    assert survivor.type_name == "Hostile"
    assert survivor.holders[0].chain == ("dict['...']", "Hostile")
    HELD.clear()
    assert registry.survivors("job") == ()


def test_survivors_are_told_with_their_holders() -> None:
    """Who outlived its job is told with name, type, size and holder; others are not."""
    registry = ModelRegistry()
    kept, dropped, elsewhere = Model(), Model(), Model()
    registry.register(kept, name="forest", job_id="job")
    registry.register(dropped, job_id="job")
    registry.register(elsewhere, job_id="other")
    HELD["a secret key"] = kept
    del kept, dropped
    (survivor,) = registry.survivors("job")
    HELD.clear()
    assert isinstance(survivor, Survivor)
    assert (survivor.name, survivor.type_name, survivor.job_id) == ("forest", "Model", "job")
    assert survivor.known_bytes > 0
    (holder,) = survivor.holders
    assert str(holder) == f"module {__name__}: HELD dict['...'] -> Model"
    assert str(survivor).startswith("forest (Model, ")
    assert "outlived job 'job'; held by module" in str(survivor)
    assert "secret" not in str(survivor)


def test_no_time_means_unfinished_not_silence() -> None:
    """Survivors beyond the time allowed are listed, with their search marked as unfinished."""
    registry = ModelRegistry()
    HELD["models"] = models = [Model() for _ in range(3)]
    for model in models:
        registry.register(model, job_id="job")
    del models, model
    survivors = registry.survivors("job", within_s=0)
    HELD.clear()
    assert len(survivors) == 3
    assert {each.holders[0].kind for each in survivors} == {HolderKind.UNFINISHED}


def test_models_that_die_during_the_look_are_no_survivors() -> None:
    """A model that dies while others are being explained is left out, without an error."""
    registry = ModelRegistry()
    late = [Model()]
    HELD["first"] = first = Model()

    class Trigger:
        @property
        def nbytes(self) -> int:
            late.clear()
            return 0

    first.trigger = Trigger()  # type: ignore[attr-defined]
    registry.register(first, name="first", job_id="job")
    registry.register(late[0], name="late", job_id="job")
    del first
    survivors = registry.survivors("job")
    HELD.clear()
    assert [each.name for each in survivors] == ["first"]


def test_many_threads_register_and_drop() -> None:
    """Threads that register, drop and count at the same time leave the figures right."""
    registry = ModelRegistry()
    begin = threading.Barrier(4)

    def work() -> None:
        begin.wait(PATIENCE_S)
        for _ in range(500):
            model = Model()
            registry.register(model, job_id="job")
            registry.live_count("job")
            del model

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    statistics = registry.statistics()
    assert (statistics.registered, statistics.died, statistics.live) == (2000, 2000, 0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_can_use_the_registry() -> None:
    """Locks that another thread held at the fork are free in the child."""
    registry, model = ModelRegistry(), Model()
    registry.register(model, job_id="job")
    inside, release = threading.Event(), threading.Event()

    def hold() -> None:
        from memguard.leaks import holders

        with registry._lock, holders._searching:
            inside.set()
            release.wait(PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(PATIENCE_S)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(len(registry.survivors("job")))
        finally:
            os._exit(99)
    _, status = os.waitpid(pid, 0)
    release.set()
    thread.join(PATIENCE_S)
    assert os.waitstatus_to_exitcode(status) == 1


@pytest.mark.requirement("R4.3")
def test_sizes_count_buffers_by_their_owner() -> None:
    """A small view tells of its large base, each buffer counts once, and classes do not count."""
    import numpy as np

    base = np.zeros(1_000_000)
    model = Model()
    model.view = base[:2]  # type: ignore[attr-defined]
    model.other = base[10:]  # type: ignore[attr-defined]
    model.days = np.zeros(1000, dtype="datetime64[D]")[::2]  # type: ignore[attr-defined]
    assert 8_008_000 < known_bytes(model) < 8_010_000
    assert known_bytes(memoryview(bytearray(5000))[:1]) >= 5000
    assert known_bytes(array("d", [0.0] * 1000)) >= 8000


@pytest.mark.requirement("R4.3")
def test_sizes_see_data_frames() -> None:
    """The columns of a frame that a model keeps count, without walking its strings."""
    import numpy as np
    import pandas as pd

    model = Model()
    model.frame = pd.DataFrame({"a": np.zeros(100_000), "b": np.ones(100_000)})  # type: ignore[attr-defined]
    model.series = pd.Series(np.zeros(50_000))  # type: ignore[attr-defined]
    assert 2_000_000 <= known_bytes(model) < 2_020_000


def test_sizes_are_bounded_work() -> None:
    """Neither a cycle nor a huge list makes a size endless."""
    model = Model()
    model.me = model  # type: ignore[attr-defined]
    model.many = [object() for _ in range(20_000)]  # type: ignore[attr-defined]
    model.deep = [[number] for number in range(4000)]  # type: ignore[attr-defined]
    assert 160_000 < known_bytes(model) < 2_000_000
    del model.me  # type: ignore[attr-defined]
