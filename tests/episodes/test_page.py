"""What the page about episodes shows in Python runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_runs(tmp_path: Path) -> None:
    """It prints a hit, that the Japanese one is found, how many meet the filter, and the history; what memory keeps."""
    page = (ROOT / "docs" / "episodes.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    printed = []
    for program in programs:
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        printed += done.stdout.splitlines()
    score, found, many, history, *memory = printed
    assert memory == ["True True summary", "The fit took 3 GiB at 40,000 rows. It was stopped."]
    assert re.fullmatch(r"0\.9\d+ the fit ran out of memory at 40,000 rows", score)
    assert (found, many, history) == ("True", "1", "['added', 'updated']")
