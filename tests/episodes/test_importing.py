"""Episodes from files of other stores and from objects in memory: each there once, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.episodes import Episode, EpisodeStore, import_file, import_objects
from memguard.episodes import json_arrays as json_arrays_module
from memguard.errors import DataError
from tests.support.episodes import vectors

ROOT = Path(__file__).resolve().parents[2]
COUNT = 2500


def rows(count: int = COUNT) -> list[dict[str, Any]]:
    made = zip(range(count), vectors(count), strict=True)
    return [
        {"text": f"記録 {number}", "vector": vector.tolist(), "metadata": {"n": number}}
        for number, vector in made
    ]


def as_lines(path: Path) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows()))


def as_array(path: Path) -> None:
    path.write_text(json.dumps(rows(), indent=1, ensure_ascii=False))


def as_parquet(path: Path) -> None:
    pd.DataFrame([row | {"metadata": json.dumps(row["metadata"])} for row in rows()]).to_parquet(path)


def as_columns(path: Path) -> None:
    np.savez_compressed(
        path,
        texts=np.asarray([row["text"] for row in rows()]),
        embeddings=vectors(COUNT),
        metadatas=np.asarray([json.dumps(row["metadata"]) for row in rows()]),
    )


KINDS: dict[str, Callable[[Path], None]] = {
    "jsonl": as_lines, "json": as_array, "parquet": as_parquet, "npz": as_columns,
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore(tmp_path / "store") as opened:
        yield opened


def content_of(store: EpisodeStore) -> list[tuple[str, Any, Any]]:
    return sorted(
        (each.text, each.metadata["n"], tuple(np.asarray(each.vector).tolist()))
        for each in store.episodes(with_vectors=True)
    )


WANTED = sorted(
    (row["text"], row["metadata"]["n"], tuple(np.float32(row["vector"]).tolist())) for row in rows()
)


@pytest.mark.requirement("E6")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same(store: EpisodeStore, tmp_path: Path, kind: str) -> None:
    """Texts, vectors and metadata of each row once; a second import adds nothing."""
    path = tmp_path / f"rows.{kind}"
    KINDS[kind](path)
    done = import_file(store, path)
    assert (done.records, done.added, done.left_out) == (COUNT, COUNT, 0)
    assert content_of(store) == WANTED
    again = import_file(store, path)
    assert (again.records, again.added) == (COUNT, 0)
    store.add_marked([], f"import {source_mark(path)}", "0")  # as if nobody knew how far it came
    assert import_file(store, path).added == 0


def source_mark(path: Path) -> str:
    from memguard.episodes.sources import FileSource

    return FileSource(path).mark


@pytest.mark.requirement("E6", "E14")
@pytest.mark.parametrize("kind", KINDS)
def test_killed_again_and_again_it_ends_with_each_once(tmp_path: Path, kind: str) -> None:
    """kill -9 after each of its first commits, while another writes and reads; the counts of all runs add up."""
    path = tmp_path / f"rows.{kind}"
    KINDS[kind](path)
    command = [sys.executable, "-m", "memguard", "episodes", "import", str(path), "--store", str(tmp_path / "store")]  # fmt: skip
    with EpisodeStore(tmp_path / "store") as store:
        for _ in range(2):
            before = imported(store)
            importing = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while imported(store) == before and importing.poll() is None:
                store.add_episode(Episode(text="beside", namespace="other", vector=[1.0]))
                store.search_episodes_by_text("記", 1)
            importing.send_signal(signal.SIGKILL)
            importing.communicate()
            assert imported(store) in (1000, 2000, 2500)
        there = imported(store)
        assert import_file(store, path).added == COUNT - there
        assert imported(store) == COUNT
        assert list(store.check()) == []


def imported(store: EpisodeStore) -> int:
    return sum(each.episodes for each in store.statistics().namespaces if each.name == "default")


def test_what_others_add_is_not_counted(store: EpisodeStore, tmp_path: Path) -> None:
    """Nor what they delete: the import counts what it added itself."""
    as_lines(tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    ids = store.add_episodes([Episode(text="to go")] * 30)

    def busy() -> Iterator[Any]:
        for number, line in enumerate(lines):
            if number % 100 == 0:
                store.add_episodes([Episode(text="beside")] * 3)
                store.delete(ids.pop())
            yield json.loads(line)

    assert import_objects(store, busy(), name="rows").added == COUNT


@dataclass
class Memory:
    """As older systems keep what they know."""

    content: str
    embedding: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)


Named = namedtuple("Named", "text vector metadata")


@pytest.mark.requirement("E6")
def test_objects_of_any_make_are_taken(store: EpisodeStore) -> None:
    """Data classes, plain objects, mappings, tuples, texts, episodes; the same again adds nothing."""
    vector = np.asarray([0.25, 0.5])
    objects: list[Any] = [
        Memory("a", vector, {"n": 0}), SimpleNamespace(page_content="b", vector=vector.tolist(), metadata={"n": 1}),
        {"memory": "c", "embedding": vector, "payload": {"n": 2}}, ("d", vector, {"n": 3}, "given"),
        Named("e", vector, {"n": 4}), Episode(text="f", vector=vector, metadata={"n": 5}), ("g",), "h",
    ]  # fmt: skip
    assert import_objects(store, iter(objects), name="old").added == 8
    assert import_objects(store, iter(objects), name="old").added == 0
    assert import_objects(store, [*objects, "i"], name="old").added == 1
    found = {each.text: each for each in store.episodes(with_vectors=True)}
    assert sorted(found) == list("abcdefghi")
    for number, text in enumerate("abcdef"):
        assert (found[text].metadata, np.asarray(found[text].vector).tolist()) == ({"n": number}, [0.25, 0.5])
    assert found["d"].id == "given"


def test_a_bad_object_is_named_by_its_number(store: EpisodeStore) -> None:
    """It stops the import behind what was good, or is left out and told."""
    objects: list[Any] = ["good", SimpleNamespace(other=1), ("bad", "no vector"), "good too", ("x", [0.0])]
    with pytest.raises(DataError, match="old:2: a SimpleNamespace has neither text nor vector nor metadata"):
        import_objects(store, objects, name="old")
    assert [each.text for each in store.episodes()] == ["good"]
    told: list[str] = []
    done = import_objects(
        store, objects, name="old", skip_bad=True, on_bad=lambda error: told.append(str(error))
    )
    assert (done.records, done.added, done.left_out) == (5, 1, 3)
    assert [each.split(":")[1] for each in told] == ["2", "3", "5"]


class Trap:
    """Told to leave a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["pkl", "pickle", "joblib", "pt", "npz", "jsonl", "json", "parquet"])
