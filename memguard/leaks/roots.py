"""Where a census begins: everything that Python holds by a name, and the name.

Module globals come first, then what the interpreter keeps in registries of its own (exit handlers, signal handlers,
context variables) and the local variables of functions that run. What none of them leads to is held from C, or by
nothing but a cycle.
"""

from __future__ import annotations

import contextvars
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import CO_OPTIMIZED
from types import FrameType, ModuleType
from typing import Any, Final

from memguard.leaks._naming import is_a
from memguard.leaks.type_facts import class_dict_of_module

__all__ = ["Root", "RootKind", "named_roots"]

_OWN: Final = "memguard."
# The frame's own reference, the variable here, and what getrefcount is given.
_REFERENCES_OF_ONE_READER: Final = 3


class RootKind:
    """What kind of a beginning a root is; told apart because their names read differently."""

    MODULE: Final = "module"
    REGISTRY: Final = "registry"
    VARIABLE: Final = "variable"
    HIDDEN: Final = "hidden"


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """One beginning.

    Attributes:
        kind: one of `RootKind`.
        name: in words: ``package.module``, ``signal handler SIGTERM``, ``local variable kept of app.main``.
        thing: the object that it names.
    """

    kind: str
    name: str
    thing: object


def named_roots() -> Iterator[Root]:
    """Yield every beginning with a name, those that explain best first."""
    yield from _modules()
    yield from _signal_handlers()
    yield from _context_variables()
    yield from _running_variables()


def _modules() -> Iterator[Root]:
    # Backward: what a module imports is entered after it, and an object is told as the one's who made it rather
    # than as the importer's.
    found = [(name, each) for name, each in reversed(list(sys.modules.items())) if is_a(each, ModuleType)]
    for name, module in found:
        yield Root(RootKind.MODULE, name, class_dict_of_module(module))
    for name, module in found:
        # Beside its namespace a module in C keeps a state: the handlers of atexit, for instance.
        label = "exit handlers (atexit)" if name == "atexit" else f"state of the module {name}"
        yield Root(RootKind.REGISTRY, label, module)


def _signal_handlers() -> Iterator[Root]:
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler):
            yield Root(RootKind.REGISTRY, f"signal handler {signal.Signals(number).name}", handler)


def _context_variables() -> Iterator[Root]:
    for variable, value in contextvars.copy_context().items():
        yield Root(RootKind.REGISTRY, f"context variable {variable.name}", value)


def _running_variables() -> Iterator[Root]:
    for innermost in sys._current_frames().values():
        frame: FrameType | None = innermost
        while frame is not None:
            module = str(frame.f_globals.get("__name__", "?"))
            if not module.startswith(_OWN):
                for name, value in _values(frame):
                    yield Root(
                        RootKind.VARIABLE,
                        f"local variable {name} of {module}.{frame.f_code.co_qualname}",
                        value,
                    )
            frame = frame.f_back
    del innermost  # this generator's own frame among others: it would keep itself alive


def _values(frame: FrameType) -> list[tuple[str, Any]]:
    """Return a running function's variables; see `memguard.leaks._naming.local_values` for what is emptied here."""
    if not frame.f_code.co_flags & CO_OPTIMIZED:
        return []  # of a module or a class body; the module's are its globals
    values = frame.f_locals
    found = list(values.items())
    if isinstance(values, dict) and sys.getrefcount(values) <= _REFERENCES_OF_ONE_READER:
        for name, _ in found:
            values.pop(name, None)
    return found
