"""One walk over all objects: from everything that has a name along every reference, untracked ones included.

Goes out: a `Walk`, which knows of each object that refers to others who led to it and what hangs below it. It holds
all of them, so it lives as long as one census and no longer. What no name leads to is sorted by reference counts, as
the collector does it: held from C, or by nothing but cycles.
"""

from __future__ import annotations

import gc
import sys
import time
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, Final

from memguard.leaks.roots import Root, RootKind, named_roots
from memguard.leaks.type_facts import TypeBook, TypeFacts

__all__ = ["NO_PARENT", "Walk", "WalkLimits", "walk"]

NO_PARENT: Final = -1
# A leaf that is larger is kept as a node, so that its place can be told.
_LARGE_LEAF_BYTES: Final = 1024
# Of containers with more entries not all references are listed at once: that list would be a spike of its own.
_LISTED: Final = 50_000
_NODES_PER_LOOK: Final = 2048
# References that `_hidden` itself has: the list, the loop's variable, and what getrefcount is given.
_OWN_REFERENCES: Final = 3


class WalkLimits:
    """Where a walk gives up.

    Args:
        time_s: seconds; a walk takes about 0.3 s with 100,000 objects.
        nodes: objects that refer to others; each costs about 120 bytes while the walk lasts.
    """

    __slots__ = ("nodes", "time_s")

    def __init__(self, time_s: float = 10.0, nodes: int = 5_000_000) -> None:
        self.time_s = time_s
        self.nodes = nodes


class Walk:
    """What one walk found.

    Attributes:
        book: what is known of the types.
        nodes: every object that was followed, roots first, each before what hangs below it.
        parents: for each its parent's place, `NO_PARENT` for a root.
        weights: for each its own bytes and those of leaves that it led to first.
        roots: for the place of a root its kind (see `RootKind`) and name.
        index: ids of all objects; a node's place, -1 for a leaf.
        counts: for each type of the book how many objects.
        bytes: for each type of the book how many bytes.
        garbage_from: place from which on nodes are held by nothing but cycles.
        is_complete: whether it came to an end.
    """

    def __init__(self, limits: WalkLimits) -> None:
        self.book = TypeBook()
        self.nodes: list[Any] = []
        self.parents = array("q")
        self.weights = array("q")
        self.roots: dict[int, tuple[str, str]] = {}
        self.index: dict[int, int] = {}
        self.counts: list[int] = []
        self.bytes: list[int] = []
        self.garbage_from = -1
        self.is_complete = True
        self._cursor = 0
        self._limits = limits
        self._give_up_s = time.monotonic() + limits.time_s

    def ignore(self, things: Iterable[object]) -> None:
        """Leave objects out, and what only they hold: the census's own."""
        for each in things:
            self.index[id(each)] = NO_PARENT

    def begin_at(self, roots: Iterable[Root]) -> None:
        """Follow everything below some roots."""
        for root in roots:
            if id(root.thing) not in self.index:
                facts = self.book.facts_of(root.thing)
                # Not the record itself: it refers to the thing, and would count as one more who holds it.
                self.roots[len(self.nodes)] = (root.kind, root.name)
                weight = facts.weigh(root.thing)
                self._count(facts.number, weight)
                self._add(root.thing, weight, NO_PARENT)
        self._follow()

    def _add(self, thing: object, weight: int, parent: int) -> None:
        self.index[id(thing)] = len(self.nodes)
        self.nodes.append(thing)
        self.parents.append(parent)
        self.weights.append(weight)

    def _count(self, number: int, weight: int) -> None:
        if number >= len(self.counts):
            more = number + 1 - len(self.counts)
            self.counts.extend([0] * more)
            self.bytes.extend([0] * more)
        self.counts[number] += 1
        self.bytes[number] += weight

    def _follow(self) -> None:
        """Follow what waits. Its loop runs for every reference of the process, so it is written out in one piece."""
        nodes, index = self.nodes, self.index
        known, learn, count, add = self.book.by_id.get, self.book.learn, self._count, self._add
        while self._cursor < len(nodes):
            here = self._cursor
            self._cursor += 1
            if here % _NODES_PER_LOOK == 0 and self._is_over():
                return
            node = nodes[here]
            below = 0
            for child in children(node, known(id(type(node))) or learn(node)):
                if id(child) in index:
                    continue
                facts = known(id(type(child))) or learn(child)
                weight = facts.weight if facts.weight >= 0 else facts.weigh(child)
                count(facts.number, weight)
                if facts.is_leaf and weight < _LARGE_LEAF_BYTES:
                    index[id(child)] = NO_PARENT
                    below += weight
                    continue
                add(child, weight, here)
                if len(nodes) % _NODES_PER_LOOK == 0 and self._is_over():
                    return
            self.weights[here] += below

    def _is_over(self) -> bool:
        if self.is_complete and (len(self.nodes) > self._limits.nodes or time.monotonic() > self._give_up_s):
            self.is_complete = False
        return not self.is_complete

    def subtree_bytes(self) -> array[int]:
        """Return for each node the bytes of all that hangs below it, itself included."""
        total = array("q", self.weights)
        parents = self.parents
        for here in range(len(total) - 1, -1, -1):
            parent = parents[here]
            if parent >= 0:
                total[parent] += total[here]
        return total

    def path_to(self, here: int) -> list[int]:
        """Return the places from a root to a node."""
        path = [here]
        while (parent := self.parents[path[-1]]) != NO_PARENT:
            path.append(parent)
        return path[::-1]

    def total_bytes(self) -> int:
        """Return the bytes of everything that was found."""
        return sum(self.bytes)

    def total_count(self) -> int:
        """Return how many objects were found."""
        return sum(self.counts)


