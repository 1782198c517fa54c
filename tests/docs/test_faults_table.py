"""The list of faults in the design is true: each test that it names is there, and each fault has one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HEADING = "## Faults, and the tests that cause them"


def rows(project_root: Path) -> list[tuple[str, list[str]]]:
    """Return each fault with the tests that its row names."""
    _, _, after = (project_root / "docs" / "design.md").read_text().partition(f"{HEADING}\n")
    section = after.partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return [(fault.strip(), re.findall(r"`([^`]+)`", tests)) for fault, tests in cells[1:]]


def test_each_named_test_exists(project_root: Path) -> None:
    """A test that is renamed or moved takes its row along."""
    for fault, tests in rows(project_root):
        assert tests, fault
        for place in tests:
            path, _, name = place.partition("::")
            tree = ast.parse((project_root / path).read_text())
            names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert not name or name in names, place


def test_the_list_is_whole(project_root: Path) -> None:
    """All kinds of faults that the design answers for are in it."""
    told = " ".join(fault for fault, _ in rows(project_root))
    for fault in (
        "holder", "waiter", "sentinel", "any line", "used again", "full", "damaged", "locked", "newer",
        "fork", "clock", "shrinks", "SIGTERM", "interpreter's lock", "frozen", "two users",
    ):  # fmt: skip
        assert fault in told, fault
