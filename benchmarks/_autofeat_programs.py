"""Programs in fresh interpreters to whom `autofeat` is the package, and not the benchmark beside this file."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from _common import python_environment

__all__ = ["answer_of_fresh"]


def answer_of_fresh(program: str) -> Any:
    """Run a Python program in a fresh interpreter; returns what it printed as JSON on its last line.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    # -P: neither the directory of this file nor the current one is searched for modules.
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", program],
        check=True,
        env=python_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
