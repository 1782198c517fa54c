"""Which modules a template should import before it forks a job: the installed packages that the function uses.

Only installed packages (site-packages) are named: the caller's own modules change while he works, so a template
that had loaded them would run old code.
"""

from __future__ import annotations

import dis
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from types import CodeType, ModuleType
from typing import Any, Final

__all__ = ["modules_used_by", "root_of"]

# memguard itself and the pickler are in every template.
_ALWAYS_THERE: Final = frozenset({"memguard", "memguard_integrations", "cloudpickle"})
# How far calls are followed through the caller's own functions.
_LARGEST_DEPTH: Final = 3
# What decorators, bound methods and partials call the function inside them, and how many of them are looked through.
_WRAPPERS: Final = ("__wrapped__", "__func__", "func")
_MOST_WRAPPERS: Final = 32


def modules_used_by(function: Callable[..., Any], arguments: Iterable[Any] = ()) -> frozenset[str]:
    """Name the installed modules that a function and the types of its arguments come from.

    Args:
        function: any callable; closures, partials, wrappers and bound methods are looked through, imports inside
            the function count.
        arguments: what it will be called with; only their types count.

    Returns:
        Dotted names. Nothing is imported to find them.
    """
    found = set(_walk(function, _LARGEST_DEPTH))
    found.update(type(each).__module__ for each in arguments)
    return frozenset(
        name for name in found if root_of(name) not in _ALWAYS_THERE and _is_installed(root_of(name))
    )


def root_of(module: str) -> str:
    """Return the top-level package of a dotted name."""
    return module.partition(".")[0]


def _walk(value: Any, depth: int) -> Iterator[str]:
    if issubclass(type(value), ModuleType):  # isinstance would ask a proxy what it stands for
        yield value.__name__
        return
    yield type(value).__module__
    module = _attribute(value, "__module__")
    if isinstance(module, str):
        yield module
    target = _unwrap(value)
    if depth > 0 and isinstance(_attribute(target, "__code__"), CodeType):
        yield from _walk_function(target, depth)


def _unwrap(value: Any) -> Any:
    for _ in range(_MOST_WRAPPERS):
        inner = next((each for each in map(partial(_attribute, value), _WRAPPERS) if callable(each)), None)
        if inner is None:
            break
        value = inner
    return value


def _attribute(value: Any, name: str) -> Any:
    """Look an attribute up without asking the object's own ``__getattr__``: proxies answer anything, or raise."""
    try:
        return object.__getattribute__(value, name)
    except (AttributeError, TypeError):
        return None


def _walk_function(function: Any, depth: int) -> Iterator[str]:
    if _is_installed(root_of(function.__module__ or "")):
        yield function.__module__
        return
    for code in _codes(function.__code__):
        yield from (
            each.argval for each in dis.get_instructions(code) if each.opname == "IMPORT_NAME" and each.argval
        )
        for name in code.co_names:
            if name in function.__globals__:
                yield from _walk(function.__globals__[name], depth - 1)
    for cell in function.__closure__ or ():
        yield from _walk(_content(cell), depth - 1)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a closure variable that is not bound yet
        return None


@lru_cache(maxsize=256)
def _is_installed(name: str) -> bool:
    if not name or name in sys.builtin_module_names or name == "__main__":
        return False
    file = getattr(sys.modules.get(name), "__file__", None) or _origin(name)
    return isinstance(file, str) and ("site-packages" in file or "dist-packages" in file)


def _origin(name: str) -> str | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module without a spec, or one being imported
        return None
    return spec.origin if spec else None