def test_no_pickle_is_ever_opened(store: EpisodeStore, tmp_path: Path, kind: str) -> None:
    """Whatever it is called; it is said what to do instead."""
    path, trap = tmp_path / f"old.{kind}", tmp_path / "trap"
    if kind == "npz":
        np.savez(path, texts=np.asarray([Trap(trap)], dtype=object))
    else:
        path.write_bytes(pickle.dumps([Trap(trap)]))
    with pytest.raises(DataError) as caught:
        import_file(store, path)
    assert not trap.exists()
    if kind not in ("jsonl", "json", "parquet"):
        assert "never opened" in str(caught.value)
        assert "json.dumps" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "content", "told"),
    [
        ("json", b'[{"text": "a"}, {"text": ', ":2: is not JSON"),
        ("json", b'[{"text": "a"} {"text": "b"}]', ":2: is not JSON"),
        ("json", b'[{"text": "a"}] x', ":2: is not JSON: there is more"),
        ("json", b'[{"text": "a"}, \xff]', ":2: is not JSON"),
        ("json", b'[{"text": "a"}, {"text": "\xff"}]', ":2: the text has half of a surrogate pair"),
        ("npz", b"PK nothing", "cannot be read as NumPy's columns"),
        ("parquet", b"PAR1", "cannot be read as Parquet"),
    ],
)
def test_a_damaged_file_is_named(
    store: EpisodeStore, tmp_path: Path, kind: str, content: bytes, told: str
) -> None:
    """With the place where it can still be told; what lies before is in the store."""
    path = tmp_path / f"bad.{kind}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"bad.{kind}") as caught:
        import_file(store, path)
    assert told in str(caught.value)
    assert len(store) == (1 if kind == "json" else 0)


def test_columns_that_are_no_table_are_refused(store: EpisodeStore, tmp_path: Path) -> None:
    """Of different lengths, or lying by columns."""
    np.savez(tmp_path / "lengths.npz", texts=np.asarray(["a", "b"]), vectors=np.zeros((3, 2)))
    np.savez(tmp_path / "order.npz", vectors=np.asfortranarray(np.ones((3, 2))))
    for name, told in (("lengths", "different lengths"), ("order", "row by row")):
        with pytest.raises(DataError, match=told):
            import_file(store, tmp_path / f"{name}.npz")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=60)
@given(values=st.lists(VALUES, max_size=5), indent=st.sampled_from([None, 1]), chunk=st.integers(1, 9))
def test_an_array_is_read_as_the_standard_library_would(
    values: list[Any], indent: int | None, chunk: int
) -> None:
    """Wherever a read ends, in the midst of a number, a text or a character."""
    read, write = os.pipe()
    with pytest.MonkeyPatch.context() as patched, os.fdopen(read, "rb") as file:
        patched.setattr(json_arrays_module, "_CHUNK", chunk)
        os.write(write, json.dumps(values, indent=indent, ensure_ascii=False).encode()[:60_000])
        os.close(write)
        assert [item for item, _ in json_arrays_module.items_of(file, longest=1 << 20)] == values


def test_a_long_array_holds_little(tmp_path: Path) -> None:
    """What is held while it is read is a fraction of it."""
    program = (
        "import sys, tracemalloc; from pathlib import Path; from memguard.episodes.sources import FileSource\n"
        "tracemalloc.start(); count = sum(1 for _ in FileSource(Path(sys.argv[1])).records())\n"
        "print(count, tracemalloc.get_traced_memory()[1])"
    )
    with (tmp_path / "long.json").open("w") as file:
        file.write("[" + ",".join(json.dumps({"text": "x" * 1000}) for _ in range(20_000)) + "]")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "long.json")], cwd=ROOT, capture_output=True, check=True
    )  # fmt: skip
    count, peak = map(int, done.stdout.split())
    assert (count, peak < 8 << 20) == (20_000, True), peak
