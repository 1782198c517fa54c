"""What a census knows of a type: its name, how its objects are weighed and counted. Runs no code of the objects.

Everything is asked past the objects and their classes, through the interpreter's own descriptors: a ``__len__``, a
``__sizeof__``, a ``__class__`` or a metaclass that lies, raises or takes for ever is never called.
"""

from __future__ import annotations

import functools
import io
import sys
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType, GetSetDescriptorType, MethodDescriptorType
from typing import Any, Final, TypeGuard

__all__ = [
    "LruCache",
    "TypeBook",
    "TypeFacts",
    "class_dict",
    "class_dict_of_module",
    "has_base",
    "is_type",
    "mro_of",
    "qualified_name",
]

LruCache: Final[type] = type(functools.lru_cache(maxsize=1)(lambda: None))
_HAS_GC: Final = 1 << 14  # Py_TPFLAGS_HAVE_GC
_HEAP_TYPE: Final = 1 << 9
_MANAGED_DICT: Final = 1 << 4  # attributes lie in an array of their own beside the object (3.11 and later)
# The collector's header and the one for attributes, which no __sizeof__ tells of: two words each.
_HEADER_BYTES: Final = 16
_ALIGNMENT: Final = 16
# Nothing is larger; whoever says so lies.
_LARGEST_BYTES: Final = 1 << 47
# Containers whose length says how they grow; their subclasses are asked by these very methods.
_COUNTED: Final[tuple[tuple[type, Callable[[Any], int]], ...]] = (
    (dict, dict.__len__),
    (list, list.__len__),
    (set, set.__len__),
    (deque, deque.__len__),
    (bytearray, bytearray.__len__),
    (array, array.__len__),
    (io.BytesIO, io.BytesIO.__sizeof__),
)
_mro: Final[Any] = type.__dict__["__mro__"]
_dict: Final[Any] = type.__dict__["__dict__"]
_name: Final[Any] = type.__dict__["__qualname__"]
_itemsize: Final[Any] = type.__dict__["__itemsize__"]
_flags: Final[Any] = type.__dict__["__flags__"]


@dataclass(frozen=True, slots=True, eq=False)
class TypeFacts:
    """How objects of one type are weighed.

    Attributes:
        name: qualified, ``builtins`` left out.
        number: place in the book.
        is_leaf: whether its objects refer to nothing.
        array_type: numpy's array, if the type is that or descends from it.
        is_buffer: whether its bytes are those of an array of numbers.
        weight: bytes of each of its objects, where all are of one size; else -1.
        weigh: gives the bytes of an object, buffers that it owns included.
        count: gives its length, for a container; else ``None``.
        kind: the type, so that its id stays its own while the book is used.
    """

    name: str
    number: int
    is_leaf: bool
    array_type: type | None
    is_buffer: bool
    weight: int
    weigh: Callable[[Any], int]
    count: Callable[[Any], int] | None
    kind: type


class TypeBook:
    """What is known of each type that a walk has met. Used for one walk, for it keeps the types."""

    def __init__(self) -> None:
        # By id: a metaclass may define __hash__ and __eq__.
        self.by_id: dict[int, TypeFacts] = {}
        self.in_order: list[TypeFacts] = []
        self.array_type = _numpy_array_type()

    def facts_of(self, thing: object) -> TypeFacts:
        """Return what is known of an object's type."""
        return self.by_id.get(id(type(thing))) or self.learn(thing)

    def learn(self, example: object) -> TypeFacts:
        """Take note of a type that was not met before."""
        kind = type(example)
        is_array = self.array_type is not None and has_base(kind, self.array_type)
        count, weigh = _counter(kind), _weigher(kind)
        more = None if is_array else _buffer_beside(kind, example, weigh)
        facts = TypeFacts(
            name=qualified_name(kind),
            number=len(self.in_order),
            is_leaf=not _flags.__get__(kind) & _HAS_GC and not is_array and count is None,
            array_type=self.array_type if is_array else None,
            is_buffer=is_array or has_base(kind, array) or (more is not None and kind.__name__ != "mmap"),
            weight=weigh(example) if _has_one_size(kind) and more is None else -1,
            weigh=weigh if more is None else _sum_of(weigh, more),
            count=count,
            kind=kind,
        )
        self.by_id[id(kind)] = facts
        self.in_order.append(facts)
        return facts


