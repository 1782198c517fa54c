"""Pages that are made from code say what the code says now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memguard.config import SETTINGS
from memguard.events import EVENTS
from tools import docs


@pytest.mark.parametrize("name", docs.PAGES)
def test_a_generated_page_is_current(name: str, project_root: Path) -> None:
    """The committed page is what `make docs` would write."""
    written = (project_root / name).read_text()
    assert written == docs.NOTICE + docs.PAGES[name](), f"{name} is out of date: run `make docs`"


def test_every_setting_and_event_is_in_its_page(project_root: Path) -> None:
    """No setting and no event is left untold."""
    settings_page = (project_root / "docs" / "settings.md").read_text()
    for setting in SETTINGS:
        assert f"## `{setting.name}`" in settings_page
        assert setting.help in settings_page
        assert f"`{setting.environment}`" in settings_page
    events_page = (project_root / "docs" / "events.md").read_text()
    assert [name for name in EVENTS if f"`{name}`" not in events_page] == []


def test_stale_pages_are_named_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check names what is out of date and fails; the same command without --check mends it."""
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "PAGES", {name: lambda name=name: f"what {name} says" for name in docs.PAGES})
    (tmp_path / "docs").mkdir()
    assert docs.main(["--check"]) == 1
    assert capsys.readouterr().err.count("run `make docs`") == len(docs.PAGES)
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0
    (tmp_path / "docs" / "settings.md").write_text("by hand")
    capsys.readouterr()
    assert docs.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/settings.md is out of date: run `make docs`\n"


def test_the_command_runs_from_the_root(project_root: Path) -> None:
    """`python -m tools.docs --check` works as `make lint` calls it."""
    command = [sys.executable, "-m", "tools.docs", "--check"]
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
