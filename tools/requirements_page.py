"""docs/requirements.md, from docs/requirements.toml and the `requirement` marks in tests and stress programs.

A mark counts wherever it stands: on a test, on a class, on a whole module (``pytestmark``), on one case of a
parametrised test. A stress program that is no test names its lines in a module-level ``REQUIREMENTS`` tuple.
The files are parsed, not imported, so the page can be made where the tests cannot run.
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.markdown import table_row

__all__ = ["Family", "Mark", "find_marks", "load_families", "marks_in", "render", "unknown_ids"]

ROOT = Path(__file__).resolve().parent.parent
SEARCHED = ("tests", "stress")
UNPROVEN = "not yet proven"
# One of them stands in every file that names a line.
_WORDS = ("mark.requirement", "REQUIREMENTS")

_HEAD = """\
# What memguard must do, and which tests prove it

Each line has an id. A test that proves it with the real thing carries `@pytest.mark.requirement("R1.1")`;
this page is made from those marks by `make docs`.

Figures that hold throughout: at most 80 % utilisation normally and 90 % at peak, no admission above 95 %;
release within 5 s of completion; recovery from a shortage within 5 minutes (aim: 10 s); no memory crash;
stable for 24 hours (shown by an accelerated soak and a slope test); scheduled cleanup every 300 s; AutoFeat's
public API kept.
"""


@dataclass(frozen=True, slots=True)
class Family:
    """Lines that belong together: id to text, in order."""

    letter: str
    title: str
    lines: Mapping[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place that claims to prove a line: ``tests/unit/test_x.py::test_y``."""

    requirement: str
    place: str


def load_families(path: Path = ROOT / "docs" / "requirements.toml") -> list[Family]:
    """Read the list of lines."""
    content = tomllib.loads(path.read_text())
    return [Family(letter, table["title"], table["lines"]) for letter, table in content.items()]


def find_marks(root: Path = ROOT) -> list[Mark]:
    """Return every mark below the searched folders, sorted by place."""
    files = sorted(path for folder in SEARCHED for path in (root / folder).rglob("*.py"))
    marks = {mark for path in files for mark in marks_in(path.read_text(), path.relative_to(root).as_posix())}
    return sorted(marks, key=lambda mark: (mark.place, mark.requirement))


def marks_in(source: str, place: str) -> Iterator[Mark]:
    """Yield the marks of one file; ``place`` is its path from the project's root."""
    if any(
        word in source for word in _WORDS
    ):  # most files have none, and to parse them takes most of the time
        yield from _marks_below(ast.parse(source, place), place)


def _marks_below(node: ast.AST, place: str) -> Iterator[Mark]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _marks_below(child, f"{place}::{child.name}")
            continue
        for requirement in _named_by(child):
            yield Mark(requirement, place)
        yield from _marks_below(child, place)


def _named_by(node: ast.AST) -> list[str]:
    """Return the ids that one node names by itself: a call of the mark, or the tuple of a stress program."""
    if isinstance(node, ast.Call) and _is_mark(node.func):
        return [_literal(argument) for argument in node.args]
    if isinstance(node, ast.Assign) and [ast.unparse(each) for each in node.targets] == ["REQUIREMENTS"]:
        return [_literal(each) for each in getattr(node.value, "elts", [node.value])]
    return []


def _is_mark(called: ast.expr) -> bool:
    named = isinstance(called, ast.Attribute) and called.attr == "requirement"
    return named and ast.unparse(called) == "pytest.mark.requirement"


def _literal(node: ast.expr) -> str:
    value = ast.literal_eval(node)
    if not isinstance(value, str):
        raise TypeError(f"line {node.lineno}: a requirement is named by a text, not by {value!r}")
    return value


def unknown_ids(families: list[Family], marks: list[Mark]) -> list[Mark]:
    """Return the marks that name no line of the list."""
    known = {requirement for family in families for requirement in family.lines}
    return [mark for mark in marks if mark.requirement not in known]


def render(root: Path = ROOT) -> str:
    """Return the page.

    Raises:
        ValueError: when a mark names a line that does not exist.
    """
    families, marks = load_families(root / "docs" / "requirements.toml"), find_marks(root)
    unknown = unknown_ids(families, marks)
    if unknown:
        raise ValueError(
            "marks of unknown lines: " + ", ".join(f"{each.requirement} at {each.place}" for each in unknown)
        )
    places: defaultdict[str, list[str]] = defaultdict(list)
    for mark in marks:
        places[mark.requirement].append(mark.place)
    count = sum(len(family.lines) for family in families)
    summary = f"{len(places)} of {count} lines have a test that proves them.\n"
    return "\n".join([_HEAD, summary, *(_section(family, places) for family in families)]).rstrip() + "\n"


def _section(family: Family, places: Mapping[str, list[str]]) -> str:
    rows = [
        table_row(
            requirement, text, "<br>".join(f"`{place}`" for place in places.get(requirement, ())) or UNPROVEN
        )
        for requirement, text in family.lines.items()
    ]
    head = [
        f"## {family.letter}: {family.title}",
        "",
        table_row("id", "line", "proven by"),
        table_row("---", "---", "---"),
    ]
    return "\n".join([*head, *rows, ""])
