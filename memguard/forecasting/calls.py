"""What tells one call of a function from another: the function, and the sizes of what it is given.

Comes in: a callable and its arguments. Goes out: a `Likeness`. No value of any data is kept: sizes, shapes,
numbers that are settings, and how many classes a classifier is given. It never raises, and takes well below a
millisecond for what is not nested deeply, some of them where classes are counted.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import inspect
import math
import numbers
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from memguard.estimate.likeness import Likeness
from memguard.forecasting.worlds import world_of_libraries
from memguard.redact import redact_text, says_secret
from memguard.sizing import TAKEN

__all__ = ["likeness_of_call", "sizes_of"]

_MOST_SETTINGS: Final = 10
_MOST_INSIDE: Final = 64
_MOST_TARGETS: Final = 2_000
_DEEPEST: Final = 3
_LONGEST_PATH: Final = 4096
_LONGEST_CHOICE: Final = 40
_MOST_PARAMETERS: Final = 400
# What is no setting of a model but how much it says, or where chance begins.
_WITHOUT_WEIGHT: Final = frozenset({"verbose", "random_state", "seed", "verbosity", "copy", "copy_X"})


def likeness_of_call(
    function: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> Likeness:
    """Return what tells a call from others.

    A method of an estimator (anything with ``get_params``) is of the kind of its class, with the parameters that are
    words and not the usual ones; its numbers are features, and so is how many words a list of them has. Of arguments
    the largest count of rows and of columns, the bytes of arrays and of files that are named, and numbers are features,
    also those of records; of a function inside another one, what it took from there counts as an argument.

    Args:
        function: what is called; what is inside a partial counts, with its arguments.
        args: positional arguments.
        kwargs: named ones.
    """
    try:
        return _likeness(function, args, dict(kwargs or {}))
    except Exception:  # noqa: BLE001 - what is called may be anything, and its own code may raise anything
        return Likeness(type(function).__qualname__, {}, world_of_libraries())


def _likeness(function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Likeness:
    while isinstance(function, functools.partial):
        args, named = (*function.args, *args), {**function.keywords, **named}
        function = function.func
    owner = getattr(function, "__self__", None)
    words, settings = _parameters(owner)
    given = [*((f"argument {at}", each) for at, each in enumerate(args)), *named.items()]
    choices, counted = _settings_among(given)
    tables = [*(each for _, each in given), owner, *_taken_along(function)]
    features = {**sizes_of(tables), **_classes(owner, args, named), **_cut(settings | counted)}
    kind = " ".join([_name(function, owner), *words, *choices])
    return Likeness(kind[:1000], features, world_of_libraries())


def _classes(owner: object, args: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, float]:
    """Return how many classes a classifier is given: its trees and coefficients have so many values in each place."""
    target = named.get("y", args[1] if len(args) > 1 else None)
    if not hasattr(target, "__len__") or not _classifies(owner):
        return {}
    try:
        return {"classes": float(_count_of_classes(target))}
    except Exception:  # noqa: BLE001 - a sparse matrix of labels has no length; the rest counts all the same
        return {}


def _count_of_classes(target: Any) -> int:
    # Some thousands of its targets show nearly all of them.
    step = max(1, -(-len(target) // _MOST_TARGETS))
    some = (target.iloc if hasattr(target, "iloc") else target)[::step]
    some = some.to_numpy() if hasattr(some, "to_numpy") else some
    found = some.tolist() if hasattr(some, "tolist") else list(some)
    return len({str(each) for each in found})


def _classifies(owner: object) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and hasattr(owner, "get_params") and bool(base.is_classifier(owner))


def _taken_along(function: Callable[..., Any]) -> list[Any]:
    """Return what a function took along from where it was made."""
    cells = getattr(function, "__closure__", None) or ()
    return [each.cell_contents for each in cells[:_MOST_INSIDE] if _is_filled(each)]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # nothing was put there yet
        return False


def _name(function: Callable[..., Any], owner: object) -> str:
    inner = getattr(function, "__name__", type(function).__qualname__)
    if owner is not None and not isinstance(owner, type) and type(owner).__module__ != "builtins":
        return f"{_module(type(owner))}.{type(owner).__qualname__}.{inner}"
    told = f"{_module(function)}.{getattr(function, '__qualname__', inner)}".strip(".")
    code = getattr(function, "__code__", None)
    if inner != "<lambda>" or code is None:
        return told
    # One in a module is called like all others there.
    words = repr((code.co_code, code.co_names)).encode()
    return f"{told} {hashlib.sha256(words).hexdigest()[:8]}"


def _module(thing: object) -> str:
    """Return where something was made; what is a program's own by the program, for each calls itself alike."""
    name = getattr(thing, "__module__", None) or ""
    if name != "__main__":
        return str(name)
    program = sys.modules.get("__main__")
    spec, file = getattr(program, "__spec__", None), getattr(program, "__file__", None)
    if spec is not None:
        return str(spec.name)
    return os.path.realpath(file) if file and os.path.isfile(file) else name


def _parameters(owner: object) -> tuple[list[str], dict[str, float]]:
    """Return the parameters of an estimator that say what it does, as ``name=word``, and the numbers."""
    words, settings = [], dict[str, float]()
    found = sorted(_get_params(owner).items())[:_MOST_PARAMETERS]
    usual = {name: _usual(name, owner, dict(found)) for name, _ in found}
    # Those that somebody chose come first: of numbers only so many count.
    for name, value in sorted(found, key=lambda each: _is_same(each[1], usual[each[0]])):
        if name.rpartition("__")[2] in _WITHOUT_WEIGHT or says_secret(name):
            continue
        if (number := _number(value)) is not None:
            settings[name] = number
            if usual[name] is None:  # it bounds what has no bound without it
                words.append(name)
        elif (count := _count_of_words(value)) is not None:
            settings[name] = count
        elif not _is_same(value, usual[name]) and (told := _word(value)) is not None:
            # An address can have a password in it, whatever it is called.
            words.append(f"{name}={redact_text(told)[:_LONGEST_CHOICE]}")
    return sorted(words), settings


