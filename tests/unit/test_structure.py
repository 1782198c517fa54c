"""The house holds together: who may import whom, who may look at the machine, how long things are."""

from __future__ import annotations

import ast
import importlib
import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "memguard": ROOT / "memguard",
    "memguard_integrations": ROOT / "integrations" / "memguard_integrations",
}

# The order in which a job meets the rooms. A module imports from its own tier and from earlier ones.
# "memguard" is the front door, memguard/__init__.py; "integrations" are the doors and what is behind them.
TIERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "units", "version"}),
    frozenset({"aside", "config", "events", "files", "log", "nesting"}),
    frozenset({"host"}),
    frozenset({"admission", "budget", "estimate"}),
    frozenset({"ledger"}),
    frozenset({"rebuild", "redact", "report", "settling", "sizing", "story"}),
    frozenset({"worker"}),
    frozenset({"guard"}),
    frozenset({"memory"}),
    frozenset({"leaks"}),
    frozenset({"allocator", "cleanup", "leasing", "tenure"}),
    frozenset({"episodes"}),
    frozenset({"forecasting"}),
    frozenset({"announcing", "batching", "enclosure", "foresight", "jobs", "managed", "tracking"}),
    frozenset({"requeue", "reserving"}),
    frozenset({"manager"}),
    frozenset({"frontdoor", "guarding"}),
    frozenset({"memguard"}),
    frozenset({"integrations"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
TIER_OF = {room: number for number, rooms in enumerate(TIERS) for room in rooms}
# Public fakes may be built on any room but the command line, and no room is built on them.
FAKES = "testing"

# Imports against the direction, each with its reason: (importing module, imported module).
ALLOWED_BACKWARDS: dict[tuple[str, str], str] = {}
# Files over 400 lines, each with its reason.
LONG_FILES: dict[str, str] = {}
# Paths of the kernel's files that are held for something else than measuring, each with its reason.
OTHER_KERNEL_PATHS: dict[tuple[str, str], str] = {
    ("integrations/memguard_integrations/autofeat/output.py", "/proc/"): "writes to a file without a name",
    ("integrations/memguard_integrations/autofeat/output.py", "/proc/self/fd/"): "gives that file its name",
}

DATA_LIBRARIES = {"autofeat", "joblib", "numba", "numpy", "pandas", "pyarrow", "scipy", "sklearn", "sympy"}


@dataclass(frozen=True, slots=True)
class Module:
    """One source file of the package or of its integrations."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        return room_of(self.name)

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def shown(self) -> str:
        return str(self.path.relative_to(ROOT))


def room_of(name: str) -> str:
    top, _, rest = name.partition(".")
    return "integrations" if top == "memguard_integrations" else rest.partition(".")[0] or top


@cache
def modules() -> dict[str, Module]:
    found = {}
    for top, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((top, *(part for part in parts if part != "__init__")))
            found[name] = Module(name, path, ast.parse(path.read_text(), str(path)))
    return found


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node but those below ``if TYPE_CHECKING:``, which never run."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield from run_time_nodes(statement)
        else:
            yield from run_time_nodes(child)


def imported_names(module: Module) -> Iterator[str]:
    """Yield the full name of everything a module imports, wherever in it, by statement or by a call."""
    for node in run_time_nodes(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = base_of(module, node)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and re.search(
            r"\b(import_module|__import__)$", ast.unparse(node.func)
        ):
            yield from (str(each.value) for each in node.args[:1] if isinstance(each, ast.Constant))


def base_of(module: Module, node: ast.ImportFrom) -> str:
    package = module.name.split(".")
    climb = node.level - module.is_package
    above = package[: len(package) - climb] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def own_modules_imported(module: Module) -> set[str]:
    """Return which of our own modules a module imports; a name in a package counts as the package."""
    found = set()
    for name in imported_names(module):
        while name and name not in modules():
            name = name.rpartition(".")[0]  # noqa: PLW2901 - the module a name was imported from
        found.add(name)
    return found - {"", module.name}


def may_import(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if importer == FAKES:
        return imported != "cli"
    return imported != FAKES and TIER_OF[imported] <= TIER_OF[importer]


def test_every_room_has_its_place_in_the_order() -> None:
    """A new room is given a tier before anything can import it."""
    rooms = {module.room for module in modules().values()}
    assert rooms - TIER_OF.keys() == {FAKES}


def test_imports_go_one_way() -> None:
    """No module imports from a later room, neither at its top nor inside a function."""
    backwards = {
        (module.name, imported)
        for module in modules().values()
        for imported in own_modules_imported(module)
        if not may_import(module.room, room_of(imported))
    }
    assert backwards == ALLOWED_BACKWARDS.keys()


def test_the_reader_of_imports_sees_every_kind() -> None:
    """The check above is not blind: relative, lazy and called imports are found, those for typing are not."""
    source = """
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from memguard.report import JobReport
else:
    import memguard.units
from . import b
from .. import errors
from ..host.readings import MachineReading
def f():
    from memguard import events
    importlib.import_module("memguard.log")
"""
    path = SOURCES["memguard"] / "host" / "a.py"
    names = set(imported_names(Module("memguard.host.a", path, ast.parse(source))))
    assert {name for name in names if name.startswith("memguard")} == {
        "memguard.units",
        "memguard.host.b",
        "memguard.errors",
        "memguard.host.readings.MachineReading",
        "memguard.events",
        "memguard.log",
    }


def test_the_core_needs_no_data_library() -> None:
    """Only integrations and public fakes touch NumPy, pandas and their kin, of them the episodes NumPy and, for imports, Arrow."""
    users = {
        (module.shown, name)
        for module in modules().values()
        for name in imported_names(module)
        if name.partition(".")[0] in DATA_LIBRARIES and module.room not in {"integrations", FAKES}
    }
    # Vectors are arrays; the room is imported by whoever wants a store, and needs no other of them.
    assert {each for each in users if not each[0].startswith("memguard/episodes/")} == set()
    assert {library.partition(".")[0] for _, library in users} == {"numpy", "pyarrow"}


def test_only_host_measures() -> None:
    """Nobody but memguard/host imports psutil or holds a path in /proc or /sys."""
    measuring = {
        (module.shown, what)
        for module in modules().values()
        if module.room != "host"
        for what in [*psutil_imports(module), *kernel_paths(module)]
    }
    assert measuring == OTHER_KERNEL_PATHS.keys()


def psutil_imports(module: Module) -> list[str]:
    return [name for name in imported_names(module) if name.partition(".")[0] == "psutil"]


def kernel_paths(module: Module) -> list[str]:
    looking = re.compile(r"/?(proc|sys/fs|sys/kernel|sys/devices)(/\S*)?|/sys(/\S*)?")
    texts = [node.value for node in ast.walk(module.tree) if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and looking.fullmatch(text)]


@pytest.mark.requirement("T2.3")
def test_nobody_calls_the_garbage_collector() -> None:
    """gc.collect is named in the leak detector and in the emergency cleanup only."""
    callers = {
        f"{module.shown}:{getattr(node, 'lineno', 0)}"
        for module in modules().values()
        if module.room != "leaks" and module.name != "memguard.cleanup.emergency"
        for node in ast.walk(module.tree)
        if names_gc_collect(node)
    }
    assert callers == set()


def names_gc_collect(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "gc" and any(alias.name == "collect" for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr == "collect" and ast.unparse(node.value) == "gc"


def test_every_package_says_what_it_is_for() -> None:
    """Each __init__ opens with what comes in, what goes out and what to read first, in three sentences."""
    packages = [module for module in modules().values() if module.is_package]
    terse = [
        each.shown
        for each in packages
        if len(re.findall(r"[.:](\s|$)", ast.get_docstring(each.tree) or "")) < 3
    ]
    assert terse == []


def test_every_module_has_a_sentence_of_its_own() -> None:
    """Each file opens with a docstring of at least five words."""
    mute = [
        each.shown for each in modules().values() if len((ast.get_docstring(each.tree) or "").split()) < 5
    ]
    assert mute == []


def test_files_are_short_or_have_a_reason() -> None:
    """A file over 400 lines is listed with its reason, and one that became short again is not."""
    long_files = {each.shown for each in modules().values() if len(each.path.read_text().splitlines()) > 400}
    assert long_files == LONG_FILES.keys()


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the physical lines of a function below its docstring; 0 for a mere declaration."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    declared_only = not body or (len(body) == 1 and ast.unparse(body[0]) == "...")
    return 0 if declared_only else (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_functions_are_small(capsys: pytest.CaptureFixture[str]) -> None:
    """The median function of memguard/ has a body under ten lines."""
    lengths = [
        body_lines(node)
        for module in modules().values()
        if module.name.partition(".")[0] == "memguard"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    written = [length for length in lengths if length]
    median = statistics.median(written)
    with capsys.disabled():
        sys.stdout.write(
            f"\nmedian of {len(written)} functions in memguard/: {median:g} lines, longest {max(written)}\n"
        )
    assert median < 10


def public_names() -> list[str]:
    return list(importlib.import_module("memguard").__all__)


def homes_of(name: str) -> list[str]:
    """Return the modules that define a name themselves and list it as public."""
    return [
        module.name
        for module in modules().values()
        if name in listed_names(module.tree) and name in defined_names(module.tree)
    ]


def listed_names(tree: ast.Module) -> list[str]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return []


def defined_names(tree: ast.Module) -> set[str]:
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_lists_of_public_names_are_sorted_and_true() -> None:
    """Each __all__ is in order, without repetition, and every name in it can be had."""
    for module in modules().values():
        names = listed_names(module.tree)
        capitals_first = sorted(names, key=lambda name: (not name.isupper(), not name[:1].isupper(), name))
        assert names == capitals_first, module.shown
        assert len(names) == len(set(names)), module.shown


def test_each_public_name_has_one_home() -> None:
    """What `memguard` offers exists, and is defined and listed in exactly one module."""
    front = importlib.import_module("memguard")
    names = [name for name in public_names() if not name.startswith("__")]
    assert names, "the front door offers nothing"
    homeless = {
        name: homes_of(name)
        for name in names
        if len(homes_of(name)) != 1 and f"memguard.{name}" not in modules()
    }
    assert homeless == {}
    assert [name for name in public_names() if not hasattr(front, name)] == []
