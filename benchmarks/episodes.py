"""The store of episodes: adds a second, searches, memory, and how these change with its size.

An episode here has a text of 300 characters, metadata, 384 float32 and its history; adds are synced to the disk before
they are acknowledged. Each part runs in a fresh process. Beside it: rows of the same texts and metadata in plain SQLite
with their vectors in the row (apsw, WAL, synchronous FULL), and sqlite-vec where it is installed. The vectors are
clusters of random ones, 2,000 centres; recall on sentence embeddings of a model may be another.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _common
from _common import Figure

_PROGRAM = Path(__file__).with_name("_episodes_part.py")


def run(part: str, folder: Path, *numbers: int) -> Any:
    """Run a part in a fresh process and return what it measured."""
    command = [sys.executable, str(_PROGRAM), part, str(folder), *map(str, numbers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def median(part: str, folder: Path, repeat: int, *numbers: int) -> float:
    """Return the median of a part in fresh folders."""
    found = []
    for _ in range(repeat):
        shutil.rmtree(folder, ignore_errors=True)
        found.append(float(run(part, folder, *numbers)))
    return _common.Series(tuple(found)).median


def adds(folder: Path, parsed: Any) -> list[Figure]:
    """Measure adds of all kinds."""
    batched = median("batches", folder, parsed.repeat, parsed.episodes, 0)
    indexed = median("batches", folder, parsed.repeat, parsed.episodes, 1)
    plain = median("plain", folder, parsed.repeat, min(parsed.episodes, 100_000))
    single = median("single", folder, parsed.repeat, 2000)
    threads = median("threads", folder, parsed.repeat, 64, 100)
    processes = median("processes", folder, parsed.repeat, 4, 200)
    return [
        _rate(f"batches of 1,000 to {parsed.episodes:,}, words not indexed", batched, 100_000, plain),
        _rate(f"batches of 1,000 to {parsed.episodes:,}, words indexed", indexed, 25_000, plain),
        Figure("plain SQLite, batches of 1,000, vector in the row", f"{plain:,.0f}/s"),
        _rate("one at a time, one thread", single, 3_500),
        _rate("one at a time, 64 threads", threads, 25_000),
        _rate("4 processes, batches of 100, together", processes, 50_000),
    ]


def _rate(what: str, value: float, aim: int, peer: float | None = None) -> Figure:
    ratio = "" if peer is None else f" ({value / peer:.2f} x plain SQLite)"
    return Figure(what, f"{value:,.0f}/s{ratio}", f">= {aim:,}/s", value >= aim)


def sizes(folder: Path, parsed: Any) -> list[Figure]:
    """Measure memory, searches and opening at growing sizes of one store."""
    figures, growths = [], []
    steps: Sequence[int] = [size for size in (10_000, 100_000, 1_000_000) if size <= parsed.episodes]
    shutil.rmtree(folder, ignore_errors=True)
    before = 0
    for size in steps:
        grown = run("grow", folder, before, size)
        found = run("search", folder, size)
        growths.append(grown["growth_mib"])
        figures += [
            Figure(f"{size:,}: private memory that adding and searching took", f"{grown['growth_mib']:.1f} MiB",
                   "<= 16 MiB", grown["growth_mib"] <= 16),
            Figure(f"{size:,}: ten nearest, p50 / p95", f"{found['p50_ms']:.1f} / {found['p95_ms']:.1f} ms",
                   "<= 20 ms" if size == 1_000_000 else "", found["p50_ms"] <= 20 if size == 1_000_000 else None),
            Figure(f"{size:,}: recall of the ten nearest", f"{found['recall']:.3f}", ">= 0.99",
                   found["recall"] >= 0.99),
            Figure(f"{size:,}: rare word / word of all texts, p50",
                   f"{found['rare_ms']:.1f} / {found['common_ms']:.1f} ms"),
            Figure(f"{size:,}: open", f"{found['open_ms']:.1f} ms", "<= 50 ms", found["open_ms"] <= 50),
        ]  # fmt: skip
        before = size
    spread = max(growths) - min(growths)
    figures.append(
        Figure("memory at all sizes: most less least", f"{spread:.1f} MiB", "<= 2 MiB", spread <= 2)
    )
    return figures


def main() -> int:
    """Measure and print."""
    parser = _common.options(__doc__)
    parser.add_argument(
        "--episodes", type=int, default=1_000_000, help="the largest store (default: 1,000,000)"
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs of each rate, of which the median counts")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memguard-bench-") as place:
        figures = adds(Path(place) / "store", parsed) + sizes(Path(place) / "store", parsed)
    return _common.finish("The store of episodes", figures, parsed)


if __name__ == "__main__":
    sys.exit(main())
