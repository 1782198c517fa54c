"""The place of an object in words that a programmer would write: ``app.CACHE['...'].rows``, from a path of objects.

Comes in: the objects on the way from a root, each of which refers to the next. Goes out: one expression. Keys of
dictionaries are data, so unless asked for they are told by their shape alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from types import (
    BuiltinFunctionType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MappingProxyType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import Any, Final
from weakref import ref

from memguard.leaks._naming import attribute_name, is_a, is_namespace, local_values, name_in
from memguard.leaks.roots import RootKind
from memguard.leaks.type_facts import LruCache, qualified_name

__all__ = ["place_of"]

_LONGEST_KEY: Final = 40
_LARGEST_LOOKED_THROUGH: Final = 10_000


def place_of(kind: str, name: str, path: Sequence[Any], *, contents: bool = False) -> str:
    """Return where the last object of a path is.

    Args:
        kind: of the root, see `RootKind`.
        name: of the root.
        path: objects from the root, the namespace of a module or the thing itself, to the one that is meant.
        contents: show keys of dictionaries, shortened.
    """
    text = name if kind == RootKind.MODULE else f"{name}: {qualified_name(type(path[0]))}"
    if kind == RootKind.VARIABLE:
        text = name
    here = 0
    while here < len(path) - 1:
        ahead = path[here : here + 4]
        if here == 0 and kind == RootKind.MODULE:
            text, step = _restarted(f"{text}.{name_in(ahead[0], ahead[1]) or '?'}", ahead[1]), 1
        else:
            text, step = _next(text, ahead, contents=contents)
        here += step
    return text


def _next(text: str, ahead: Sequence[Any], *, contents: bool) -> tuple[str, int]:
    """Take one step along a path; return the text with it, and how many objects it took."""
    holder, held = ahead[0], ahead[1]
    if len(ahead) > 2 and is_a(held, dict) and is_namespace(holder, held):
        return _restarted(f"{text}.{name_in(held, ahead[2]) or '?'}", ahead[2]), 2
    if is_a(holder, FunctionType):
        return _of_function(text, holder, ahead)
    if type(holder) is threading.local and len(ahead) > 3 and is_a(ahead[2], dict):
        return f"thread-local {text}.{name_in(ahead[2], ahead[3]) or '?'}", 3
    inside = "" if type(holder) is LruCache else _plain(holder, held, contents=contents)
    return f"{text}{inside}", 1


def _restarted(text: str, held: Any) -> str:
    """Prefer the name that a class or function has by itself to the first one that led to it."""
    if is_a(held, ModuleType):
        return str(held.__dict__.get("__name__", text))
    if is_a(held, type):
        return qualified_name(held)
    if is_a(held, FunctionType) and type(held.__module__) is str:
        return f"{held.__module__}.{held.__qualname__}"
    return text


def _of_function(text: str, function: FunctionType, ahead: Sequence[Any]) -> tuple[str, int]:
    cells, held = function.__closure__, ahead[1]
    if cells is not None and held is cells and len(ahead) > 3:
        place = _index(cells, ahead[2])
        name = function.__code__.co_freevars[place] if place >= 0 else "?"
        return f"closure variable {name} of {_name_of(function)}", 3
    if held is function.__defaults__ and len(ahead) > 2:
        return f"default argument {_default_name(function, ahead[2])} of {_name_of(function)}", 2
    if held is function.__kwdefaults__ and len(ahead) > 2:
        return f"default argument {name_in(held, ahead[2]) or '?'} of {_name_of(function)}", 2
    return text, 1


def _name_of(function: FunctionType) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _default_name(function: FunctionType, value: Any) -> str:
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount][-len(defaults) :]
    place = _index(defaults, value)
    return names[place] if 0 <= place < len(names) else "?"


def _plain(holder: Any, held: Any, *, contents: bool) -> str:
    if is_a(holder, dict):
        return _key(holder, held, contents=contents)
    if is_a(holder, list) or is_a(holder, tuple):
        place = _index(holder, held) if type(holder) in (list, tuple) else -1
        return f"[{place}]" if place >= 0 else "[...]"
    if is_a(holder, set) or is_a(holder, frozenset) or is_a(holder, deque):
        return "[...]"
    return _of_running(holder, held) or _attribute(holder, held)


def _of_running(holder: Any, held: Any) -> str:
    """Name a link through something that runs, ran or is bound; ``""`` for anything else."""
    if is_a(holder, FrameType):
        return f", frame of {holder.f_code.co_qualname}{_local(holder, held)}"
    if is_a(holder, TracebackType):
        return " traceback" if is_a(held, FrameType) else ""
    if is_a(holder, GeneratorType) or is_a(holder, CoroutineType):
        return f", suspended {holder.__qualname__}"
    if is_a(holder, MethodType) or is_a(holder, BuiltinFunctionType):
        return ".__self__" if held is holder.__self__ else ""
    if is_a(holder, ref):
        return " callback of a weak reference"
    return "" if not is_a(holder, CellType) else " closure variable"


def _local(frame: FrameType, held: Any) -> str:
    name = next((name for name, place in local_values(frame) if place == id(held)), "")
    return f", local variable {name}" if name else ""


def _attribute(holder: Any, held: Any) -> str:
    if is_a(holder, MappingProxyType) or is_a(holder, ModuleType):
        return ""
    name = attribute_name(holder, held)
    return f".{name}" if name else ""


def _key(mapping: dict[Any, Any], held: Any, *, contents: bool) -> str:
    if dict.__len__(mapping) > _LARGEST_LOOKED_THROUGH and not contents:
        return "[...]"
    for key, value in list(dict.items(mapping)):
        if value is held:
            return f"[{_shown_key(key, contents=contents)}]"
    return "[key]"


def _shown_key(key: Any, *, contents: bool) -> str:
    if not contents or type(key) not in (str, int, float, bytes, bool, tuple):
        return "'...'" if type(key) is str else "..."
    text = repr(key)
    return text if len(text) <= _LONGEST_KEY else f"{text[: _LONGEST_KEY - 3]}..."


def _index(sequence: Any, value: Any) -> int:
    if len(sequence) > _LARGEST_LOOKED_THROUGH:
        return -1
    return next((place for place, each in enumerate(sequence) if each is value), -1)
