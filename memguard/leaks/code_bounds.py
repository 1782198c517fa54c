"""What a program's own text says about a container: that it is emptied at times, or looked at for its length.

A buffer that is written out when it has a hundred rows grows for a hundred iterations as a leak does; no statistics of
forty tell them apart, but the function that fills it does. Only that very function counts: a registry whose entries
some other function removes may well be one that nobody calls.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from memguard.leaks._naming import is_a

__all__ = ["CodeBound", "bound_in_code", "bounds_in"]

_GROWING: Final = frozenset(
    {"add", "append", "appendleft", "extend", "insert", "put", "setdefault", "update", "write"}
)
# Those that take out whatever comes; `pop(key)` and `del d[key]` put one thing right, and are no bound by themselves.
_EMPTYING: Final = frozenset({"clear", "popitem", "popleft"})
_LARGEST_SOURCE_CHARACTERS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class CodeBound:
    """Where a container's own code bounds it.

    Attributes:
        bound: entries at most, as the code compares its length; ``None`` if it only empties it.
        where: the function and the line.
    """

    bound: int | None
    where: str


def bound_in_code(path: Sequence[Any]) -> CodeBound | None:
    """Look at the source of the module in which a container has its name.

    Args:
        path: the objects that lead to it, it itself last; its owner and the owner's module's names are among them.
    """
    found = _named_in(path)
    if found is None:
        return None
    name, module = found
    text = _source_of(getattr(module, "__file__", None) or "")
    return bounds_in(text, name, vars(module)) if text and name in text else None


def _named_in(path: Sequence[Any]) -> tuple[str, ModuleType] | None:
    """Return the name that its nearest owner has for it, and the module in which that owner's code is."""
    container = path[-1]
    for place in range(len(path) - 2, max(-1, len(path) - 5), -1):
        names = _names_of(path[place])
        name = next((key for key, value in list(names.items()) if value is container), None)
        if type(name) is str:
            owner = path[place] if not is_a(path[place], dict) else path[max(0, place - 1)]
            module = sys.modules.get(_module_name(names, owner))
            return (name, module) if module is not None else None
    return None


def _names_of(owner: Any) -> Mapping[Any, Any]:
    if is_a(owner, dict):
        return owner
    try:
        # Not getattr: that may run the program's own code.
        found = type.__getattribute__(owner, "__dict__") if is_a(owner, type) else _own_dict(owner)
    except AttributeError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _own_dict(owner: Any) -> Any:
    return object.__getattribute__(owner, "__dict__")


def _module_name(names: Mapping[Any, Any], owner: Any) -> str:
    told = names.get("__name__") if "__spec__" in names else None
    kind = owner if is_a(owner, type) else type(owner)
    found = told or getattr(kind, "__module__", "")
    return found if isinstance(found, str) else ""


@functools.lru_cache(maxsize=32)
def _source_of(path: str) -> str:
    if not path.endswith(".py"):
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST_SOURCE_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError):
        return ""  # from an archive, or gone since it was imported
    return text if len(text) <= _LARGEST_SOURCE_CHARACTERS else ""


def bounds_in(text: str, name: str, constants: Mapping[str, Any]) -> CodeBound | None:
    """Find a function that both fills a container of some name and bounds it.

    Args:
        text: the source of a module.
        name: of the container: a global, or an attribute.
        constants: the module's globals, for the name of a bound.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    found = (_bound_of_function(each, name, constants) for each in functions)
    return next((each for each in found if each is not None), None)


def _bound_of_function(
    function: ast.FunctionDef | ast.AsyncFunctionDef, name: str, constants: Mapping[str, Any]
) -> CodeBound | None:
    nodes = list(ast.walk(function))
    if function.name == "__init__" or not any(_grows(node, name) for node in nodes):
        return None
    where = f"{function.name}, line {function.lineno}"
    bounds = [bound for node in nodes for bound in _lengths(node, name, constants)]
    if bounds:
        return CodeBound(max(bounds), where)
    return CodeBound(None, where) if any(_empties(node, name) for node in nodes) else None


def _is_it(node: ast.AST, name: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == name) or (
        isinstance(node, ast.Attribute) and node.attr == name
    )


def _called(node: ast.AST, name: str) -> tuple[str, int]:
    """Return which method of the container is called, and with how many arguments."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_it(node.func.value, name):
        return node.func.attr, len(node.args)
    return "", 0


def _grows(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Assign):
        return any(isinstance(each, ast.Subscript) and _is_it(each.value, name) for each in node.targets)
    if isinstance(node, ast.AugAssign):
        return _is_it(node.target, name)
    return _called(node, name)[0] in _GROWING


def _empties(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Assign):
        return any(
            _is_it(each, name)
            or (
                isinstance(each, ast.Subscript)
                and isinstance(each.slice, ast.Slice)
                and _is_it(each.value, name)
            )
            for each in node.targets
        )
    method, arguments = _called(node, name)
    return method in _EMPTYING or (method == "pop" and not arguments)


def _lengths(node: ast.AST, name: str, constants: Mapping[str, Any]) -> Iterator[int]:
    """Yield whole numbers that the container's length is compared with."""
    if not isinstance(node, ast.Compare):
        return
    sides = [node.left, *node.comparators]
    if any(_is_length(side, name) for side in sides):
        values = (_value(side, constants) for side in sides if not _is_length(side, name))
        yield from (value for value in values if type(value) is int and value > 0)


def _is_length(node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "len"
        and bool(node.args)
        and _is_it(node.args[0], name)
    )


def _value(node: ast.AST, constants: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    return constants.get(node.id) if isinstance(node, ast.Name) else None
