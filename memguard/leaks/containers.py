"""What bounds a container, as far as it tells: a cache that is still filling is no leak.

A bound is a fact of the object (``lru_cache``, ``deque(maxlen)``), an attribute beside its data that is named like one
(``cachetools``, most handwritten caches), or a constant of its module that is.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any, Final

from memguard.leaks._naming import is_a
from memguard.leaks.type_facts import LruCache

__all__ = ["bound_of", "is_lru_cache", "is_unbounded_cache", "name_of_lru_cache"]

_NAMED_LIKE_A_BOUND: Final = re.compile(
    r"_*(.*__)?(max|capacity|limit|bound)(_?(size|len|length|entries|items|count|cache))*|.*_(capacity|limit|maxsize)"
)
_CONSTANT_OF_A_CACHE: Final = re.compile(r"(?=.*max)(?=.*cache)", re.IGNORECASE)
# A bound that no program reaches is none.
_LARGEST_BOUND: Final = 10_000_000
_CACHE: Final = re.compile(r"cache|memo", re.IGNORECASE)


def is_lru_cache(thing: object) -> bool:
    """Whether it is what `functools.lru_cache` makes of a function."""
    return is_a(thing, LruCache)


def name_of_lru_cache(cache: Any) -> str:
    """Return the name of the function that a ``lru_cache`` is around."""
    inner = cache.__dict__.get("__wrapped__") if type(cache) is LruCache else None
    return f"{inner.__module__}.{inner.__qualname__}" if is_a(inner, FunctionType) else ""


def bound_of(path: Sequence[Any]) -> int | None:
    """Return how many entries a container may have at most.

    Args:
        path: the objects that lead to it, it itself last; where it is an object's attribute or a module's global, its
            owner stands before it.

    Returns:
        ``None`` if nothing tells of a bound.
    """
    container = path[-1]
    if is_lru_cache(container):
        bound: int | None = LruCache.__dict__["cache_info"].__get__(container)()[2]
        return bound
    if is_a(container, deque):
        longest: int | None = deque.__dict__["maxlen"].__get__(container)
        return longest
    size = _length(container)
    return next((bound for bound in _told_beside(path) if size <= bound <= _LARGEST_BOUND), None)


def is_unbounded_cache(path: Sequence[Any], place: str) -> bool:
    """Whether a container is a cache that never forgets, by what it is or by what it is called."""
    if is_lru_cache(path[-1]):
        return bound_of(path) is None
    return _CACHE.search(place.rpartition(".")[2]) is not None


def _length(container: Any) -> int:
    kinds = (dict, list, set, bytearray)
    return next((base.__len__(container) for base in kinds if issubclass(type(container), base)), 0)


def _told_beside(path: Sequence[Any]) -> Iterator[int]:
    """Yield whole numbers that stand beside a container under a name such as ``maxsize``."""
    container = path[-1]
    for owner in path[-3:]:
        names = owner if is_a(owner, dict) and owner is not container else _attributes(owner)
        if "__name__" in names and "__spec__" in names:
            yield from _constants_of_a_module(names, container)
        elif owner is container or any(each is container for each in names.values()):
            yield from (
                value for name, value in _numbers(names) if _NAMED_LIKE_A_BOUND.fullmatch(name.lower())
            )


def _constants_of_a_module(names: dict[str, Any], container: Any) -> Iterator[int]:
    own = [name for name, value in list(names.items()) if value is container]
    if any(_CACHE.search(name) for name in own):
        yield from (value for name, value in _numbers(names) if _CONSTANT_OF_A_CACHE.search(name))


def _attributes(owner: Any) -> dict[str, Any]:
    try:
        found = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


def _numbers(names: dict[str, Any]) -> list[tuple[str, int]]:
    found = list(dict.items(names)) if len(names) < 5000 else []
    return [(name, value) for name, value in found if type(name) is str and type(value) is int]
