"""What a census keeps of a walk: numbers alone, so that a snapshot holds no object of the process."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from memguard.leaks.roots import RootKind
from memguard.leaks.type_facts import class_dict, is_type
from memguard.leaks.walk import Walk

__all__ = ["Snapshot", "array_bytes", "garbage_bytes", "named_spots", "snapshot_of", "types_of"]

# A spot below this is not noted: what it had before counts as nothing.
_SMALLEST_SPOT_BYTES: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What there was at one moment, in numbers.

    Attributes:
        containers: ids of everything that has a length.
        lengths: for each its length.
        weights: for each the bytes below it.
        spots: hashes of names that hold something: globals, attributes of classes, local variables.
        spot_weights: for each the bytes below it.
        types: hashes of the names of types.
        type_counts: for each how many objects.
        type_bytes: for each how many bytes.
        garbage_bytes: bytes that nothing but cycles held.
        count: objects in all.
        bytes: bytes in all, without those of cycles.
        array_bytes: the part of these that is buffers of arrays.
        is_complete: whether the walk came to an end.
    """

    containers: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    weights: array[int] = field(default_factory=lambda: array("q"))
    spots: array[int] = field(default_factory=lambda: array("q"))
    spot_weights: array[int] = field(default_factory=lambda: array("q"))
    types: array[int] = field(default_factory=lambda: array("q"))
    type_counts: array[int] = field(default_factory=lambda: array("q"))
    type_bytes: array[int] = field(default_factory=lambda: array("q"))
    garbage_bytes: int = 0
    count: int = 0
    bytes: int = 0
    array_bytes: int = 0
    is_complete: bool = True

    def parts(self) -> tuple[object, ...]:
        """Return the objects that a snapshot itself consists of."""
        return (
            self,
            self.containers,
            self.lengths,
            self.weights,
            self.spots,
            self.spot_weights,
            self.types,
            self.type_counts,
            self.type_bytes,
        )


def snapshot_of(found: Walk) -> Snapshot:
    """Return a walk in numbers."""
    below = found.subtree_bytes()
    snapshot = Snapshot(
        garbage_bytes=garbage_bytes(found, below),
        count=found.total_count(),
        bytes=found.total_bytes() - garbage_bytes(found, below),
        array_bytes=array_bytes(found),
        is_complete=found.is_complete,
    )
    facts_of = found.book.facts_of
    for here, node in enumerate(found.nodes):
        length_of = facts_of(node).count
        if length_of is not None:
            snapshot.containers.append(id(node))
            snapshot.lengths.append(length_of(node))
            snapshot.weights.append(below[here])
    for name, (count, weight) in types_of(found).items():
        snapshot.types.append(hash(name))
        snapshot.type_counts.append(count)
        snapshot.type_bytes.append(weight)
    for name, here in named_spots(found):
        if below[here] >= _SMALLEST_SPOT_BYTES:
            snapshot.spots.append(hash(name))
            snapshot.spot_weights.append(below[here])
    return snapshot


def types_of(found: Walk) -> dict[str, tuple[int, int]]:
    """Return how many objects and bytes there are of each type, by its name."""
    told: dict[str, tuple[int, int]] = {}
    for facts, count, weight in zip(found.book.in_order, found.counts, found.bytes, strict=False):
        had = told.get(facts.name, (0, 0))
        told[facts.name] = (had[0] + count, had[1] + weight)
    return told


def garbage_bytes(found: Walk, below: array[int]) -> int:
    """Return the bytes that nothing but cycles hold."""
    if found.garbage_from < 0:
        return 0
    return sum(below[here] for here in found.roots if here >= found.garbage_from)


def array_bytes(found: Walk) -> int:
    """Return the bytes of arrays, buffers included."""
    return sum(
        weight for facts, weight in zip(found.book.in_order, found.bytes, strict=False) if facts.is_buffer
    )


def named_spots(found: Walk) -> Iterator[tuple[str, int]]:
    """Yield names and places of what hangs directly below a name: globals, attributes of classes, variables."""
    for here, (kind, name) in list(found.roots.items()):
        if kind == RootKind.MODULE:
            yield from _named_in(found, here, found.nodes[here], name)
        elif kind != RootKind.HIDDEN:
            yield name, here
    for here, node in enumerate(found.nodes):
        if is_type(node):
            names = gc.get_referents(class_dict(node))[0]
            place = found.index.get(id(names), -1)
            if place >= 0 and found.parents[place] == here:
                yield from _named_in(found, place, names, f"class {id(node)}")


def _named_in(found: Walk, here: int, names: Any, owner: str) -> Iterable[tuple[str, int]]:
    index, parents = found.index, found.parents
    for name, value in list(dict.items(names)):
        place = index.get(id(value), -1)
        if place >= 0 and parents[place] == here and type(name) is str:
            yield f"{owner}.{name}", place
