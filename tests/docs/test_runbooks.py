"""The runbooks are complete, their commands run, and what they show is what the commands print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from memguard.cli.main import cli
from memguard.story import RUNBOOKS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (ROOT / "runbooks").glob("*.md") if path.name != "README.md")
HEADINGS = ("## Meaning", "## Impact", "## Diagnosis", "## Mitigation")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"memguard ([a-z]+)((?: (?!-- )--?[a-z-]+(?: [^-\s`|]\S*)?)*)")


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Give each command block of a page with the output that is promised below it."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    for (language, text), following in zip(found, [*found[1:], ("", "")], strict=True):
        if language == "bash":
            yield text, following[1] if following[0] == "text" else ""


COMMANDS = [(page, text, shown) for page in PAGES for text, shown in blocks(page)]


@pytest.fixture(scope="session")
def killed_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of a job that was really killed for its budget."""
    folder = tmp_path_factory.mktemp("killed")
    hog = [sys.executable, "-m", "memguard.testing.hog", "--mib", "400"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "memguard.cli.main",
            "run",
            "--memory",
            "100MiB",
            "--report",
            "report.json",
            "--",
            *hog,
        ],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 137, done.stderr
    return folder


def run_block(text: str, folder: Path) -> str:
    """Run a block as a shell with this environment's `memguard` first in its path would."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", f"set -eu\n{text}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def matches(shown: str, line: str) -> bool:
    """Tell whether a line of output is the line that a page shows; ``<...>`` stands for anything, spaces fold."""
    pattern = ".*".join(re.escape(part.strip()) for part in " ".join(shown.split()).split("<...>"))
    return re.search(pattern, " ".join(line.split())) is not None


@pytest.mark.requirement("T9.3")
@pytest.mark.parametrize(
    ("page", "text", "shown"),
    COMMANDS,
    ids=[f"{page.stem}-{number}" for number, (page, *_) in enumerate(COMMANDS)],
)
def test_every_command_prints_what_its_page_shows(
    page: Path, text: str, shown: str, killed_job: Path, tmp_path: Path
) -> None:
    """Each block runs, and each line shown below it stands in its output, in that order."""
    (tmp_path / "report.json").write_bytes((killed_job / "report.json").read_bytes())
    output = run_block(text, tmp_path).splitlines()
    assert shown, f"{page.name}: a command without the output to expect:\n{text}"
    for line in shown.splitlines():
        while output and not matches(line, output[0]):
            output.pop(0)
        assert output, f"{page.name}: {line!r} is not in the output of\n{text}"


def test_each_way_to_die_of_memory_has_its_page() -> None:
    """Every page that a message names exists, and every page is in the index."""
    names = {page.stem for page in PAGES}
    assert set(RUNBOOKS.values()) <= names
    index = (ROOT / "runbooks" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+)\.md\)", index)) == names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_has_its_parts(page: Path) -> None:
    """Title, meaning, impact, diagnosis and mitigation stand in that order, on one page, and links lead somewhere."""
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.stem}\n")
    positions = [text.index(heading) for heading in HEADINGS]
    assert positions == sorted(positions)
    assert len(text.splitlines()) <= 100
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_option_named_exists(page: Path) -> None:
    """Pages name only commands and options that there are."""
    context = click.Context(cli)
    text = page.read_text(encoding="utf-8")
    code = "\n".join([*(block for _, block in BLOCK.findall(text)), *re.findall(r"`([^`\n]+)`", text)])
    assert "memguard " in code
    for name, options in OPTION.findall(code):
        command = cli.get_command(context, name)
        assert command is not None, name
        known = {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert {word for word in options.split() if word.startswith("--")} <= known | {"--"}, (name, options)
