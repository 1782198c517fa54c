"""A store of episodes of ten thousand, a hundred thousand and a million: built, searched, added to, checked.

Each size is built by a process of its own, in batches of a thousand with vectors of 384. Then another process opens the
store, adds and searches, while its private memory is looked at every two milliseconds; and a third one checks it.

Invariant: what is searched for is found, nothing is damaged, the process that works grows by 16 MiB at the most, and by
the same at all sizes within 2 MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import _common
import numpy as np
from numpy.typing import NDArray

from memguard.episodes import Episode, EpisodeStore
from memguard.host import private_bytes_now
from memguard.host.heap import trim_heap
from memguard.units import MIB, format_bytes

REQUIREMENTS = ("E1", "E4", "E8")

_DIMENSION, _BATCH, _SEARCHES = 384, 1000, 40
_MOST_GROWTH, _MOST_SPREAD = 16 * MIB, 2 * MIB
_QUICK = (10_000, 30_000)
_SIZES = (10_000, 100_000, 1_000_000)


def episodes(first: int, count: int) -> Iterator[Episode]:
    """Give episodes of which everything follows from their numbers: 300 characters, metadata, a vector."""
    vectors = vectors_of(first, count)
    for at in range(count):
        number = first + at
        text = (
            f"episode n{number} of the fit of table t{number % 977}; "
            + "it took memory and gave it back " * 8
        )
        yield Episode(text=text, vector=vectors[at], metadata={"number": number}, id=f"e{number}")


def vectors_of(first: int, count: int) -> NDArray[np.float32]:
    """Return the vectors of some numbers, shape (count, 384)."""
    return np.random.default_rng(first).standard_normal((count, _DIMENSION)).astype(np.float32)


def build(folder: Path, count: int) -> dict[str, float]:
    """Fill a store; returns the seconds that took."""
    began_s = time.monotonic()
    with EpisodeStore(folder) as store:
        for first in range(0, count, _BATCH):
            store.add_episodes(episodes(first, min(_BATCH, count - first)))
        store.index()
    return {"build_s": time.monotonic() - began_s}


def work(folder: Path, count: int) -> dict[str, float]:
    """Open, add and search; returns growth of private memory, and what was found."""
    warm(folder.parent / "warm")
    found = 0
    trim_heap()
    with peak() as growth:
        began_s = time.monotonic()
        with EpisodeStore(folder) as store:
            opened_s = time.monotonic() - began_s
            added = count
            for at in range(_SEARCHES):
                number = at * (count // _SEARCHES)
                batch = number // _BATCH * _BATCH
                vector = vectors_of(batch, min(_BATCH, count - batch))[number - batch]
                found += store.search_episodes_by_vector(vector, 10)[0].id == f"e{number}"
                found += store.search_episodes_by_text(f"n{number}", 10)[0].id == f"e{number}"
                found += store.get_episode(f"e{number}").metadata["number"] == number
                store.add_episodes(episodes(added, 100))
                added += 100
            took_s = time.monotonic() - began_s
    return {"growth_bytes": growth(), "found": found, "open_s": opened_s, "work_s": took_s}


def warm(folder: Path) -> None:
    """Do each thing once, so that what is loaded only once is there before."""
    with EpisodeStore(folder) as store:
        store.add_episodes(episodes(0, _BATCH))
        store.search_episodes_by_vector(vectors_of(0, 1)[0], 10)
        store.search_episodes_by_text("n1", 10)
    shutil.rmtree(folder)


def check(folder: Path, _: int) -> dict[str, float]:
    """Look the whole store over; returns how much is damaged, and the seconds that took."""
    began_s = time.monotonic()
    with EpisodeStore(folder, read_only=True) as store:
        damaged = sum(1 for _ in store.check())
    return {"damaged": damaged, "check_s": time.monotonic() - began_s}


@contextmanager
def peak() -> Iterator[Callable[[], int]]:
    """Look at this process's private memory every two milliseconds; gives what it grew by at the most."""
    before = highest = private_bytes_now()
    ended = threading.Event()

    def look() -> None:
        nonlocal highest
        while not ended.wait(0.002):
            highest = max(highest, private_bytes_now())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: highest - before
    finally:
        ended.set()
        thread.join()


_STEPS = {each.__name__: each for each in (build, work, check)}


def in_a_process(step: str, folder: Path, count: int) -> dict[str, float]:
    """Do a step in a process of its own."""
    words = [sys.executable, __file__, "--step", step, "--folder", str(folder), "--sizes", str(count)]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def sizes(parsed: argparse.Namespace, checks: _common.Checks) -> None:
    """Go through the sizes."""
    folder, growths = Path(os.environ["TMPDIR"]), list[float]()
    for count in _QUICK if parsed.quick else parsed.sizes or _SIZES:
        store = folder / f"store-{count}"
        told = {name: value for step in _STEPS for name, value in in_a_process(step, store, count).items()}
        growths.append(told["growth_bytes"])
        grew = format_bytes(int(growths[-1]))
        print(
            f"{count:>9,}: built at {count / told['build_s']:,.0f}/s with its index, "
            f"opened in {told['open_s'] * 1e3:.1f} ms, grew by {grew}, checked in {told['check_s']:.1f} s",
            flush=True,
        )
        checks.check(told["found"] == 3 * _SEARCHES, f"{count}: found {told['found']:.0f} of {3 * _SEARCHES}")
        checks.check(told["damaged"] == 0, f"{count}: {told['damaged']:.0f} damaged")
        checks.check(growths[-1] <= _MOST_GROWTH, f"{count}: grew by {format_bytes(int(growths[-1]))}")
        shutil.rmtree(store)
    spread = max(growths) - min(growths)
    checks.check(spread <= _MOST_SPREAD, f"growth differs by {format_bytes(int(spread))} between the sizes")
    print(f"growth differs by {format_bytes(int(spread))}")


def main() -> int:
    """Go through the sizes, or do one step of one."""
    parser = _common.options(__doc__, duration_s=3600.0)
    parser.add_argument("--quick", action="store_true", help="10,000 and 30,000 alone")
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="how many episodes (default: 10000 100000 1000000)"
    )
    parser.add_argument("--step", choices=_STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.step is not None:
        print(json.dumps(_STEPS[parsed.step](parsed.folder, parsed.sizes[0])))
        return 0
    return _common.run_in_pen(sizes, parsed)


if __name__ == "__main__":
    sys.exit(main())
