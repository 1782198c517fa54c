"""The search for who holds an object: every kind of holder is found, named, and not disturbed."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType, SimpleNamespace
from weakref import ref

import pytest

from memguard.leaks import Holder, HolderKind, SearchLimits, find_holders

PATIENCE_S = 10.0
ENOUGH = SearchLimits(time_s=PATIENCE_S)


class Model:
    """What is searched for."""

    def fit(self) -> None:
        """Be a method that can be bound."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """A search neither needs nor calls the collector; cycles made here are freed afterwards."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.fixture
def module() -> Iterator[ModuleType]:
    made = ModuleType("mymod")
    sys.modules["mymod"] = made
    yield made
    del sys.modules["mymod"]


def told(hold: Callable[[Model], object]) -> list[str]:
    """Let ``hold`` keep a model by other means than its own variables; return who is said to hold it."""
    return [str(holder) for holder in searched(hold)]


def searched(hold: Callable[[Model], object]) -> tuple[Holder, ...]:
    model = Model()
    watched: ref[object] = ref(model)
    kept = [hold, hold(model)][1:]
    del model
    found = find_holders(watched, ENOUGH)
    del kept
    return found


# Modules and classes


def test_a_dict_in_a_module_is_named_without_its_key(module: ModuleType) -> None:
    """The module and its name for the container are told, the key is not: it may be data."""
    module.CACHE = {}  # type: ignore[attr-defined]
    assert told(lambda model: module.CACHE.update({"top secret": model})) == [
        "module mymod: CACHE dict['...'] -> Model"
    ]


def test_a_global_is_named(module: ModuleType) -> None:
    """A model that is a module's global itself is told by that name."""
    assert told(lambda model: setattr(module, "BEST", model)) == ["module mymod: BEST -> Model"]


