"""`memguard runbook`: the pages that deaths name can be read wherever memguard is installed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from memguard.cli import runbook
from memguard.cli.main import cli
from memguard.errors import DataError
from memguard.story import RUNBOOKS


def printed(*words: str) -> Any:
    return CliRunner().invoke(cli, ["runbook", *words])


@pytest.mark.parametrize("name", sorted({*RUNBOOKS.values(), "README"}))
def test_the_page_that_a_death_names_is_printed(name: str, project_root: Path) -> None:
    """Its text, whole; without a name, the list of all."""
    page = (project_root / "runbooks" / f"{name}.md").read_text()
    done = printed(*([] if name == "README" else [name]))
    assert (done.exit_code, done.stdout) == (0, page)


def test_a_page_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name is refused with the names that there are; a path is not followed."""
    for name in ("NoSuch", "../README", ""):
        error = printed(name).exception
        assert isinstance(error, DataError)
        assert all(each in str(error) for each in RUNBOOKS.values())


def test_the_pages_of_the_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package brings its pages, those are shown: what lies beside it may be somebody else's."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "Page.md").write_text("mine\n")
    monkeypatch.setattr(runbook, "RUNBOOK_FOLDERS", (own, runbook.RUNBOOK_FOLDERS[1]))
    assert printed("Page").stdout == "mine\n"


def test_the_package_brings_the_pages(project_root: Path) -> None:
    """A wheel gets them at the first place where they are looked for."""
    build = tomllib.loads((project_root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    assert included["runbooks"] == "memguard/runbooks"
    assert re.search(r"memguard/runbooks$", str(runbook.RUNBOOK_FOLDERS[0]))
