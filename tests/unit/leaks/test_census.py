"""A census names what holds more than before, weighs it, and touches no object's own code."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from weakref import finalize

import pytest

from memguard.leaks.census import Census
from memguard.leaks.records import CacheFill, Culprit, Explained
from memguard.leaks.walk import WalkLimits, walk

ZOO = """
import functools, io, threading
from collections import OrderedDict, deque

import numpy

VIEWS, BOX, TABLES, CROWD = [], numpy.empty(200, dtype=object), {"alice@example.org": []}, []
CACHE, LOG, SET, DEQUE, ORDERED, BYTES = {}, [], set(), deque(), OrderedDict(), bytearray()
OUTER = {name: [] for name in range(20)}
RING = deque(maxlen=1000)
HEAD = None
TEXT = ""
STREAM = io.BytesIO()
LOCAL = threading.local()
LOCAL.rows = []

class Registry:
    entries = {}

class Hostile(type):
    '''A metaclass that answers no question.'''

    def __getattribute__(cls, name: str) -> object:
        raise RuntimeError(name)

    def __hash__(cls) -> int:
        raise RuntimeError

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError


class Nasty(dict, metaclass=Hostile):
    '''An object that answers no question either, or lies.'''

    def __len__(self) -> int:
        raise RuntimeError

    def __sizeof__(self) -> int:
        return 1 << 60

    def __repr__(self) -> str:
        raise RuntimeError

    def __iter__(self):
        raise RuntimeError

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)

    def __hash__(self) -> int:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    @property
    def __class__(self) -> type:
        raise RuntimeError

class Looped:
    def __init__(self):
        self.self = self
        self.block = bytearray(5000)

def add_nasty(i):
    one = dict.__new__(Nasty)
    dict.__setitem__(one, "payload", bytes(500))
    CROWD.append(one)

class Node:
    def __init__(self, next_one):
        self.next_one, self.payload = next_one, bytearray(100)

class Service:
    def __init__(self):
        self.history = []

class Bounded:
    def __init__(self):
        self.data, self.maxsize = {}, 5000

service, bounded = Service(), Bounded()

@functools.lru_cache(maxsize=1000)
def filling(i): return str(i) * 20

@functools.cache
def unbounded(i): return str(i) * 20

def make():
    kept = []
    def inner(i): kept.append(str(i) * 20)
    return inner
inner = make()

def with_default(i, seen=[]): seen.append(str(i) * 30)
def with_attribute(i): with_attribute.seen.append(str(i) * 30)
with_attribute.seen = []

def pause():
    rows = []
    while True:
        rows.append(str((yield)) * 20)
paused = pause()
next(paused)

try:
    def fail():
        held = []
        raise ValueError(held)
    fail()
except ValueError as error:
    FAILURE = error

def step(i):
    global HEAD, TEXT
    CACHE[f"key {i}"] = bytes(400)
    LOG.append({"row": i + 1000})
    SET.add(i + 10**6)
    DEQUE.append(str(i) * 9)
    ORDERED[i] = str(i) * 8
    BYTES.extend(bytes(90))
    for each in OUTER.values():
        each.append(i * 1.5)
    RING.append(str(i) * 7)
    HEAD = Node(HEAD)
    TEXT += "x" * 300
    STREAM.write(bytes(200))
    LOCAL.rows.append(str(i) * 10)
    Registry.entries[i] = str(i) * 11
    service.history.append((str(i), i))
    bounded.data[i] = str(i) * 12
    filling(i), unbounded(i), inner(i), with_default(i), with_attribute(i)
    paused.send(i)
    FAILURE.__traceback__.tb_next.tb_frame.f_locals["held"].append(str(i) * 13)
    VIEWS.append(numpy.zeros(10_000)[:2])
    BOX[i] = bytearray(3000)
    TABLES["alice@example.org"].append(i + 10**6)
    add_nasty(i)
    Looped()
"""


PROGRAM = """
import gc, pickle, sys, types
from memguard.leaks.census import Census

zoo = types.ModuleType("leaky_zoo")
sys.modules["leaky_zoo"] = zoo
exec(compile(sys.stdin.read(), "leaky_zoo.py", "exec"), zoo.__dict__)

