"""One part of the benchmark of the store of episodes, in a process of its own: PART FOLDER NUMBERS; prints JSON."""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from memguard.episodes import Episode, EpisodeStore
from memguard.episodes import store as store_module
from memguard.host import read_process_memory

_DIMENSION, _CENTRES, _BATCH = 384, 2_000, 1_000
_WORDS = (
    *("memory", "job", "fit", "rows", "column", "batch", "budget"),
    *("leak", "kill", "forecast", "lease", "worker", "cache", "swap"),
)
_NEVER = 10**9


def vectors_of(first: int, count: int) -> NDArray[np.float32]:
    """Return vectors that follow from their numbers: a centre and noise."""
    centres = np.random.default_rng(1).standard_normal((_CENTRES, _DIMENSION)).astype(np.float32)
    draw = np.random.default_rng(first + 2)
    noise = draw.standard_normal((count, _DIMENSION)).astype(np.float32)
    return centres[draw.integers(_CENTRES, size=count)] + 0.6 * noise


def text_of(number: int) -> str:
    """Return a text of some 300 characters in which two words are its own."""
    words = [_WORDS[(number * step) % len(_WORDS)] for step in range(1, 45)]
    return f"episode{number} w{number % 5000} {' '.join(words)}"


def episodes(first: int, count: int) -> list[Episode]:
    """Return a batch."""
    return [
        Episode(text=text_of(first + at), vector=vector, metadata={"number": first + at, "group": at % 7})
        for at, vector in enumerate(vectors_of(first, count))
    ]


def batched(store: EpisodeStore, start: int, stop: int, size: int = _BATCH) -> float:
    """Add batches; returns the seconds of adding, without those of making texts and vectors."""
    spent = 0.0
    for first in range(start, stop, size):
        batch = episodes(first, min(size, stop - first))
        began = time.perf_counter()
        store.add_episodes(batch)
        spent += time.perf_counter() - began
    return spent


def batches(folder: Path, count: int, is_indexed: int) -> float:
    """Episodes a second in batches, with the words of all of them indexed or none."""
    store_module._MOST_UNINDEXED = 0 if is_indexed else _NEVER  # type: ignore[misc]
    with EpisodeStore(folder) as store:
        spent = batched(store, 0, count)
        began = time.perf_counter()
        if is_indexed:
            store.index()
        return count / (spent + time.perf_counter() - began)


def plain(folder: Path, count: int) -> float:
    """Rows a second in plain SQLite, with text, JSON and vector in the row."""
    folder.mkdir()
    connection, spent = apsw.Connection(str(folder / "plain.sqlite")), 0.0
    connection.execute("PRAGMA journal_mode=wal; PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE plain(id INTEGER PRIMARY KEY, text TEXT, metadata TEXT, vector BLOB)")
    for first in range(0, count, _BATCH):
        batch = episodes(first, _BATCH)
        began = time.perf_counter()
        rows = [(each.text, json.dumps(each.metadata), np.asarray(each.vector).tobytes()) for each in batch]
        with connection:
            connection.executemany("INSERT INTO plain(text, metadata, vector) VALUES (?, ?, ?)", rows)
        spent += time.perf_counter() - began
    return count / spent


def single(folder: Path, count: int) -> float:
    """Episodes a second, one add after the other; they are made before, or each add would begin with cold caches."""
    made = episodes(0, count)
    with EpisodeStore(folder) as store:
        store.add_episode(Episode())
        began = time.perf_counter()
        for each in made:
            store.add_episode(each)
        return count / (time.perf_counter() - began)


def threads(folder: Path, many: int, each: int) -> float:
    """Episodes a second of many threads that add one at a time."""
    with EpisodeStore(folder) as store:
        store.add_episode(Episode())
        made = [episodes(each * number, each) for number in range(many)]
        return many * each / _at_once([_adder(store, batch) for batch in made])


def _adder(store: EpisodeStore, batch: list[Episode]) -> Callable[[], None]:
    return lambda: [store.add_episode(episode) for episode in batch] and None


