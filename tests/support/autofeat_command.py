"""``memguard autofeat`` in a process of its own, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MEMGUARD = [sys.executable, "-m", "memguard", "autofeat"]
QUICK = ["--steps", "1", "--selection-runs", "1", "--memory", "1GiB"]

Outcome = subprocess.CompletedProcess[str]


def run(*arguments: str | Path, cwd: Path, **environment: str) -> Outcome:
    return subprocess.run(
        [*MEMGUARD, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
    )
