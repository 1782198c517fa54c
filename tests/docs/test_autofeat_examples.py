"""What README and the page about AutoFeat show in Python runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from memguard.cli.autofeat import autofeat_command
from memguard_integrations.autofeat.records import MAX_LEVELS


def python_of(page: Path) -> str:
    """Return the blocks of a page that use AutoFeat, as one program."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return "\n".join(
        block for block in blocks if "integrations.autofeat" in block or "AutoFeatProcessor" in block
    )


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("README.md", r"\w+"),
        ("docs/autofeat.md", r"(?s).* expected, .* at most\n\[.*\]\n\[.*\]\n\d+\n\[0\.\d+ +0\.\d+\]"),
    ],
)
def test_the_example_runs(project_root: Path, tmp_path: Path, name: str, printed: str) -> None:
    """The page's program ends well, warns of nothing, and prints what it says."""
    pytest.importorskip("autofeat.feateng", reason="stock autofeat is not installed")
    program = python_of(project_root / name)
    assert "AutoFeatProcessor(" in program
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(printed, done.stdout), done.stdout


@pytest.mark.parametrize("name", ["README.md", "docs/autofeat.md"])
def test_the_commands_shown_can_be_typed(project_root: Path, name: str) -> None:
    """Every flag of `memguard autofeat` on the page exists, and the figure of the text columns is the program's."""
    page = (project_root / name).read_text()
    known = {flag for parameter in autofeat_command.params for flag in parameter.opts}
    commands = re.findall(r"^memguard autofeat (?:.*\\\n)*.*$", page, re.MULTILINE)
    assert commands
    assert {flag for command in commands for flag in re.findall(r"(?<=\s)--?[a-z-]+", command)} <= known
    assert f"up to {MAX_LEVELS} different values" in page
