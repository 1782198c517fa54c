"""Who holds what became more: containers that grew, names below which it grew, types that multiplied.

Comes in: a snapshot and a later walk. Goes out: `Explained`. A container that is the same object as before and has
more entries is the best witness. Where there is none (a linked list, an array that is replaced by a longer one) the
name is told below which it grew, and what hangs from no name is told as held from C.
"""

from __future__ import annotations

import heapq
import io
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from memguard.leaks import chains, containers, places
from memguard.leaks._naming import is_a, is_namespace
from memguard.leaks.code_bounds import bound_in_code
from memguard.leaks.records import CacheFill, Culprit, Explained
from memguard.leaks.roots import RootKind
from memguard.leaks.snapshot import Snapshot, array_bytes, garbage_bytes, named_spots, types_of
from memguard.leaks.type_facts import qualified_name
from memguard.leaks.walk import NO_PARENT, Walk
from memguard.units import format_bytes

__all__ = ["MOST_CULPRITS", "explain"]

# As the channels' own floors have it: one entry in twenty iterations.
_LEAST_ENTRIES: Final = 0.05
_LEAST_SPOT_BYTES: Final = 16
MOST_CULPRITS: Final = 5
_MOST_GROWN: Final = 2000
# So many objects below a container are looked at to tell which type takes its bytes.
_MOST_LOOKED_AT: Final = 20_000


@dataclass(slots=True)
class _Grown:
    """A container that has more entries than it had."""

    here: int
    entries: int
    bytes: int


def explain(
    before: Snapshot, found: Walk, iterations: int, *, contents: bool = False, most: int = MOST_CULPRITS
) -> Explained:
    """Say what became more since a snapshot.

    Args:
        before: what there was.
        found: what there is.
        iterations: how many there were in between.
        contents: whether findings may show keys.
        most: how many culprits to name.
    """
    return _Comparison(before, found, iterations, contents=contents, most=most).explained()


