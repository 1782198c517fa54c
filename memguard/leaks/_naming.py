"""Names for the links of a chain of references: types, attributes, variables; never a value."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import CO_OPTIMIZED
from types import (
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
)
from typing import Any, Final, TypeGuard, TypeVar

from memguard.leaks.type_facts import class_dict, mro_of

__all__ = [
    "attribute_name",
    "holds_as_dict",
    "is_a",
    "is_namespace",
    "local_values",
    "name_in",
    "path_links",
    "type_name",
]

# A place in a larger container is not looked up: it would cost more than it tells.
_LARGEST_CONTAINER: Final = 10_000
# The frame's own reference, the variable here, and what getrefcount is given.
_REFERENCES_OF_ONE_READER: Final = 3

_T = TypeVar("_T")
# Past the metaclass, which may answer anything.
_name_of: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__


def is_a(thing: object, kind: type[_T]) -> TypeGuard[_T]:
    """Tell what an object is by its type alone; isinstance also asks its ``__class__``: foreign code."""
    return issubclass(type(thing), kind)


def type_name(thing: object) -> str:
    """Return the name of its type, which an object cannot fake as it can ``__class__``."""
    return _name_of(type(thing))


def path_links(path: Sequence[object]) -> list[str]:
    """Name the links along objects of which each holds the next; the last one is named by its type."""
    links = []
    place = 0
    while place < len(path) - 1:
        link, step = _link(path[place : place + 4])
        links.append(link)
        place += step
    return [*links, type_name(path[-1])]


def _link(ahead: Sequence[object]) -> tuple[str, int]:
    """Name how the first object leads on; tell how many objects of the path that explains."""
    holder, held = ahead[0], ahead[1]
    if len(ahead) > 2 and holds_as_dict(holder, held):
        return f"{type_name(holder)}.{name_in(held, ahead[2])}", 2
    if is_a(holder, FunctionType):
        return _function_link(holder, ahead)
    return _plain_link(holder, held), 1


def _function_link(function: FunctionType, ahead: Sequence[object]) -> tuple[str, int]:
    label = f"function {function.__qualname__}"
    cells = function.__closure__
    if cells is not None and ahead[1] is cells and len(ahead) > 3:
        variable = function.__code__.co_freevars[_index(cells, ahead[2])]
        return f"{label}: closure variable {variable}", 3
    return label, 1


def _plain_link(holder: object, held: object) -> str:
    if is_a(holder, dict):
        return f"{type_name(holder)}{_key_shape(holder, held)}"
    if type(holder) is list or type(holder) is tuple:
        return f"{type_name(holder)}[{_place(holder, held)}]"
    return _code_link(holder, held) or _attribute_link(holder, held)


def _code_link(holder: object, held: object) -> str:
    """Name a link through something that runs or ran; ``""`` for anything else."""
    if is_a(holder, FrameType):
        names = [name for name, place in local_values(holder) if place == id(held)]
        return f"ended function {holder.f_code.co_qualname}: {names[0] if names else 'an expression'}"
    if is_a(holder, GeneratorType) or is_a(holder, CoroutineType):
        return f"{type_name(holder)} {holder.__qualname__}"
    if is_a(holder, MethodType):
        return f"method of {type_name(holder.__self__)}"
    return "closure variable" if is_a(holder, CellType) else ""


def attribute_name(holder: object, held: object) -> str:
    """Return the attribute that leads from one object to another, past its class's code; ``""`` for none."""
    return name_in(_instance_dict(holder), held) or _slot_name(holder, held)


def _attribute_link(holder: object, held: object) -> str:
    name = attribute_name(holder, held)
    return f"{type_name(holder)}.{name}" if name else type_name(holder)


def name_in(namespace: object, value: object) -> str:
    """Return the name that ``value`` has in a namespace, ``""`` for none."""
    if not is_a(namespace, dict):
        return ""
    return next((str(name) for name, each in _items(namespace) if each is value), "")


def _items(mapping: dict[Any, Any]) -> list[tuple[Any, Any]]:
    # dict's own method: a subclass's may run code. A list: the dict may change meanwhile.
    return list(dict.items(mapping))


def _key_shape(mapping: dict[Any, Any], value: object) -> str:
    # Keys are data too (people, files, secrets): only that it is a text is told.
    if dict.__len__(mapping) > _LARGEST_CONTAINER:
        return "[...]"
    texts = any(each is value for key, each in _items(mapping) if type(key) is str)
    return "['...']" if texts else "[...]"


def _place(sequence: Sequence[object], value: object) -> str:
    if len(sequence) > _LARGEST_CONTAINER:
        return "..."
    place = _index(sequence, value)
    return str(place) if place >= 0 else "..."


def _index(sequence: Iterable[object], value: object) -> int:
    # Not .index(): it compares with ==, which a model may answer with an array or an error.
    return next((place for place, each in enumerate(sequence) if each is value), -1)


def holds_as_dict(holder: object, held: object) -> bool:
    """Tell whether one object is the other's ``__dict__``."""
    return is_a(held, dict) and held is _instance_dict(holder)


def is_namespace(holder: object, held: object) -> bool:
    """Tell whether one object is the other's ``__dict__``, be that of an object or of a class."""
    return is_a(holder, type) or holds_as_dict(holder, held)


def _instance_dict(thing: object) -> dict[str, object] | None:
    """Return its ``__dict__`` by the interpreter's own descriptor, past any property of that name."""
    for each in mro_of(type(thing)):
        descriptor = class_dict(each).get("__dict__")
        if is_a(descriptor, GetSetDescriptorType) or is_a(descriptor, MemberDescriptorType):
            found = descriptor.__get__(thing)
            return found if is_a(found, dict) else None
    return None


def _slot_name(thing: object, value: object) -> str:
    for each in mro_of(type(thing)):
        for name, descriptor in class_dict(each).items():
            if is_a(descriptor, MemberDescriptorType) and _slot_value(thing, descriptor) is value:
                return str(name)
    return ""


def _slot_value(thing: object, descriptor: MemberDescriptorType) -> object:
    try:
        return descriptor.__get__(thing)
    except AttributeError:
        return None  # a slot that was never set


def local_values(frame: FrameType) -> Iterator[tuple[str, int]]:
    """Yield the names of a function's local variables with the ids of their values.

    Before Python 3.13 a look at ``f_locals`` leaves a copy of all variables in the frame, which would
    keep them alive after the function has dropped them; so it is emptied again, unless somebody else
    has it (``locals()``, a debugger), and but for names that ``exec`` put there.
    """
    code = frame.f_code
    if not code.co_flags & CO_OPTIMIZED:
        return  # a module or a class body: its variables are a dict that the collector sees
    values = frame.f_locals
    names = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
    places = [(name, id(values[name])) for name in names if name in values]
    if isinstance(values, dict) and sys.getrefcount(values) <= _REFERENCES_OF_ONE_READER:
        for name in names:
            values.pop(name, None)
    del values
    yield from places
