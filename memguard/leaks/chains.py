"""Chains of references in words, and what hangs at their ends: which type takes the bytes, which views keep a base."""

from __future__ import annotations

import reprlib
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from memguard.leaks._naming import is_a, name_in, path_links, type_name
from memguard.leaks.roots import RootKind
from memguard.leaks.walk import NO_PARENT, Walk, children
from memguard.units import format_bytes

__all__ = ["PLUMBING", "chain_of", "cycle_of", "heaviest_among", "heaviest_type", "last_entries", "newest_of"]

# What everything is made of: told only where nothing else grew.
PLUMBING: Final = frozenset(
    {
        "NoneType", "bool", "bytearray", "bytes", "cell", "code", "collections.deque", "collections.OrderedDict",
        "dict",
        "float", "frame", "frozenset", "function", "getset_descriptor", "int", "list", "method", "module",
        "set", "str", "traceback", "tuple", "type", "weakref.ReferenceType", "_thread.lock", "_thread.RLock",
        "builtin_function_or_method", "functools._lru_cache_wrapper", "mappingproxy", "object",
    }
)  # fmt: skip
# An object of the growing type must take this share of the bytes to be told before what everything is made of.
_WORTH_TELLING: Final = 0.1
_LONGEST_CHAIN: Final = 12
_SHOWN_ENTRIES: Final = 3
# Where a cycle is looked for, and how far.
_MOST_STARTS: Final = 50
_MOST_ON_CYCLE: Final = 1000


def chain_of(found: Walk, here: int) -> tuple[str, ...]:
    """Return the shortest way from a root to a node, in types and names."""
    path = found.path_to(here)
    kind, name = found.roots[path[0]]
    things = [found.nodes[each] for each in path]
    if kind == RootKind.MODULE and len(things) > 1:
        return _shortened([f"{name}.{name_in(things[0], things[1]) or '?'}", *path_links(things[1:])])
    return _shortened([name, *path_links(things)])


def _shortened(links: Sequence[str]) -> tuple[str, ...]:
    if len(links) <= _LONGEST_CHAIN:
        return tuple(links)
    half = _LONGEST_CHAIN // 2
    left_out = len(links) - 2 * half
    return (*links[:half], f"... {left_out} more ...", *links[-half:])


def cycle_of(found: Walk) -> tuple[str, ...]:
    """Return the links of one cycle that nothing else holds, from an object to itself."""
    inside = {id(each) for each in found.nodes[found.garbage_from :]}
    starts = [here for here in found.roots if here >= found.garbage_from][-_MOST_STARTS:]
    for start in reversed(starts):
        if path := _way_back(found, found.nodes[start], inside):
            return ("cycle", *_shortened(path_links(path)))
    return ()


def _way_back(found: Walk, start: Any, inside: set[int]) -> list[Any]:
    """Return the shortest way from an object to itself through objects of a set, ``[]`` for none."""
    came_from: dict[int, Any] = {}
    queue = deque([start])
    while queue and len(came_from) < _MOST_ON_CYCLE:
        each = queue.popleft()
        for child in children(each, found.book.facts_of(each)):
            if child is start:
                path = [start, each]
                while path[-1] is not start:
                    path.append(came_from[id(path[-1])])
                return path[::-1]
            if id(child) in inside and id(child) not in came_from:
                came_from[id(child)] = each
                queue.append(child)
    return []


def heaviest_type(found: Walk, here: int, most: int) -> tuple[str, str]:
    """Return the type that takes the bytes below a node, plumbing last, and a word on views that keep a base.

    Args:
        found: the walk.
        here: the node.
        most: how many objects to look at, the newest first.
    """
    below = _below(found, here, most)
    kind = heaviest_among(found, below)
    return kind or found.book.facts_of(found.nodes[here]).name, _told_views(found, below)


def _below(found: Walk, here: int, most: int) -> list[int]:
    """Return nodes below a node. A node stands behind its parent, so one pass in order finds all."""
    inside = bytearray(len(found.nodes))
    inside[here] = 1
    parents = found.parents
    for each in range(here + 1, len(parents)):
        if parents[each] >= here and inside[parents[each]]:
            inside[each] = 1
    below = [each for each in range(here, len(parents)) if inside[each]]
    return [here, *below[1:][-most:]]


def heaviest_among(found: Walk, below: Iterable[int], worth: float = _WORTH_TELLING) -> str:
    """Return the type that takes most bytes among nodes and their leaves; plumbing only where nothing else counts.

    Args:
        found: the walk.
        below: places of the nodes.
        worth: share of the bytes that a type must have to be told before plumbing.
    """
    weights: Counter[str] = Counter()
    leaves: set[int] = set()  # one that many refer to weighs once
    for here in below:
        node = found.nodes[here]
        facts = found.book.facts_of(node)
        weights[facts.name] += facts.weigh(node)
        for child in children(node, facts):
            if found.index.get(id(child)) == NO_PARENT and id(child) not in leaves:
                leaves.add(id(child))
                leaf = found.book.facts_of(child)
                weights[leaf.name] += leaf.weigh(child)
    total = sum(weights.values())
    own = [name for name, weight in weights.most_common() if name not in PLUMBING and weight > worth * total]
    names = own or [name for name, _ in weights.most_common()]
    return names[0] if names else ""


def _told_views(found: Walk, below: Iterable[int]) -> str:
    """Say that views keep their whole bases, where they keep more than they show."""
    array_type: Any = found.book.array_type
    if array_type is None:
        return ""
    shown = kept = views = 0
    for here in below:
        node, parent = found.nodes[here], found.parents[here]
        if parent != NO_PARENT and is_a(node, array_type) and is_a(found.nodes[parent], array_type):
            views += 1
            shown += array_type.nbytes.__get__(found.nodes[parent])
            kept += array_type.nbytes.__get__(node)
    if kept <= 2 * shown:
        return ""
    return (
        f"; {views} views of {format_bytes(shown)} in all keep their whole bases, {format_bytes(kept)}: "
        "store a copy of the part (`.copy()`)"
    )


def newest_of(found: Walk, name: str) -> int | None:
    """Return the place of the node of a type that was reached last; ``None`` if its objects are leaves."""
    facts_of = found.book.facts_of
    return next(
        (here for here in range(len(found.nodes) - 1, -1, -1) if facts_of(found.nodes[here]).name == name),
        None,
    )


def last_entries(container: Any) -> str:
    """Return the newest entries of a container as text, shortened. This runs their own ``__repr__``."""
    return ", ".join(map(_shown, _newest(container))) or "none that can be shown"


def _newest(container: Any) -> list[Any]:
    if is_a(container, dict):
        return list(islice(dict.__reversed__(container), _SHOWN_ENTRIES))
    if is_a(container, list):
        return list.__getitem__(container, slice(-_SHOWN_ENTRIES, None))
    return list(islice(container, _SHOWN_ENTRIES)) if type(container) in (set, bytearray) else []


def _shown(entry: object) -> str:
    try:
        return reprlib.repr(entry)
    except Exception as failure:  # noqa: BLE001 - the entry's own code; it must not cost the report
        return f"({type_name(entry)} that cannot be shown: {type(failure).__name__})"