def main():
    census, shown = Census(most_culprits=50), Census(most_culprits=50, contents=True)
    census.explain(census.take(), 1)  # what is made once for all, such as frames of running functions
    nothing = census.explain(census.take(), 100)
    gc.collect()
    gc.disable()  # for the cycles
    for number in range(10):
        zoo.step(number)
    before = census.take()
    for number in range(10, 110):
        zoo.step(number)
    found = [census.explain(before, 100), shown.explain(before, 100), nothing]
    sys.stdout.buffer.write(pickle.dumps(found))

main()
"""


@pytest.fixture(scope="module")
def findings() -> list[Explained]:
    """What a census of a fresh process says where everything leaks at once; the same with contents; and of no work."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=ZOO.encode(), stdout=subprocess.PIPE, check=True
    )
    found: list[Explained] = pickle.loads(done.stdout)
    return found


@pytest.fixture
def explained(findings: list[Explained]) -> Explained:
    """The findings without contents."""
    return findings[0]


def culprit(explained: Explained, holder: str) -> Culprit:
    found = [each for each in explained.culprits if each.holder.startswith(f"{holder}: ")]
    assert len(found) == 1, (holder, [each.holder for each in explained.culprits])
    return found[0]


@pytest.mark.parametrize(
    ("holder", "what"),
    [
        ("leaky_zoo.CACHE", "dict, +1 entries/iteration"),
        ("leaky_zoo.LOG", "list, +1 entries/iteration"),
        ("leaky_zoo.SET", "set, +1 entries/iteration"),
        ("leaky_zoo.DEQUE", "collections.deque, +1 entries/iteration"),
        ("leaky_zoo.ORDERED", "collections.OrderedDict, +1 entries/iteration"),
        ("leaky_zoo.BYTES", "bytearray, +90 bytes/iteration"),
        ("leaky_zoo.OUTER", "20 of list, +20 entries/iteration"),
        ("leaky_zoo.Registry.entries", "dict, +1 entries/iteration"),
        ("leaky_zoo.service.history", "list, +1 entries/iteration"),
        ("lru_cache of leaky_zoo.unbounded", "lru_cache, +1 entries/iteration"),
        ("closure variable kept of leaky_zoo.make.<locals>.inner", "list, +1 entries/iteration"),
        ("default argument seen of leaky_zoo.with_default", "list, +1 entries/iteration"),
        ("leaky_zoo.with_attribute.seen", "list, +1 entries/iteration"),
        ("thread-local leaky_zoo.LOCAL.rows", "list, +1 entries/iteration"),
    ],
)
def test_a_container_that_grew_is_named(explained: Explained, holder: str, what: str) -> None:
    """Wherever a container hangs, it is told by the name that leads to it, with its type and its rate."""
    assert culprit(explained, holder).holder == f"{holder}: {what}"


@pytest.mark.parametrize(
    ("holder", "kind", "least"),
    [("leaky_zoo.HEAD", "leaky_zoo.Node", 150), ("leaky_zoo.TEXT", "str", 290)],
)
def test_what_grows_without_a_container_is_named(
    explained: Explained, holder: str, kind: str, least: int
) -> None:
    """A linked list and a text that is replaced by a longer one are told by their name and weight."""
    found = culprit(explained, holder)
    assert found.type == kind
    assert least <= found.bytes_per_iteration <= 3 * least


def test_what_suspended_and_ended_functions_hold_is_named(explained: Explained) -> None:
    """The list of a generator and that of a frame which an exception keeps are found, with the way to them."""
    told = [each.holder for each in explained.culprits]
    assert any("leaky_zoo.paused" in each and "list" in each for each in told), told
    assert any("leaky_zoo.FAILURE" in each and "list" in each for each in told), told


def test_bytes_are_those_of_what_was_added(explained: Explained) -> None:
    """A dictionary is charged with its values: 400 bytes an entry, the key and the table's share on top."""
    assert 400 <= culprit(explained, "leaky_zoo.CACHE").bytes_per_iteration <= 700
    assert culprit(explained, "leaky_zoo.CACHE").chain[0] == "leaky_zoo.CACHE"