class _Comparison:
    """One snapshot, one walk, and what lies between them."""

    def __init__(self, before: Snapshot, found: Walk, iterations: int, *, contents: bool, most: int) -> None:
        self._most = most
        self._before, self._found, self._iterations = before, found, iterations
        self._contents = contents
        self._below: array[int] = found.subtree_bytes()
        self._garbage = garbage_bytes(found, self._below) - before.garbage_bytes

    def explained(self) -> Explained:
        """Return all of it."""
        found, before, times = self._found, self._before, self._iterations
        bytes_more = found.total_bytes() - self._garbage - before.garbage_bytes - before.bytes
        grown = self._grown()
        filling, unbounded, leaking = self._sorted_by_bound(grown)
        # What a bounded cache takes has its explanation, and is nobody's guilt.
        unexplained = bytes_more - sum(each.bytes_per_iteration for each in filling) * times
        spots = self._spots_without(grown, unexplained)
        slots = {here: fill for here, weight in spots if (fill := self._slots_of(here, weight)) is not None}
        unexplained -= sum(each.bytes_per_iteration for each in slots.values()) * times
        culprits = self._culprits(leaking, [each for each in spots if each[0] not in slots], unexplained)
        return Explained(
            iterations=times,
            objects=(found.total_count() - before.count) / times,
            object_bytes=bytes_more / times,
            array_bytes=(array_bytes(found) - before.array_bytes) / times,
            unreachable_bytes=max(0, self._garbage) / times,
            unreachable_type=self._garbage_type() if self._garbage > 0 else "",
            filling=(*filling, *slots.values()),
            unbounded=unbounded,
            culprits=culprits,
        )

    def _grown(self) -> list[_Grown]:
        """Return containers that are the same objects as before and have more entries, most bytes first."""
        before, found = self._before, self._found
        had = {place: number for number, place in enumerate(before.containers)}
        least = max(2.0, _LEAST_ENTRIES * self._iterations)
        grown = []
        for here, node in enumerate(found.nodes):
            number = had.get(id(node))
            count = found.book.facts_of(node).count
            if number is None or count is None:
                continue
            entries = count(node) - before.lengths[number]
            if entries >= least:
                grown.append(_Grown(here, entries, self._below[here] - before.weights[number]))
        return heapq.nlargest(_MOST_GROWN, self._without_inner(grown), key=lambda each: each.bytes)

    def _without_inner(self, grown: list[_Grown]) -> Iterator[_Grown]:
        """Leave out what is a part of a cache that is told itself."""
        for each in grown:
            parent = self._found.parents[each.here]
            if parent == NO_PARENT or not containers.is_lru_cache(self._found.nodes[parent]):
                yield each

    def _sorted_by_bound(
        self, grown: Sequence[_Grown]
    ) -> tuple[tuple[CacheFill, ...], tuple[str, ...], list[_Grown]]:
        filling: list[CacheFill] = []
        unbounded: list[str] = []
        leaking: list[_Grown] = []
        for each in grown:
            path = self._path(each.here)
            bound = containers.bound_of(path)
            if bound is not None:
                filling.append(self._fill(each, bound))
                continue
            code = bound_in_code(path) if len(leaking) < self._most else None
            if code is not None and (code.bound is None or self._size(each) <= code.bound + 1):
                filling.append(self._fill(each, code.bound or 0, code.where))
                continue
            leaking.append(each)
            if len(leaking) <= self._most and containers.is_unbounded_cache(path, self._place(each.here)):
                unbounded.append(self._place(each.here))
        return tuple(filling), tuple(unbounded), leaking

    def _size(self, grown: _Grown) -> int:
        node = self._found.nodes[grown.here]
        count = self._found.book.facts_of(node).count
        assert count is not None
        return count(node)

    def _fill(self, grown: _Grown, bound: int, where: str = "") -> CacheFill:
        place, size, times = self._place(grown.here), self._size(grown), self._iterations
        return CacheFill(place, size, bound, grown.entries / times, grown.bytes / times, where)

    def _slots_of(self, here: int, weight: int) -> CacheFill | None:
        """Take a list that was made with empty slots, and that is as long as it was, for a ring that fills."""
        node = self._found.nodes[here]
        if type(node) is not list or not 0 < (empty := sum(each is None for each in node)) < len(node):
            return None
        had = dict(zip(self._before.containers, self._before.lengths, strict=True)).get(id(node))
        size = len(node) - empty
        rate = weight / self._iterations / max(1.0, self._below[here] / size)
        return (
            CacheFill(self._place(here), size, len(node), rate, weight / self._iterations)
            if had == len(node)
            else None
        )

    def _culprits(
        self, leaking: Sequence[_Grown], spots: Sequence[tuple[int, int]], bytes_more: float
    ) -> tuple[Culprit, ...]:
        told = [self._of_group(group) for group in self._grouped(leaking)]
        told += [self._of_spot(here, weight) for here, weight in spots]
        told += self._of_garbage()
        ranked = sorted(told, key=lambda each: -each.bytes_per_iteration)[: self._most]
        if sum(each.bytes_per_iteration for each in ranked) * self._iterations < bytes_more / 2:
            ranked += self._of_types()
        return tuple(ranked[: self._most])

    def _grouped(self, leaking: Sequence[_Grown]) -> Iterator[list[_Grown]]:
        """Gather containers that hang from the same one: a thousand lists in one dictionary are one finding."""
        groups: dict[int, list[_Grown]] = {}
        for each in leaking:
            parent = self._found.parents[each.here]
            groups.setdefault(parent if self._is_mere_container(parent) else each.here, []).append(each)
        for group in groups.values():
            if len(group) > 2:
                yield group
            else:
                yield from ([each] for each in group)

    def _is_mere_container(self, here: int) -> bool:
        """Whether it is a container, and not the namespace of a module, a class or an object."""
        if here == NO_PARENT or self._found.book.facts_of(self._found.nodes[here]).count is None:
            return False
        parent = self._found.parents[here]
        return parent != NO_PARENT and not is_namespace(self._found.nodes[parent], self._found.nodes[here])

    def _of_group(self, group: list[_Grown]) -> Culprit:
        first, times = group[0], self._iterations
        entries = sum(each.entries for each in group) / times
        weight = sum(each.bytes for each in group) / times
        kind, why = chains.heaviest_type(self._found, first.here, _MOST_LOOKED_AT)
        container = self._found.nodes[first.here]
        place = self._place(first.here)
        if len(group) > 1:
            place = f"{self._place(self._found.parents[first.here])}: {len(group)} of"
        separator = " " if len(group) > 1 else ": "
        shown = f", last entries {chains.last_entries(container)}" if self._contents else ""
        more = _more(entries, container)
        return Culprit(
            type=kind,
            holder=f"{place}{separator}{_told_type(container)}, {more}",
            bytes_per_iteration=weight,
            chain=chains.chain_of(self._found, first.here),
            why=f"{more} and {format_bytes(round(weight))} with each iteration{why}{shown}",
        )

    def _spots_without(self, grown: Sequence[_Grown], bytes_more: float) -> list[tuple[int, int]]:
        """Return names below which there is more, less what grown containers below them explain."""
        found = self._found
        spots = self._spots()
        for each in grown:
            for here in found.path_to(each.here):
                if here in spots:
                    spots[here] -= each.bytes
        for here in sorted(spots, reverse=True):  # inner names explain the outer ones
            for above in found.path_to(here)[:-1]:
                if above in spots and spots[here] > 0:
                    spots[above] -= spots[here]
        # More than grew in all is what another name led to before.
        least, most = _LEAST_SPOT_BYTES * self._iterations, 2 * bytes_more
        left = [(here, weight) for here, weight in spots.items() if least <= weight <= most]
        return heapq.nlargest(self._most, left, key=lambda each: each[1])

    def _spots(self) -> dict[int, int]:
        """Return places that have a name, and how many bytes more there are below it than before."""
        had: Counter[int] = Counter()
        for spot, weight in zip(self._before.spots, self._before.spot_weights, strict=True):
            had[spot] += weight
        more = {}
        for name, here in named_spots(self._found):
            # Several variables may have one name, in frames of one function.
            more[here] = self._below[here] - had[hash(name)]
            had[hash(name)] -= min(had[hash(name)], self._below[here])
        return more

    def _of_spot(self, here: int, weight: int) -> Culprit:
        kind, why = chains.heaviest_type(self._found, here, _MOST_LOOKED_AT)
        per_iteration = weight / self._iterations
        return Culprit(
            type=kind,
            holder=f"{self._place(here)}: {_told_type(self._found.nodes[here])}, "
            f"+{format_bytes(round(per_iteration))}/iteration",
            bytes_per_iteration=per_iteration,
            chain=chains.chain_of(self._found, here),
            why=f"what hangs from this name weighs {format_bytes(round(per_iteration))} more with each iteration{why}",
        )

    def _of_garbage(self) -> list[Culprit]:
        if self._garbage < _LEAST_SPOT_BYTES * self._iterations:
            return []
        weight = self._garbage / self._iterations
        return [
            Culprit(
                type=self._garbage_type(),
                holder="",
                bytes_per_iteration=weight,
                chain=chains.cycle_of(self._found),
                why=f"{format_bytes(round(weight))} with each iteration are held by nothing but reference cycles",
            )
        ]

    def _garbage_type(self) -> str:
        # Whose cycle it is tells more than what hangs from it, however little it weighs itself.
        start = max(0, self._found.garbage_from)
        return chains.heaviest_among(self._found, range(start, len(self._found.nodes)), worth=0.0)

    def _of_types(self) -> list[Culprit]:
        """Return the types that take what no holder explains, plumbing last."""
        before, times = self._before, self._iterations
        had = dict(zip(before.types, zip(before.type_counts, before.type_bytes, strict=True), strict=True))
        grown = []
        for name, (count, weight) in types_of(self._found).items():
            count_before, weight_before = had.get(hash(name), (0, 0))
            more = weight - weight_before
            if more >= _LEAST_SPOT_BYTES * times and count - count_before >= _LEAST_ENTRIES * times:
                grown.append((name in chains.PLUMBING, -more, name, count - count_before))
        return [self._of_type(name, -weight, count) for _, weight, name, count in sorted(grown)[: self._most]]

    def _of_type(self, name: str, weight: int, count: int) -> Culprit:
        here = chains.newest_of(self._found, name)
        rate = count / self._iterations
        return Culprit(
            type=name,
            holder=self._root(here),
            bytes_per_iteration=weight / self._iterations,
            chain=() if here is None else chains.chain_of(self._found, here),
            why=f"{rate:+.3g} objects of this type with each iteration, in no container that grew",
        )

    def _root(self, here: int | None) -> str:
        if here is None:
            return ""
        kind, _ = self._found.roots[self._found.path_to(here)[0]]
        return "" if kind == RootKind.HIDDEN else self._place(here)

    def _path(self, here: int) -> list[Any]:
        return [self._found.nodes[each] for each in self._found.path_to(here)]

    def _place(self, here: int) -> str:
        root = self._found.path_to(here)[0]
        kind, name = self._found.roots[root]
        node = self._found.nodes[here]
        if containers.is_lru_cache(node) and (around := containers.name_of_lru_cache(node)):
            return f"lru_cache of {around}"
        if root == here and kind == RootKind.HIDDEN:
            return name
        return places.place_of(kind, name, self._path(here), contents=self._contents)


def _told_type(container: object) -> str:
    return "lru_cache" if containers.is_lru_cache(container) else qualified_name(type(container))


def _more(entries: float, container: object) -> str:
    unit = "bytes" if is_a(container, bytearray) or is_a(container, io.BytesIO) else "entries"
    return f"+{entries:.3g} {unit}/iteration"
