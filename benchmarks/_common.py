"""What the benchmarks share: measured series, tables, versions, and the document for ``--json``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = [
    "Figure",
    "Series",
    "answer_of_python",
    "finish",
    "options",
    "python_environment",
    "time_command",
]

_PACKAGES = (
    "automl-memguard",
    "autofeat",
    "scikit-learn",
    "numpy",
    "pandas",
    "psutil",
    "distributed",
    "loky",
    "psleak",
    "objgraph",
)


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one thing measured several times."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        """The least: what the thing takes when nothing disturbs it."""
        return min(self.values)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table: what, how much, against what, and the aim.

    Attributes:
        what: what was measured.
        value: the figure with its unit.
        aim: what was wanted, or ``""``.
        met: whether it was met; ``None`` where there is no aim.
        data: the same for programs.
    """

    what: str
    value: str
    aim: str = ""
    met: bool | None = None
    data: Mapping[str, Any] | None = None


def options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--json``."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    return parser


def finish(name: str, figures: Sequence[Figure], parsed: argparse.Namespace) -> int:
    """Print the figures as a table or as a document; returns the exit status, 0 whatever was measured."""
    load = os.getloadavg()[0]
    if parsed.json:
        document = {
            "schema": "memguard.benchmark/1",
            "benchmark": name,
            "command": _command(),
            "versions": _versions(),
            "processors": os.cpu_count(),
            "load_at_end": round(load, 2),
            "figures": [
                {
                    "what": each.what,
                    "value": each.value,
                    "aim": each.aim,
                    "met": each.met,
                    **(each.data or {}),
                }
                for each in figures
            ],
        }
        print(json.dumps(document, indent=2))
        return 0
    rows = [("figure", "measured", "aim", ""), *(_row(each) for each in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    print(f"{name}\n")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nrepeat: {_command()}")
    print(f"with: {', '.join(f'{package} {number}' for package, number in _versions().items())}")
    print(f"on: {os.cpu_count()} processors; load average of the last minute at the end: {load:.2f}")
    return 0


def _row(figure: Figure) -> tuple[str, str, str, str]:
    verdict = "" if figure.met is None else "met" if figure.met else "MISSED"
    return figure.what, figure.value, figure.aim, verdict


def _command() -> str:
    return " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "kernel": platform.release()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def python_environment() -> dict[str, str]:
    """Return an environment in which no setting of memguard changes what is measured.

    What is measured keeps its bytecode, as what pip has installed does: else this tree, and no peer, would be compiled
    at each start.
    """
    given = os.environ.items()
    return {
        name: value
        for name, value in given
        if not name.startswith("MEMGUARD_") and name != "PYTHONDONTWRITEBYTECODE"
    }


def time_command(words: Sequence[str]) -> float:
    """Run a command to its end; returns the seconds it took.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    began_s = time.perf_counter()
    subprocess.run(words, check=True, env=python_environment(), stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def answer_of_python(program: str) -> Any:
    """Run a Python program in a fresh interpreter; returns what it printed as JSON on its last line.

    It finds the modules beside this file, but after all others: ``autofeat`` is the package, not the benchmark of it.
    """
    beside = f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n"
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", beside + program],
        check=True,
        env=python_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
