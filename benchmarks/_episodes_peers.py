"""One peer of the store of episodes, by the Python that has it: PEER FOLDER VECTORS COUNT SECONDS; prints JSON.

Each peer adds the same texts, metadata and vectors, a thousand at a time, as its documentation shows it, and then looks
for the ten nearest of 100 vectors that it does not have. Nothing is tuned. Whether an add that was acknowledged
survives a power cut differs: sqlite-vec here commits with synchronous FULL, LanceDB syncs nothing, Chroma and LangGraph
as SQLite's defaults in their versions have it, mem0 stores in an embedded qdrant.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.update(ANONYMIZED_TELEMETRY="False", MEM0_TELEMETRY="False", LANCEDB_DISABLE_TELEMETRY="1")

import numpy as np  # telemetry is switched off before anything is imported
from _episodes_sentences import vectors_of

_BATCH = 1000
_ASKED = 100

Batch = tuple[list[str], list[str], list[dict[str, Any]], Any]
# What adds a batch, and what returns the ids of the ten nearest.
Peer = tuple[Callable[[Batch], None], Callable[[Any], list[str]]]


def batch_of(base: Any, first: int, count: int) -> Batch:
    """Return ids, texts of some 300 characters, metadata and vectors."""
    numbers = range(first, first + count)
    texts = [f"episode{number} w{number % 5000} {'what happened then ' * 14}" for number in numbers]
    metadata = [{"number": number, "group": number % 7} for number in numbers]
    return [f"{number:08d}" for number in numbers], texts, metadata, vectors_of(base, first, count)


def memguard(folder: Path) -> Peer:
    """The store itself, as it is."""
    from memguard.episodes import Episode, EpisodeStore  # noqa: PLC0415

    store = EpisodeStore(folder / "store")

    def add(batch: Batch) -> None:
        rows = zip(*batch, strict=True)
        store.add_episodes(
            [Episode(id=each, text=text, metadata=more, vector=vector) for each, text, more, vector in rows]
        )

    def find(vector: Any) -> list[str]:
        return [hit.id for hit in store.search_episodes_by_vector(vector)]

    return add, find


def sqlite_vec(folder: Path) -> Peer:
    """Rows in a table, vectors in a virtual one, one transaction for both."""
    import apsw  # noqa: PLC0415
    import sqlite_vec as extension  # noqa: PLC0415

    connection = apsw.Connection(str(folder / "peer.sqlite"))
    connection.enable_load_extension(True)
    connection.load_extension(extension.loadable_path())
    connection.execute("PRAGMA journal_mode=wal; PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE item(row INTEGER PRIMARY KEY, id TEXT UNIQUE, text TEXT, metadata TEXT)")
    connection.execute("CREATE VIRTUAL TABLE near USING vec0(vector float[384] distance_metric=cosine)")

    def add(batch: Batch) -> None:
        with connection:
            for each, text, metadata, vector in zip(*batch, strict=True):
                row = (each, text, json.dumps(metadata))
                connection.execute("INSERT INTO item(id, text, metadata) VALUES (?, ?, ?)", row)
                at = connection.last_insert_rowid()
                connection.execute("INSERT INTO near(rowid, vector) VALUES (?, ?)", (at, vector.tobytes()))

    def find(vector: Any) -> list[str]:
        inner = "SELECT rowid FROM near WHERE vector MATCH ? AND k = 10"
        asked = f"SELECT id FROM ({inner}) AS found JOIN item ON row = found.rowid"
        return [each for (each,) in connection.execute(asked, (vector.tobytes(),))]

    return add, find


def lancedb(folder: Path) -> Peer:
    """A table, without an index of its vectors."""
    import lancedb as library  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    base = library.connect(str(folder / "peer"))
    kind = pa.schema([
        ("id", pa.string()), ("text", pa.string()), ("metadata", pa.string()),
        ("vector", pa.list_(pa.float32(), 384)),
    ])  # fmt: skip
    table = base.create_table("item", schema=kind)

    def add(batch: Batch) -> None:
        ids, texts, metadata, vectors = batch
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 384)
        columns = [
            pa.array(ids),
            pa.array(texts),
            pa.array(list(map(json.dumps, metadata))),
            flat,
        ]
        table.add(pa.Table.from_arrays(columns, schema=kind))

    def find(vector: Any) -> list[str]:
        return [each["id"] for each in table.search(vector).distance_type("cosine").limit(10).to_list()]

    return add, find


def chroma(folder: Path) -> Peer:
    """A collection that persists."""
    import chromadb  # noqa: PLC0415

    client = chromadb.PersistentClient(str(folder / "peer"))
    collection = client.create_collection("item", metadata={"hnsw:space": "cosine"}, embedding_function=None)

    def add(batch: Batch) -> None:
        ids, texts, metadata, vectors = batch
        collection.add(ids=ids, documents=texts, metadatas=metadata, embeddings=vectors)

    def find(vector: Any) -> list[str]:
        return collection.query(query_embeddings=[vector], n_results=10)["ids"][0]

    return add, find


def mem0(folder: Path) -> Peer:
    """Its vector store, an embedded qdrant, with nothing inferred: what lies below its memories."""
    os.environ["MEM0_DIR"] = str(folder / "mem0")
    import uuid  # noqa: PLC0415

    from mem0.vector_stores.qdrant import Qdrant  # noqa: PLC0415

    store = Qdrant(collection_name="item", embedding_model_dims=384, path=str(folder / "peer"), on_disk=True)

    def add(batch: Batch) -> None:
        ids, texts, metadata, vectors = batch
        payloads = [{"data": text, **more} for text, more in zip(texts, metadata, strict=True)]
        names = [str(uuid.UUID(int=int(each) + 1)) for each in ids]
        store.insert(vectors=vectors.tolist(), payloads=payloads, ids=names)

    def find(vector: Any) -> list[str]:
        hits = store.search(query="", vectors=vector.tolist(), top_k=10)
        return [str(each.payload["number"]) for each in hits]

    return add, find


def langgraph(folder: Path) -> Peer:
    """Its store in SQLite, with an index of vectors that are given."""
    sqlite3 = _loading_sqlite()
    from langgraph.store.sqlite import SqliteStore  # noqa: PLC0415

    known: dict[str, Any] = {}
    connection = sqlite3.connect(str(folder / "peer.sqlite"), isolation_level=None, check_same_thread=False)

    def embed(texts: list[str]) -> list[list[float]]:
        return [known[text].tolist() for text in texts]

    store = SqliteStore(connection, index={"dims": 384, "embed": embed, "text_fields": ["text"]})
    store.setup()

    def add(batch: Batch) -> None:
        from langgraph.store.base import PutOp  # noqa: PLC0415

        ids, texts, metadata, vectors = batch
        known.update(zip(texts, vectors, strict=True))
        rows = zip(ids, texts, metadata, strict=True)
        store.batch([PutOp(("item",), each, {"text": text, **more}) for each, text, more in rows])
        known.clear()

    def find(vector: Any) -> list[str]:
        known["asked"] = vector
        return [each.key for each in store.search(("item",), query="asked", limit=10)]

    return add, find


def _loading_sqlite() -> Any:
    """Return a `sqlite3` that loads extensions, as vectors need it; many a Python's own does not."""
    own = importlib.import_module("sqlite3")
    if not hasattr(own.Connection, "enable_load_extension"):
        own = sys.modules["sqlite3"] = importlib.import_module("pysqlite3")
    return own