def _usual(name: str, owner: object, found: Mapping[str, Any]) -> Any:
    """Return what a parameter is where nobody says; that of a part of an estimator by the part."""
    part, _, last = name.rpartition("__")
    kind: Any = type(found.get(part) if part else owner)
    return _defaults(kind).get(last, inspect.Parameter.empty)


@functools.lru_cache(maxsize=256)
def _defaults(kind: type) -> Mapping[str, Any]:
    try:
        signature = inspect.signature(kind)
    except (TypeError, ValueError):  # it has none that can be read
        return {}
    return {each.name: each.default for each in signature.parameters.values()}


def _is_same(one: object, other: object) -> bool:
    return type(one) is type(other) and isinstance(one, bool | int | float | str | None) and one == other


def _word(value: object) -> str | None:
    """Return what chooses what is done; ``None`` for what does not."""
    if isinstance(value, bool | str | enum.Enum):
        return str(value)
    if value is None or isinstance(value, numbers.Real):
        return str(value)
    return type(value).__qualname__ if hasattr(value, "get_params") else None


def _count_of_words(value: object) -> float | None:
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    return float(len(value)) if all(isinstance(each, str) for each in value) else None


def _get_params(owner: object) -> dict[str, Any]:
    ask = getattr(owner, "get_params", None)
    if ask is None or isinstance(owner, type):
        return {}
    try:
        found = ask()
    except Exception:  # noqa: BLE001 - the estimator's own code; without parameters it is sized by its class
        return {}
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}


def _settings_among(given: list[tuple[str, Any]]) -> tuple[list[str], dict[str, float]]:
    """Return which arguments are switches, as ``name=True``, and which are numbers; those of records too."""
    every = [
        (inner, found)
        for name, value in given[:_MOST_INSIDE]
        for inner, found in _fields_of(name, value)
        if not says_secret(inner)
    ]
    choices = [f"{name}={value}" for name, value in every if isinstance(value, bool | enum.Enum)]
    counted = {name: count for name, value in every if (count := _number(value)) is not None}
    return choices, counted


def _fields_of(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        yield name, value
        return
    for each in dataclasses.fields(value)[:_MOST_INSIDE]:
        inner = getattr(value, each.name, None)
        count = _count_of_words(inner)
        yield each.name, inner if count is None else count


def _number(value: object) -> float | None:
    """Return a number that is a size, a count or a setting; one below 0 is none, but a sign for something else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if 0 <= number <= 1e300 else None


def _cut(settings: dict[str, float]) -> dict[str, float]:
    named = {f"argument {name}" if name in TAKEN else name: value for name, value in settings.items()}
    return dict(sorted(list(named.items())[:_MOST_SETTINGS]))


def sizes_of(values: Iterable[Any]) -> dict[str, float]:
    """Return what values take together, and the most rows and columns of one; nothing where none has a size.

    Args:
        values: arrays, frames, sparse matrices, texts, paths of files, and lists and mappings of such.
    """
    found = [each for value in values for each in _tables(value, 0)]
    if not found:
        return {}
    return {
        "input_bytes": float(sum(size for _, _, size in found)),
        "rows": float(max(rows for rows, _, _ in found)),
        "columns": float(max(columns for _, columns, _ in found)),
    }


def _tables(value: Any, depth: int) -> Iterator[tuple[int, int, int]]:
    """Yield rows, columns and bytes of whatever has such, also inside lists and mappings."""
    try:
        if value is None or isinstance(value, numbers.Number | type):
            return
        if isinstance(value, bytes | bytearray | memoryview):
            yield len(value), 1, len(value)
        elif isinstance(value, str | os.PathLike):
            yield from _file(value)
        elif isinstance(shape := getattr(value, "shape", None), tuple):
            rows, columns = int(shape[0]) if shape else 1, math.prod(int(each) for each in shape[1:])
            yield rows, columns, _bytes_of(value)
        elif depth < _DEEPEST and isinstance(value, list | tuple | set | dict):
            yield from _inside(value, depth)
    except Exception:  # noqa: BLE001 - the value's own code may raise anything; it then counts for nothing
        return


def _inside(value: Any, depth: int) -> Iterator[tuple[int, int, int]]:
    yield len(value), 1, 0
    members = value.values() if isinstance(value, dict) else value
    for each, _ in zip(members, range(_MOST_INSIDE), strict=False):
        yield from _tables(each, depth + 1)


def _file(value: str | os.PathLike[str]) -> Iterator[tuple[int, int, int]]:
    path = os.fspath(value)
    if len(path) <= _LONGEST_PATH and os.path.isfile(path):
        yield 0, 0, os.stat(path).st_size
    elif isinstance(value, str):
        yield 0, 0, len(value)


def _bytes_of(value: Any) -> int:
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    if callable(ask := getattr(value, "memory_usage", None)):
        told = ask()
        return int(told.sum() if hasattr(told, "sum") else told)
    # A sparse matrix keeps its parts as arrays.
    parts = (getattr(value, name, None) for name in ("data", "indices", "indptr", "row", "col"))
    return sum(int(getattr(each, "nbytes", 0)) for each in parts if each is not None)
