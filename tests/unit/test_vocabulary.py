"""Nothing is promised that nobody keeps: each setting is read, and each event published, by the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from memguard.config import SETTINGS
from memguard.events import EVENTS


def sources(root: Path) -> Iterator[ast.AST]:
    """Yield what is written down, apart from the tables of settings and events and from what sorts them."""
    for folder in ("memguard", "integrations"):
        for path in sorted((root / folder).rglob("*.py")):
            if "config" not in path.parts and path.name not in ("events.py", "log.py"):
                yield from ast.walk(ast.parse(path.read_text()))


@pytest.fixture(scope="module")
def read_attributes(project_root: Path) -> set[str]:
    """Every attribute that is read of something that is called settings."""
    return {
        node.attr
        for node in sources(project_root)
        if isinstance(node, ast.Attribute) and "settings" in ast.unparse(node.value)
    }


@pytest.fixture(scope="module")
def literals(project_root: Path) -> set[str]:
    """Every text in the code."""
    return {
        node.value
        for node in sources(project_root)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("attribute", [setting.attribute for setting in SETTINGS])
def test_each_setting_is_read(attribute: str, read_attributes: set[str]) -> None:
    """A setting that nobody reads would be a promise."""
    assert attribute in read_attributes


@pytest.mark.parametrize("name", EVENTS)
def test_each_event_is_published(name: str, literals: set[str]) -> None:
    """An event that nobody publishes would be waited for in vain."""
    assert name in literals