def test_of_two_names_for_a_module_the_first_is_told(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that goes by an alias too (__mp_main__) is told by its own name."""
    monkeypatch.setitem(sys.modules, "alias_of_mymod", module)
    assert told(lambda model: setattr(module, "BEST", model)) == ["module mymod: BEST -> Model"]


def test_attributes_lists_and_tuples_are_named(module: ModuleType) -> None:
    """A longer chain is told link by link, with attributes and places."""
    module.STATE = SimpleNamespace()  # type: ignore[attr-defined]
    assert told(lambda model: setattr(module.STATE, "models", [None, (0, model)])) == [
        "module mymod: STATE SimpleNamespace.models -> list[1] -> tuple[1] -> Model"
    ]


def test_slots_and_instances_are_named(module: ModuleType) -> None:
    """Attributes are found in slots as in instance dicts."""

    class Slotted:
        __slots__ = ("unset", "winner")

    class Trainer:
        pass

    module.TRAINER = trainer = Trainer()  # type: ignore[attr-defined]
    trainer.slotted = slotted = Slotted()  # type: ignore[attr-defined]
    gone = ref(trainer)
    del trainer
    hold = partial(setattr, slotted, "winner")
    del slotted
    holders = told(hold)
    assert "module mymod: TRAINER Trainer.slotted -> Slotted.winner -> Model" in holders
    del module.TRAINER, hold
    assert gone() is None


def test_a_class_attribute_is_named() -> None:
    """A model that a class keeps is told by the class and the attribute."""

    class Trainer:
        pass

    try:
        holders = told(lambda model: setattr(Trainer, "best", model))
    finally:
        del Trainer.best  # type: ignore[attr-defined]
    name = f"{__name__}.{Trainer.__qualname__}"
    assert holders == [f"class {name}: best -> Model"]


def test_closures_partials_and_methods_are_named(module: ModuleType) -> None:
    """A callback that keeps a model is told by the function and its variable."""

    def hold(model: Model) -> None:
        def inner() -> Model:
            return model

        module.hook = inner  # type: ignore[attr-defined]

    assert told(hold) == [
        f"module mymod: hook function {hold.__qualname__}.<locals>.inner: closure variable model -> Model"
    ]
    assert told(lambda model: setattr(module, "hook", partial(print, model))) == [
        "module mymod: hook partial.args -> tuple[0] -> Model"
    ]
    assert told(lambda model: setattr(module, "hook", model.fit)) == [
        "module mymod: hook method of Model -> Model"
    ]


def test_a_kept_exception_is_told_with_the_function_that_ended(module: ModuleType) -> None:
    """A stored exception keeps the variables of every function it went through: the usual hidden leak."""

    def fit(model: Model) -> None:
        raise ValueError

    def hold(model: Model) -> None:
        try:
            fit(model)
        except ValueError as error:
            module.LAST = error.with_traceback(error.__traceback__.tb_next)  # type: ignore[attr-defined, union-attr]

    (holder,) = told(hold)
    assert holder.startswith("module mymod: LAST ValueError")
    assert holder.endswith(f"ended function {fit.__qualname__}: model -> Model")


def test_a_suspended_generator_is_named(module: ModuleType) -> None:
    """A generator that was never finished keeps its variables."""

    def batches(model: Model) -> Iterator[int]:
        yield id(model)

    def hold(model: Model) -> None:
        module.stream = batches(model)  # type: ignore[attr-defined]
        next(module.stream)

    assert told(hold) == [f"module mymod: stream generator {batches.__qualname__} -> Model"]


def test_several_holders_are_all_told(module: ModuleType) -> None:
    """Each direct holder is followed to its own beginning, nearest first."""

    def hold(model: Model) -> None:
        module.A = model  # type: ignore[attr-defined]
        module.B = [model]  # type: ignore[attr-defined]
        module.C = {1: {"x": model}}  # type: ignore[attr-defined]

    assert told(hold) == [
        "module mymod: A -> Model",
        "module mymod: B list[0] -> Model",
        "module mymod: C dict[...] -> dict['...'] -> Model",
    ]


def test_a_module_that_was_deleted_is_still_a_holder() -> None:
    """A module that is no longer in sys.modules, but alive, is told as such."""
    lost = ModuleType("lost")
    kinds = {holder.kind for holder in searched(lambda model: setattr(lost, "MODEL", model))}
    assert kinds == {HolderKind.MODULE}


# Running functions


@pytest.mark.requirement("R4.2")
def test_local_variables_are_told_and_not_kept() -> None:
    """Variables of running functions are named; looking at them does not keep their values alive."""
    model = Model()
    listed = [model]
    watched: ref[object] = ref(model)
    name = f"{__name__}.test_local_variables_are_told_and_not_kept"
    assert [str(holder) for holder in find_holders(watched, ENOUGH)] == [
        f"running function {name}: model -> Model",
        f"running function {name}: listed list[0] -> Model",
    ]
    del model
    assert [str(holder) for holder in find_holders(watched, ENOUGH)] == [
        f"running function {name}: listed list[0] -> Model"
    ]
    listed.clear()
    assert watched() is None
    assert find_holders(watched, ENOUGH) == ()


def test_names_made_by_exec_and_locals_are_left_alone() -> None:
    """A look at running functions changes nothing that they can see."""
    model = Model()
    watched: ref[object] = ref(model)
    mine = locals()
    exec("made_by_exec = 1")
    before = dict(mine)
    assert find_holders(watched, ENOUGH)
    assert {name: value for name, value in mine.items() if name in before} == before
    assert before["made_by_exec"] == mine["made_by_exec"] == 1


def test_names_made_by_exec_survive_when_nobody_else_looks() -> None:
    """What exec put beside the variables stays there, also when no copy of them is held."""
    if sys.version_info >= (3, 13):
        pytest.skip("exec no longer shares its names within a function")
    model = Model()
    watched: ref[object] = ref(model)
    exec("made_by_exec = 1")
    assert find_holders(watched, ENOUGH)
    assert eval("made_by_exec") == 1


def test_another_threads_variables_are_told() -> None:
    """A thread that still works with a model is told by its function."""
    inside, release = threading.Event(), threading.Event()
    watched: list[ref[object]] = []

    def trains() -> None:
        model = Model()
        watched.append(ref(model))
        inside.set()
        release.wait(PATIENCE_S)

    thread = threading.Thread(target=trains)
    thread.start()
    assert inside.wait(PATIENCE_S)
    holders = [str(holder) for holder in find_holders(watched[0], ENOUGH)]
    release.set()
    thread.join(PATIENCE_S)
    assert holders == [f"running function {__name__}.{trains.__qualname__}: model -> Model"]
    assert watched[0]() is None


# Cycles and what cannot be seen


def leave_cycle(make: Callable[[], Model]) -> ref[object]:
    return ref(make())


@pytest.mark.requirement("R4.1")
def test_a_model_that_holds_itself_is_a_cycle() -> None:
    """A model kept by itself only is told as a cycle with its types, and is still there: nothing collected it."""

    def make() -> Model:
        model = Model()
        model.child = [SimpleNamespace(parent=model)]  # type: ignore[attr-defined]
        return model

    watched = leave_cycle(make)
    (holder,) = find_holders(watched, ENOUGH)
    assert holder.kind is HolderKind.CYCLE
    assert str(holder) == "cycle: Model.child -> list[0] -> SimpleNamespace.parent -> Model"
    assert watched() is not None


@pytest.mark.requirement("R4.1")
def test_the_shortest_cycle_is_told() -> None:
    """An object that refers to itself is a cycle of one."""

    def make() -> Model:
        model = Model()
        model.me = model  # type: ignore[attr-defined]
        return model

    assert [str(each) for each in find_holders(leave_cycle(make), ENOUGH)] == ["cycle: Model.me -> Model"]


def test_a_model_behind_a_cycle_is_told_with_the_way() -> None:
    """A model that is not in the cycle but held by it is told with the way from the cycle to it."""

    def make() -> Model:
        left, right, model = SimpleNamespace(), SimpleNamespace(), Model()
        left.other, right.other, right.model = right, left, model
        return model

    (holder,) = find_holders(leave_cycle(make), ENOUGH)
    assert holder.kind is HolderKind.CYCLE
    assert holder.chain[-2:] == ("SimpleNamespace.model", "Model")
    assert holder.chain[:2] == ("SimpleNamespace.other", "SimpleNamespace.other")


@pytest.mark.requirement("R4.3")
def test_an_object_array_is_told_as_native(module: ModuleType) -> None:
    """NumPy does not show what an array of objects holds: that is said, also for a model in a cycle."""
    import numpy as np

    def hold(model: Model) -> None:
        model.me = model  # type: ignore[attr-defined]
        module.ARRAY = np.array([model], dtype=object)  # type: ignore[attr-defined]

    (holder,) = searched(hold)
    assert holder.kind is HolderKind.NATIVE
    assert str(holder) == "native code or a running expression: Model"


def test_the_search_is_bounded() -> None:
    """With no time, or too many objects on the way, the search says that it is unfinished."""
    model = Model()
    watched: ref[object] = ref(model)
    crowd = {number: [model] for number in range(50)}
    del model
    for limits in (SearchLimits(time_s=0.0), SearchLimits(time_s=PATIENCE_S, objects=10)):
        kinds = [holder.kind for holder in find_holders(watched, limits)]
        assert kinds == [HolderKind.UNFINISHED]
    crowd.clear()
    assert watched() is None


def test_a_large_container_is_not_searched(module: ModuleType) -> None:
    """The place in a very large container is left out, its type is told."""
    module.BIG = [None] * 20_000  # type: ignore[attr-defined]

    def hold(model: Model) -> None:
        # Not the method itself: in a variable it would be a holder of the list.
        module.BIG.append(model)

    assert told(hold) == ["module mymod: BIG list[...] -> Model"]


def test_a_search_leaves_nothing_behind(module: ModuleType) -> None:
    """A found object dies by reference count as soon as its holder lets go."""
    module.KEPT = Model()  # type: ignore[attr-defined]
    watched: ref[object] = ref(module.KEPT)
    assert len(find_holders(watched, ENOUGH)) == 1
    del module.KEPT
    assert watched() is None


def test_two_searches_at_once_do_not_find_each_other(module: ModuleType) -> None:
    """Threads that search at the same time give the same answer as one alone."""
    module.KEPT = [Model()]  # type: ignore[attr-defined]
    watched: ref[object] = ref(module.KEPT[0])
    begin = threading.Barrier(4)
    answers: list[tuple[str, ...]] = []

    def search() -> None:
        begin.wait(PATIENCE_S)
        answers.append(tuple(str(holder) for holder in find_holders(watched, ENOUGH)))

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == [("module mymod: KEPT list[0] -> Model",)] * 4