def _at_once(works: list[Callable[[], None]]) -> float:
    gate = threading.Barrier(len(works) + 1)
    running = [threading.Thread(target=lambda work=work: (gate.wait(), work())) for work in works]
    for each in running:
        each.start()
    gate.wait()
    began = time.perf_counter()
    for each in running:
        each.join()
    return time.perf_counter() - began


def processes(folder: Path, many: int, each: int, is_indexed: int) -> float:
    """Episodes a second of processes that add batches of a hundred, with most words indexed or none."""
    if not is_indexed:
        store_module._MOST_UNINDEXED = _NEVER  # type: ignore[misc]
    EpisodeStore(folder).close()
    ready, go = os.pipe(), os.pipe()
    pids = []
    for number in range(many):
        if (pid := os.fork()) == 0:
            os.close(go[1])
            work = [episodes(100 * (each * number + at), 100) for at in range(each)]
            with EpisodeStore(folder) as store:
                os.write(ready[1], b"r")
                os.read(go[0], 1)  # until nobody holds the other end
                for batch in work:
                    store.add_episodes(batch)
            os._exit(0)
        pids.append(pid)
    for _ in pids:
        os.read(ready[0], 1)
    os.close(go[1])
    began = time.perf_counter()
    failed = [pid for pid in pids if os.waitpid(pid, 0)[1]]
    spent = time.perf_counter() - began
    if failed:
        raise RuntimeError(f"{len(failed)} writers failed")
    return 100 * each * many / spent


def grow(folder: Path, start: int, stop: int) -> dict[str, float]:
    """Private memory that adding and searching take, once everything is loaded and warm."""
    list(_warm(folder))
    with EpisodeStore(folder) as store:
        before = read_process_memory().private_bytes
        batched(store, start, stop)
        _search_some(store, stop)
        after = read_process_memory().private_bytes
    return {"growth_mib": (after - before) / 2**20}


def _warm(folder: Path) -> Iterator[None]:
    """Make what the benchmark itself makes, and load what a store loads."""
    with EpisodeStore(folder.with_name("warm")) as store:
        batched(store, 0, 2000)
        yield
        _search_some(store, 2000)


def _search_some(store: EpisodeStore, count: int) -> None:
    for query in vectors_of(count + 7, 10):
        store.search_episodes_by_vector(query)
    store.search_episodes_by_text("w77")
    store.search_episodes_by_text("memory")


def search(folder: Path, count: int) -> dict[str, float]:
    """Latencies and recall over 30 queries that are in no store, and what opening takes."""
    openings = []
    for _ in range(5):
        began = time.perf_counter()
        store = EpisodeStore(folder)
        openings.append(time.perf_counter() - began)
        store.close()
    with EpisodeStore(folder) as store:
        store.index()
        queries, found, took = vectors_of(count + 7, 30), 0, []
        store.search_episodes_by_vector(queries[0])
        for query in queries:
            began = time.perf_counter()
            hits = store.search_episodes_by_vector(query)
            took.append(time.perf_counter() - began)
            exact = store.search_episodes_by_vector(query, exact=True)
            found += len({hit.id for hit in hits} & {hit.id for hit in exact})
        rare = [_timed(lambda at=at: store.search_episodes_by_text(f"w{at}")) for at in range(20)]
        common = [_timed(lambda: store.search_episodes_by_text("memory")) for _ in range(5)]
    return {
        "open_ms": 1000 * statistics.median(openings),
        "p50_ms": 1000 * statistics.median(took),
        "p95_ms": 1000 * sorted(took)[int(0.95 * len(took))],
        "recall": found / (10 * len(queries)),
        "rare_ms": 1000 * statistics.median(rare),
        "common_ms": 1000 * statistics.median(common),
    }


def _timed(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


PARTS: dict[str, Callable[..., Any]] = {
    "batches": batches,
    "plain": plain,
    "single": single,
    "threads": threads,
    "processes": processes,
    "grow": grow,
    "search": search,
}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:]))))
