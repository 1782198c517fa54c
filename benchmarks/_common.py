"""What the benchmarks share: medians, tables, versions, a JSON document when asked."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

__all__ = ["Figure", "arguments", "median", "show", "versions"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a benchmark: what was measured, against what, the aim, and whether it was met."""

    what: str
    ours: str
    peer: str
    ratio: str
    aim: str
    met: bool | None = None


def median(values: Iterable[float]) -> float:
    """Return the median of some runs."""
    return statistics.median(values)


def arguments(description: str, *, rounds: int) -> argparse.Namespace:
    """Read the options every benchmark has: how many rounds, and whether to print JSON."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="runs of each side, interleaved; medians count"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return what was measured with."""
    found = {"python": platform.python_version(), "kernel": platform.release()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def show(name: str, figures: Sequence[Figure], packages: Sequence[str], *, as_json: bool) -> None:
    """Print a benchmark's figures."""
    command = f"python benchmarks/{name}.py {' '.join(sys.argv[1:])}".strip()
    if as_json:
        document = {
            "schema": "memguard.benchmark/1",
            "benchmark": name,
            "command": command,
            "versions": versions(packages),
            "figures": [asdict(figure) for figure in figures],
        }
        print(json.dumps(document, indent=2))
        return
    rows = [("what", "memguard", "peer", "ratio", "aim", "met"), *map(_row, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"repeat with: {command}")
    print(", ".join(f"{package} {number}" for package, number in versions(packages).items()))


def _row(figure: Figure) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: "-"}[figure.met]
    return figure.what, figure.ours, figure.peer, figure.ratio, figure.aim, met
