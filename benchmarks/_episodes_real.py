"""A store of real sentence embeddings and texts of two scripts: FOLDER VECTORS COUNT; prints JSON.

Where there is no store yet it is built, else it is searched: by another process, whose memory adding has not formed.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _episodes_sentences import QUERIES, vectors_of

from memguard.episodes import Episode, EpisodeStore
from memguard.host import read_process_memory

_BATCH = 1000
_EXACT = 100
# In all texts, in half of them, in a few, by one character and by two: what a word can be.
_WORDS = {
    "all": "memory",
    "half": "budget",
    "few": "w77",
    "one": "忘",
    "two": "学習",
    "both": "memory budget",
}


def text_of(number: int) -> str:
    """Return a text of some 300 characters."""
    shared = "memory budget" if number % 2 else "memory lease"
    japanese = "学習の記録を忘却する。" if number % 3 == 0 else "実験の結果を見る。"
    return f"episode{number} w{number % 5000} {shared} {japanese} {'what happened then ' * 12}"


def add(store: EpisodeStore, base: Any, count: int) -> float:
    """Add all; return the seconds of adding, and of indexing the words."""
    spent = 0.0
    for first in range(0, count, _BATCH):
        made = vectors_of(base, first, _BATCH)
        batch = [
            Episode(text=text_of(first + at), vector=vector, metadata={"group": (first + at) % 7})
            for at, vector in enumerate(made)
        ]
        began = time.perf_counter()
        store.add_episodes(batch)
        spent += time.perf_counter() - began
    began = time.perf_counter()
    store.index()
    return spent + time.perf_counter() - began


def milliseconds(act: Callable[[], Any], times: int = 7) -> float:
    """Return the median of several calls behind a first one."""
    act()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def main() -> int:
    """Build one, or search it."""
    folder, count = Path(sys.argv[1]), int(sys.argv[3])
    base = np.load(sys.argv[2])
    if not folder.exists():
        with EpisodeStore(folder) as store:
            print(json.dumps({"adds_per_s": count / add(store, base, count)}))
        os.sync()  # what is left to be written back would be timed with the searches
        return 0
    queries = base[-QUERIES:].copy()
    del base
    with EpisodeStore(folder) as store:
        find = store.search_episodes_by_vector
        find(queries[0])
        before, took, found = read_process_memory().private_bytes, [], 0
        for query in queries:
            began = time.perf_counter()
            find(query)
            took.append(time.perf_counter() - began)
        grown = read_process_memory().private_bytes - before
        for query in queries[:_EXACT]:
            exact = {hit.id for hit in find(query, exact=True)}
            found += len(exact & {hit.id for hit in find(query)})
        words = {
            name: milliseconds(lambda asked=asked: store.search_episodes_by_text(asked))
            for name, asked in _WORDS.items()
        }
        filtered = {
            "half": milliseconds(lambda: find(queries[1], where={"group": {"lt": 4}}), 3),
            "seventh": milliseconds(lambda: find(queries[1], where={"group": 3}), 3),
        }
        # One that was replaced: from now on there are places that cannot be found.
        store.update(find(queries[0])[0].id, metadata={})
        began = time.perf_counter()
        find(queries[0])
        first_ms = 1000 * (time.perf_counter() - began)
        dead = milliseconds(lambda: find(queries[1]))
    print(json.dumps({
        "p50_ms": 1000 * statistics.median(took),
        "p95_ms": 1000 * sorted(took)[int(0.95 * len(took))], "recall": found / (10 * _EXACT),
        "growth_mib": grown / 2**20, "words_ms": words, "filtered_ms": filtered,
        "updated_ms": {"first": first_ms, "later": dead},
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
