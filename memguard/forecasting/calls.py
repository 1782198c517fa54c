"""What tells one call of a function from another: the function, and the sizes of what it is given.

Comes in: a callable and its arguments. Goes out: a `Likeness`. No value of any data is looked at: sizes, shapes and
numbers that are settings. It never raises, and takes well below a millisecond for what is not nested deeply.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from memguard.estimate.likeness import Likeness
from memguard.forecasting.worlds import world_of_libraries
from memguard.redact import says_secret

__all__ = ["likeness_of_call", "sizes_of"]

_MOST_SETTINGS: Final = 10
_MOST_INSIDE: Final = 64
_DEEPEST: Final = 3
_LONGEST_PATH: Final = 4096
_LONGEST_CHOICE: Final = 40
_MOST_PARAMETERS: Final = 100
# What is no setting of a model but how much it says, or where chance begins.
_WITHOUT_WEIGHT: Final = frozenset({"verbose", "random_state", "seed", "verbosity", "copy", "copy_X"})


def likeness_of_call(
    function: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> Likeness:
    """Return what tells a call from others.

    A method of an estimator (anything with ``get_params``) is of the kind of its class, with the parameters that are
    words; its numbers are features. Of arguments the largest count of rows and of columns, the bytes of arrays and of
    files that are named, and numbers are features.

    Args:
        function: what is called; what is inside a partial counts, with its arguments.
        args: positional arguments.
        kwargs: named ones.
    """
    named = dict(kwargs or {})
    while isinstance(function, functools.partial):
        args, named = (*function.args, *args), {**function.keywords, **named}
        function = function.func
    owner = getattr(function, "__self__", None)
    words, settings = _parameters(owner)
    given = [*((f"argument {at}", each) for at, each in enumerate(args)), *named.items()]
    choices, numbers = _settings_among(given)
    features = {**sizes_of([*(each for _, each in given), owner]), **_cut({**numbers, **settings})}
    kind = " ".join([_name(function, owner), *words, *choices])
    return Likeness(kind[:1000], features, world_of_libraries())


def _name(function: Callable[..., Any], owner: object) -> str:
    inner = getattr(function, "__name__", type(function).__qualname__)
    if owner is not None and not isinstance(owner, type) and type(owner).__module__ != "builtins":
        return f"{type(owner).__module__}.{type(owner).__qualname__}.{inner}"
    return f"{getattr(function, '__module__', None) or ''}.{getattr(function, '__qualname__', inner)}".strip(
        "."
    )


def _parameters(owner: object) -> tuple[list[str], dict[str, float]]:
    """Return the parameters of an estimator: those that are words as ``name=word``, and the numbers."""
    words, numbers = [], dict[str, float]()
    for name, value in sorted(_get_params(owner).items())[:_MOST_PARAMETERS]:
        if name.rpartition("__")[2] in _WITHOUT_WEIGHT:
            continue
        if isinstance(value, bool | str) or (value is not None and hasattr(value, "get_params")):
            told = type(value).__qualname__ if not isinstance(value, bool | str) else str(value)
            words.append(f"{name}={told[:_LONGEST_CHOICE]}")
        elif _is_number(value):
            numbers[name] = float(value)
    return words, numbers


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
    """Return which arguments are switches, as ``name=True``, and which are numbers."""
    choices = [f"{name}={value}" for name, value in given[:_MOST_INSIDE] if isinstance(value, bool)]
    numbers = {
        name: float(value)
        for name, value in given[:_MOST_INSIDE]
        if _is_number(value) and not says_secret(name)
    }
    return choices, numbers


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= 1e300 and math.isfinite(value)


def _cut(numbers: dict[str, float]) -> dict[str, float]:
    return dict(sorted(numbers.items())[:_MOST_SETTINGS])


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
        if value is None or isinstance(value, bool | int | float | complex | type):
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