PEERS: dict[str, tuple[Callable[[Path], Peer], str]] = {
    "memguard": (memguard, "automl-memguard"),
    "sqlite-vec": (sqlite_vec, "sqlite-vec"),
    "LanceDB": (lancedb, "lancedb"),
    "Chroma": (chroma, "chromadb"),
    "mem0": (mem0, "mem0ai"),
    "LangGraph": (langgraph, "langgraph-checkpoint-sqlite"),
}


def private_bytes() -> int:
    """Return the private memory of this process, as the kernel tells it."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


def main() -> int:
    """Measure one, unless it takes too long."""
    signal.alarm(int(sys.argv[5]))
    name, folder, path, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    base = np.load(path)
    every = np.concatenate([vectors_of(base, first, _BATCH) for first in range(0, count, _BATCH)])
    queries = base[-_ASKED:] / np.linalg.norm(base[-_ASKED:], axis=1, keepdims=True)
    make, package = PEERS[name]
    before, spent = private_bytes(), 0.0
    add, find = make(folder)
    for first in range(0, count, _BATCH):
        batch = batch_of(base, first, _BATCH)
        began = time.perf_counter()
        add(batch)
        spent += time.perf_counter() - began
    took, found = [], 0
    for query in queries:
        began = time.perf_counter()
        ids = find(query)
        took.append(time.perf_counter() - began)
        found += len({int(each) for each in ids} & set(np.argsort(-(every @ query))[:10].tolist()))
    print(json.dumps({
        "version": version(package), "adds_per_s": count / spent, "p50_ms": 1000 * statistics.median(took),
        "recall": found / (10 * len(queries)), "growth_mib": (private_bytes() - before) / 2**20,
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