def walk(limits: WalkLimits | None = None, *, ignoring: Iterable[object] = ()) -> Walk:
    """Walk over all objects of this process.

    Args:
        limits: where to give up; by default after ten seconds.
        ignoring: objects to leave out with what only they hold.
    """
    found = Walk(limits or WalkLimits())
    found.ignore([*ignoring, found, found.nodes, found.index, found.roots, found.counts, found.bytes])
    found.ignore([found.book, found.book.by_id, found.book.in_order, found.parents, found.weights])
    found.begin_at(named_roots())
    if found.is_complete:
        _walk_unnamed(found)
    return found


def _walk_unnamed(found: Walk) -> None:
    """Follow what no name leads to: first what C holds, then what nobody holds."""
    known = found.index
    rest = [each for each in gc.get_objects() if id(each) not in known]
    held = _held_from_c(rest)
    found.begin_at(Root(RootKind.HIDDEN, "held from C", each) for each in held)
    del held
    found.garbage_from = len(found.nodes)
    found.begin_at(Root(RootKind.HIDDEN, "held by nothing but a cycle", each) for each in rest)


def _held_from_c(rest: list[Any]) -> list[Any]:
    """Return those of which more references exist than the others and those below them have."""
    counts = {id(each): sys.getrefcount(each) - _OWN_REFERENCES for each in rest}
    for each in rest:
        for child in gc.get_referents(each):
            if id(child) in counts:
                counts[id(child)] -= 1
    return [each for each in rest if counts[id(each)] > 0]


def children(node: Any, facts: TypeFacts) -> Iterable[Any]:
    """Return what an object refers to; of a very large container in pieces, of numpy's array what it hides."""
    if facts.array_type is not None:
        return _array_children(node, facts.array_type)
    if facts.count is not None and facts.count(node) > _LISTED:
        return _in_pieces(node)
    return gc.get_referents(node)


def _in_pieces(node: Any) -> Iterator[Any]:
    kind = type(node)
    if not (issubclass(kind, dict | list | set)):
        yield from gc.get_referents(node)
        return
    base = next(each for each in (dict, list, set) if issubclass(kind, each))
    try:
        for each in base.items(node) if base is dict else base.__iter__(node):
            yield from each if base is dict else (each,)
    except RuntimeError:
        return  # another thread changed it meanwhile; what was seen of it counts


def _array_children(node: Any, array_type: Any) -> Iterator[Any]:
    base = array_type.base.__get__(node)
    if base is not None:
        yield base
    elif array_type.dtype.__get__(node).hasobject:
        yield from array_type.flat.__get__(node)
    yield from gc.get_referents(node)
