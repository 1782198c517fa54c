"""The project speaks for itself: no file leans on a place or a paper that a reader does not have."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Written in pieces, so that this file does not mention what it looks for.
FORBIDDEN = {
    "a directory of one machine": re.compile(r"(?<![\w.})-])/(?:work|root)/"),
    "a folder beside the project": re.compile(r"\.\./" + "shared"),
    "the number of a task": re.compile(r"\bissue" + r"s?\s+#?\d{1,2}\b", re.IGNORECASE),
}
MADE_BY_TOOLS = {
    ".git",
    ".venv",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "demo-output",
}


def project_files(root: Path) -> list[Path]:
    """Return what git would commit; without git, everything that no tool made."""
    listing = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listing, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return every_file(root)
    if done.returncode != 0:
        return every_file(root)
    return [root / name for name in done.stdout.split("\0") if name and (root / name).is_file()]


def every_file(root: Path) -> list[Path]:
    return [
        path
        for path in root.rglob("*")
        if path.is_file() and not MADE_BY_TOOLS & {*path.relative_to(root).parts}
    ]


def mentions(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, what is wrong and the words, for each forbidden mention."""
    for number, line in enumerate(text.splitlines(), start=1):
        for meaning, pattern in FORBIDDEN.items():
            yield from ((number, meaning, match[0]) for match in pattern.finditer(line))


def test_no_file_mentions_where_or_for_what_it_was_written(project_root: Path) -> None:
    """No file of the project names a directory of one machine, a folder beside it, or a task's number."""
    files = project_files(project_root)
    assert project_root / "pyproject.toml" in files
    found = []
    for path in files:
        text = path.read_bytes().decode(errors="replace")
        found += [
            f"{path.relative_to(project_root)}:{number}: {words!r} is {meaning}"
            for number, meaning, words in mentions(text)
        ]
    assert found == []


def test_the_search_sees_what_it_should_and_no_more() -> None:
    """Each forbidden form is seen, and look-alikes are not."""
    bad = [
        "cd /" + "work/main",
        "'/" + "root/.cache'",
        "see .." + "/shared/x",
        "Issue" + " 2",
        "issue" + " #12",
    ]
    good = [
        "net/work/",
        "{tmp}/root/proc",
        "path.root/x",
        "numpy issue 24096",
        "scikit-learn#19608",
        "tissue 2",
    ]
    assert [len(list(mentions(line))) for line in bad] == [1] * len(bad)
    assert [list(mentions(line)) for line in good] == [[]] * len(good)