def test_caches_with_a_bound_are_filling(explained: Explained) -> None:
    """An lru_cache, a deque with maxlen and a class with a maxsize are told as filling, and as no culprits."""
    fills = {each.holder: each for each in explained.filling}
    assert {"lru_cache of leaky_zoo.filling", "leaky_zoo.RING", "leaky_zoo.bounded.data"} <= fills.keys()
    ring: CacheFill = fills["leaky_zoo.RING"]
    assert (ring.size, ring.bound, ring.per_iteration) == (110, 1000, 1.0)
    assert 880 <= ring.iterations_to_full <= 900
    assert not any(name in each.holder for each in explained.culprits for name in fills)


def test_caches_without_a_bound_are_told(explained: Explained) -> None:
    """Where nothing bounds a cache it is told as unbounded."""
    assert {"lru_cache of leaky_zoo.unbounded", "leaky_zoo.CACHE"} <= set(explained.unbounded)


def test_a_census_of_nothing_finds_nothing(findings: list[Explained]) -> None:
    """Between two censuses without work there is no culprit and next to no byte."""
    assert findings[2].culprits == ()
    assert abs(findings[2].object_bytes) < 40


def test_a_census_keeps_nothing_alive_and_leaves_the_collector_as_it_was() -> None:
    """What dies after a census dies at once, without a collection; and the collector is on or off as before."""

    class Thing:
        pass

    died: list[str] = []
    census, thing = Census(WalkLimits(nodes=20_000)), Thing()
    finalize(thing, died.append, "gone")
    before = census.take()
    assert gc.isenabled()
    del thing
    assert died == ["gone"]
    thing = Thing()
    finalize(thing, died.append, "gone too")
    gc.disable()
    try:
        census.explain(before, 1)
        assert not gc.isenabled()
        del thing
    finally:
        gc.enable()
    assert died == ["gone", "gone too"]


def test_cycles_that_nothing_holds_are_told_apart(explained: Explained) -> None:
    """With the collector off, objects that hold each other are unreachable bytes of their type, with the cycle."""
    assert 5000 <= explained.unreachable_bytes <= 6000
    assert explained.unreachable_type == "leaky_zoo.Looped"
    found = next(each for each in explained.culprits if each.holder == "")
    assert found.bytes_per_iteration == explained.unreachable_bytes
    assert "Looped.self" in " ".join(found.chain)


def test_a_view_is_charged_with_its_base(explained: Explained) -> None:
    """A list of small views weighs what their bases weigh, and the report says that views keep them."""
    found = culprit(explained, "leaky_zoo.VIEWS")
    assert found.type == "numpy.ndarray"
    assert 80_000 <= found.bytes_per_iteration <= 81_000
    assert explained.array_bytes == pytest.approx(found.bytes_per_iteration, rel=0.01)
    assert "110 views" in found.why
    assert "keep their whole bases" in found.why


def test_objects_in_an_array_of_objects_are_seen(explained: Explained) -> None:
    """What numpy's arrays of objects hide from the collector is counted below their name."""
    assert 3000 <= culprit(explained, "leaky_zoo.BOX").bytes_per_iteration <= 3200


def test_hostile_objects_are_counted_and_not_asked(findings: list[Explained]) -> None:
    """Objects whose every method raises or lies are counted by what they are, and not even shown."""
    for explained in findings[:2]:
        assert 500 <= culprit(explained, "leaky_zoo.CROWD").bytes_per_iteration <= 1000
    assert "cannot be shown" in culprit(findings[1], "leaky_zoo.CROWD").why


def test_keys_are_shown_only_if_asked_for(findings: list[Explained]) -> None:
    """A dictionary's key is told by its shape; with contents it is told itself."""
    assert "alice" not in str(findings[0])
    assert culprit(findings[0], "leaky_zoo.TABLES['...']").type == "int"
    assert culprit(findings[1], "leaky_zoo.TABLES['alice@example.org']").type == "int"


def test_a_walk_that_gives_up_says_so() -> None:
    """A walk with no time left, or too many objects, is told as incomplete and has what it saw until then."""
    for limits in (WalkLimits(time_s=0.0), WalkLimits(nodes=3000)):
        found = walk(limits)
        assert not found.is_complete
        assert 1000 < len(found.nodes) < 20_000