def _numpy_array_type() -> type | None:
    numpy = sys.modules.get("numpy")
    found = None if numpy is None else class_dict_of_module(numpy).get("ndarray")
    return found if is_type(found) else None


def class_dict_of_module(module: object) -> dict[str, Any]:
    """Return a module's namespace, past a ``__getattribute__`` of its own."""
    found: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return found


def mro_of(kind: type) -> Sequence[type]:
    """Return a class's bases, itself first, past its metaclass."""
    found: Sequence[type] = _mro.__get__(kind)
    return found


def has_base(kind: type, base: type) -> bool:
    """Whether a class is another or descends from it; neither is compared, for a metaclass may define ``==``."""
    return any(each is base for each in mro_of(kind))


def class_dict(kind: type) -> Any:
    """Return a class's namespace, past its metaclass."""
    return _dict.__get__(kind)


def is_type(thing: object) -> TypeGuard[type]:
    """Whether it is a class, whatever its metaclass says."""
    return has_base(type(thing), type)


def qualified_name(kind: type) -> str:
    """Return ``module.Class``; for a builtin its name alone."""
    name: str = _name.__get__(kind)
    if not _flags.__get__(kind) & _HEAP_TYPE:
        full: str = type.__dict__["__module__"].__get__(kind)
        return name if full == "builtins" else f"{full}.{name}"
    module = class_dict(kind).get("__module__")
    return f"{module}.{name}" if type(module) is str and module != "builtins" else name


def _counter(kind: type) -> Callable[[Any], int] | None:
    if has_base(kind, LruCache):
        return _cached
    return next((count for base, count in _COUNTED if has_base(kind, base)), None)


def _cached(cache: Any) -> int:
    return int(LruCache.__dict__["cache_info"].__get__(cache)()[3])


def _sum_of(weigh: Callable[[Any], int], more: Callable[[Any], int]) -> Callable[[Any], int]:
    return lambda thing: weigh(thing) + more(thing)


def _weigher(kind: type) -> Callable[[Any], int]:
    sizeof = _own_sizeof(kind)
    flags = _flags.__get__(kind)
    header = (_HEADER_BYTES if flags & _HAS_GC else 0) + (_HEADER_BYTES if flags & _MANAGED_DICT else 0)

    def weigh(thing: Any) -> int:
        try:
            told = sizeof(thing)
        except Exception:  # noqa: BLE001 - code of an extension; its object weighs what its type says
            told = object.__sizeof__(thing)
        told = told + header + _ALIGNMENT - 1 & -_ALIGNMENT
        return told if 0 <= told < _LARGEST_BYTES else 0

    return weigh


def _has_one_size(kind: type) -> bool:
    return _itemsize.__get__(kind) == 0 and _own_sizeof(kind) is object.__sizeof__


def _own_sizeof(kind: type) -> Callable[[Any], int]:
    for base in mro_of(kind):
        found = class_dict(base).get("__sizeof__")
        # One in Python may compute anything (a data frame walks all its strings), or lie.
        if type(found) is MethodDescriptorType:
            return found if base is not object else object.__sizeof__
    return object.__sizeof__


def _buffer_beside(kind: type, example: object, weigh: Callable[[Any], int]) -> Callable[[Any], int] | None:
    """Return what gives the bytes of a buffer that the size of such an object does not include."""
    if kind is memoryview or any(
        type(class_dict(base).get("__buffer__")) is FunctionType for base in mro_of(kind)
    ):
        return None  # a view owns nothing; one in Python (3.12) is foreign code
    if _buffer_bytes(example) > weigh(example):
        return _buffer_bytes
    has_nbytes = type(class_dict(kind).get("nbytes")) is GetSetDescriptorType
    return _told_bytes if has_nbytes and not _flags.__get__(kind) & _HEAP_TYPE else None


def _buffer_bytes(thing: Any) -> int:
    try:
        with memoryview(thing) as view:
            return view.nbytes
    except (TypeError, ValueError, BufferError):
        return 0  # it has none, or it is closed


def _told_bytes(thing: Any) -> int:
    # pyarrow's tables and columns, whose buffers Python does not see.
    try:
        told = class_dict(type(thing))["nbytes"].__get__(thing)
    except Exception:  # noqa: BLE001 - code of an extension; what it cannot tell is not counted
        return 0
    return told if type(told) is int and 0 <= told < _LARGEST_BYTES else 0
