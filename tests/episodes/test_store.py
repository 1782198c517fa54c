"""What is added to a store of episodes is had again, has a history, and is found."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memguard.episodes import AsyncEpisodeStore, Episode, EpisodeStore, purging
from memguard.errors import (
    CapacityExceeded,
    EpisodeConflict,
    EpisodeInvalid,
    EpisodeMissing,
    EpisodeStoreError,
)
from tests.support.episodes import DIMENSION, episode, files_of, vectors


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore(tmp_path / "store") as opened:
        yield opened


@pytest.mark.requirement("E3", "E7", "E9")
class TestEpisodes:
    """Adding, changing, deleting."""

    def test_what_is_added_is_had_again(self, store: EpisodeStore) -> None:
        """Every field comes back as it was given, from the cache and from the disk, and shares nothing with either."""
        given = Episode(
            text="line\0one\n忘却 🧠 \u0301",
            vector=vectors(1)[0],
            metadata={"a": [1, 2.5, None, True, {"b": "ü"}], "big": 2**70},
            namespace="jobs",
            kind="run",
            happened_at_s=1.25,
            id="my own id",
        )
        assert store.add_episode(given) == "my own id"
        for _ in range(2):
            found = store.get_episode("my own id")
            assert found == given
            assert (found.id, found.version, found.happened_at_s) == ("my own id", 1, 1.25)
            found.metadata["a"].append("spoiled")
            np.asarray(found.vector)[:] = 7
        assert store.statistics().cache_hits == 1
        with EpisodeStore(store.folder) as other:
            assert other.get_episode("my own id") == given

    def test_ids_are_in_the_order_of_adding(self, store: EpisodeStore) -> None:
        """Ids that the store makes sort by time, also within one batch, and no two are alike."""
        ids = [store.add_episode(episode(0)) for _ in range(5)]
        ids += store.add_episodes(episode(number) for number in range(5000))
        assert ids == sorted(set(ids))
        assert [each.id for each in store.episodes()] == ids

    def test_the_same_again_changes_nothing(self, store: EpisodeStore) -> None:
        """The same content under the same id is there once; other content is refused, and nothing of its batch stays."""
        first = episode(1, id="a")
        for _ in range(3):
            assert store.add_episodes([first, first, episode(2, id="b")]) == ["a", "a", "b"]
        assert (len(store), len(store.history("a"))) == (2, 1)
        for other in (
            episode(1, id="a", text="other"),
            episode(1, id="a", vector=None),
            episode(1, id="a", kind="x"),
        ):
            with pytest.raises(EpisodeConflict) as caught:
                store.add_episodes([episode(3, id="c"), other])
            assert caught.value.id == "a"
        with pytest.raises(EpisodeConflict):
            store.add_episodes([episode(3, id="c"), episode(4, id="c")])
        assert "c" not in store
        store.update("a", text="new")
        assert store.add_episode(first) == "a"
        assert store.get_episode("a").text == "new"

    def test_versions(self, store: EpisodeStore) -> None:
        """An update is a new version; the old one stays, and searches find the new one alone."""
        store.add_episodes([episode(1, id="a"), episode(2, id="b")])
        assert store.update("a", text="quite different", metadata={"x": 1}) == 2
        assert store.update("a", vector=vectors(1, seed=9)[0]) == 3
        assert store.update("a", text="quite different") == 3
        now, before = store.get_episode("a"), store.get_episode("a", version=1)
        assert (now.text, now.metadata, now.version) == ("quite different", {"x": 1}, 3)
        assert now.happened_at_s == before.happened_at_s == 1_700_000_001.0
        assert before == episode(1)
        assert [(change.version, change.what) for change in store.history("a")] == [
            (1, "added"), (2, "updated"), (3, "updated")
        ]  # fmt: skip
        assert [hit.id for hit in store.search_episodes_by_text("episode")] == ["b"]
        assert [hit.id for hit in store.search_episodes_by_text("different")] == ["a"]
        nearest = store.search_episodes_by_vector(vectors(1, seed=9)[0], 1)[0]
        assert (nearest.id, round(nearest.score, 5)) == ("a", 1.0)
        assert len(store.search_episodes_by_vector(vectors(1, seed=1)[0], 10)) == 2

    def test_deleting(self, store: EpisodeStore) -> None:
        """What was deleted is neither had nor found, and its history is; a second deletion is refused."""
        store.add_episodes([episode(1, id="a"), episode(2, id="b")])
        store.index()
        store.delete("a")
        for act in (store.get_episode, store.delete, store.update):
            with pytest.raises(EpisodeMissing):
                act("a")
        assert [hit.id for hit in store.search_episodes_by_text("episode")] == ["b"]
        assert [hit.id for hit in store.search_episodes_by_vector(vectors(1, seed=1)[0])] == ["b"]
        last = store.history("a")[-1]
        assert (last.what, last.episode, store.get_episode("a", version=1)) == ("deleted", None, episode(1))
        for again in (1, 5):
            with pytest.raises(EpisodeConflict, match="was deleted"):
                store.add_episode(episode(again, id="a"))

    def test_purging_leaves_no_content(self, store: EpisodeStore) -> None:
        """After a purge no byte of text, metadata or vector is in any file; that it was there stays in the history."""
        secret = vectors(1, seed=7777)[0]
        store.add_episodes([episode(number) for number in range(600)])
        store.add_episode(Episode(text="xyzzy plugh", vector=secret, metadata={"k": "zorkmid"}, id="a"))
        store.update("a", text="xyzzy again")
        store.index()
        store.delete("a", purge=True)
        assert [change.what for change in store.history("a")] == ["purged", "purged", "deleted"]
        folder = store.folder
        for closed in (False, True):
            if closed:
                store.close()
            held = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
            assert not any(word in held for word in (b"xyzzy", b"plugh", b"zorkmid", secret.tobytes()))


@pytest.mark.requirement("E9")
def test_a_purge_is_finished_when_its_readers_are_gone(
    store: EpisodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody reads, copies stay in the log and that is told; a later write leaves none in any file."""
    monkeypatch.setattr(purging, "_PAUSE_S", 0.0)

    def is_left() -> bool:
        return any(b"xyzzy" in path.read_bytes() for path in store.folder.rglob("*") if path.is_file())

    store.add_episode(episode(1, text="xyzzy", id="a"))
    with EpisodeStore(store.folder, read_only=True) as other, other._look() as (connection, _):
        connection.execute("SELECT * FROM episode").fetchall()
        store.delete("a", purge=True)
        store.add_episode(episode(2))
        assert is_left()
        assert store.statistics().purge_is_due
        assert ["copies of what was purged" in found.what for found in store.check()] == [True]
    store.add_episode(episode(3))
    assert not is_left()
    assert not store.statistics().purge_is_due
    assert list(store.check()) == []


@pytest.mark.requirement("E9")
def test_another_finishes_what_a_purge_owes(store: EpisodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that died could not finish is finished by the next that writes."""
    store.add_episode(episode(1, text="xyzzy", id="a"))
    with monkeypatch.context() as patched:
        patched.setattr(EpisodeStore, "_finish_purge", lambda _: None)  # it died there
        store.delete("a", purge=True)
    with EpisodeStore(store.folder) as other:
        assert other.statistics().purge_is_due
        other.add_episode(episode(2))
        assert not other.statistics().purge_is_due
    assert not any(b"xyzzy" in path.read_bytes() for path in store.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("by", ["add_marked", "update", "await"])
def test_every_write_finishes_a_purge(store: EpisodeStore, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """Also one that is awaited, one of an import, and an update: the readers that kept it are gone by then."""
    monkeypatch.setattr(purging, "_PAUSE_S", 0.0)
    store.add_episodes([episode(1, text="xyzzy", id="a"), episode(2, id="b")])
    with EpisodeStore(store.folder, read_only=True) as other, other._look() as (connection, _):
        connection.execute("SELECT * FROM episode").fetchall()
        store.delete("a", purge=True)
        assert store.statistics().purge_is_due
    if by == "add_marked":
        store.add_marked([episode(3)], "from", "3")
    elif by == "update":
        store.update("b", text="other")
    else:

        async def add() -> None:
            shared = AsyncEpisodeStore(store)
            await shared.add_episode(episode(3))
            await shared.add_episode(episode(4))  # behind what the first left to be done

        asyncio.run(add())
    assert not store.statistics().purge_is_due


def test_pages_are_bounded_by_bytes(store: EpisodeStore) -> None:
    """Long texts come a few at a time, in order and all of them; short ones come in full pages."""
    big = ["x" * (3 << 20) for _ in range(7)]
    store.add_episodes(episode(number, text=text) for number, text in enumerate(big))
    sizes = [len(page) for page in store.pages(with_vectors=True)]
    assert sizes == [3, 3, 1]
    store.add_episodes(episode(number) for number in range(300))
    assert [each.metadata["number"] for each in store.episodes()] == [*range(7), *range(300)]
    assert max(len(page) for page in store.pages()) == 256


def test_figures_are_had_while_files_come_and_go(store: EpisodeStore) -> None:
    """A log that ends between its being listed and being looked at is no error."""
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            paths = [store.folder / f"passing-{number}" for number in range(50)]
            for path in paths:
                path.touch()
            for path in paths:
                path.unlink()

    passing = threading.Thread(target=come_and_go)
    passing.start()
    try:
        for _ in range(150):
            assert store.statistics().disk_bytes > 0
    finally:
        stop.set()
        passing.join()


@pytest.mark.requirement("E7")
def test_one_by_one_is_the_same_as_at_once(tmp_path: Path) -> None:
    """Single adds and a batch leave the same rows, the same history and, byte for byte, the same vectors."""
    given = [
        episode(number, id=f"id {number}", vector=None if number % 7 == 0 else vectors(1, seed=number)[0])
        for number in range(600)
    ]
    found, files = [], []
    for name in ("one by one", "at once"):
        with EpisodeStore(tmp_path / name) as store:
            if name == "at once":
                store.add_episodes(given)
            else:
                for each in given:
                    store.add_episode(each)
            assert not list(store.check())
            found.append([
                (each.id, each.version, each.text, each.metadata, each.happened_at_s, None if each.vector is None else
                 np.asarray(each.vector).tobytes(), [change.what for change in store.history(each.id)])
                for each in store.episodes(with_vectors=True)
            ])  # fmt: skip
        files.append(files_of(tmp_path / name))
    assert found[0] == found[1]
    assert files[0] == files[1]
    assert len(files[0]["1.f32"]) == 600 * DIMENSION * 4


@pytest.mark.requirement("E3", "E13")
def test_namespaces_are_apart(store: EpisodeStore) -> None:
    """Each has its own dimension, budget and hits; a full one takes nothing more, and the others go on."""
    store.add_episode(episode(1, namespace="a"))
    store.add_episode(episode(1, namespace="b", vector=[1.0, 2.0]))
    assert [hit.episode.namespace for hit in store.search_episodes_by_text("episode", namespace="b")] == ["b"]
    assert store.search_episodes_by_text("episode", namespace="nobody's") == []
    with pytest.raises(EpisodeInvalid, match="dimension 24, the vectors of namespace 'b' have 2"):
        store.search_episodes_by_vector(vectors(1)[0], namespace="b")
    with pytest.raises(EpisodeInvalid, match="dimension 2"):
        store.add_episodes([episode(2, namespace="a"), episode(2, namespace="a", vector=[1.0, 2.0])])
    store.set_namespace("b", budget="1KiB")
    with pytest.raises(CapacityExceeded, match="namespace 'b' has"):
        store.add_episodes(episode(number, namespace="b", vector=None) for number in range(50))
    store.add_episodes(episode(number, namespace="a") for number in range(50))
    figures = {each.name: each for each in store.statistics().namespaces}
    assert (figures["a"].episodes, figures["b"].episodes, figures["b"].budget_bytes) == (51, 1, 1024)


def test_an_embedder_is_fixed_with_the_first_vector(store: EpisodeStore) -> None:
    """Vectors of two models do not come together in one namespace."""
    store.set_namespace("a", embedder="one")
    store.add_episode(episode(1, namespace="a"))
    store.set_namespace("a", embedder="one")
    with pytest.raises(EpisodeInvalid, match="are of one, not of two"):
        store.set_namespace("a", embedder="two")


BAD: list[tuple[Any, str]] = [
    ("no episode", "a str is no Episode"),
    (Episode(text=7), "the text is a int"),  # type: ignore[arg-type]
    (Episode(text="a\ud800b"), "half of a surrogate pair at character 1"),
    (Episode(text="x" * 2000), "2 KiB, more than 1 KiB"),
    (Episode(metadata=[1]), "the metadata are a list"),  # type: ignore[arg-type]
    (Episode(metadata={"a": math.nan}), "not what JSON can hold"),
    (Episode(metadata={1: 2}), "a key is a int"),  # type: ignore[dict-item]
    (Episode(metadata={"a": {2: 2}}), "a key is a int"),
    (Episode(metadata={"a": object()}), "not what JSON can hold"),
    (Episode(metadata={"a": "\udc00"}), "not what JSON can hold"),
    (Episode(metadata={"a": "x" * 2000}), "the metadata have 2 KiB"),
    (Episode(vector=[]), "shape (0,)"),
    (Episode(vector=[[1.0]]), "shape (1, 1)"),
    (Episode(vector=["a"]), "no row of numbers"),
    (Episode(vector=[1.0, math.nan]), "NaN or infinity"),
    (Episode(vector=[1e300, 1.0]), "NaN or infinity"),
    (Episode(vector=[0.0, 0.0]), "all zero"),
    (Episode(namespace=""), "a namespace is a text of 1 to 200"),
    (Episode(namespace="a\nb"), "a namespace is a text"),
    (Episode(kind="x" * 201), "a kind is a text"),
    (Episode(happened_at_s=math.inf), "no moment"),
    (Episode(happened_at_s="now"), "no number"),  # type: ignore[arg-type]
    (Episode(id="a\0"), "an id is a text"),
]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize(("wrong", "told"), BAD)
def test_what_cannot_be_stored_is_refused(tmp_path: Path, wrong: Any, told: str) -> None:
    """It is said what is wrong, and in a batch with which; nothing of the batch is stored."""
    with EpisodeStore(tmp_path / "store", max_text_bytes="1KiB") as store:
        for batch, prefix in (([wrong], ""), ([episode(1)] * 9 + [wrong], "episode 10 of 10: ")):
            with pytest.raises(EpisodeInvalid) as caught:
                store.add_episodes(batch)
            assert told in str(caught.value)
            assert str(caught.value).startswith(prefix)
        assert len(store) == 0


def test_tiny_and_huge_vectors_are_vectors(store: EpisodeStore) -> None:
    """Only the direction counts: lengths whose squares no float32 holds are no hindrance."""
    for size in (1e-30, 1.0, 1e30):
        store.add_episode(episode(1, vector=np.asarray([1, 2, 3, 4], np.float32) * np.float32(size)))
    hits = store.search_episodes_by_vector([1.0, 2, 3, 4])
    assert [round(hit.score, 4) for hit in hits] == [1.0, 1.0, 1.0]


@pytest.mark.requirement("E1", "E2")
def test_the_cache_keeps_to_its_bounds(tmp_path: Path) -> None:
    """The longest unused goes first, by entries and by bytes, and all of it on request."""
    with EpisodeStore(tmp_path / "store", cache_entries=2) as store:
        ids = store.add_episodes(episode(number) for number in range(3))
        for each in (0, 1, 0, 2, 0, 1):  # 1 goes when 2 comes; then 2 when 1 comes
            store.get_episode(ids[each])
        figures = store.statistics()
        assert (figures.cache_hits, figures.cache_misses) == (2, 4)
        assert store.held_bytes >= figures.cache_bytes > 0
        assert store.shed(1) >= figures.cache_bytes
        assert store.statistics().cache_bytes == 0
    with EpisodeStore(tmp_path / "store", cache_bytes="1KiB") as store:
        store.get_episode(ids[0])
        assert store.statistics().cache_bytes == 0


def test_a_store_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is the one that it named then."""
    monkeypatch.chdir(tmp_path)
    with EpisodeStore("store") as store:
        monkeypatch.chdir("/")
        store.add_episodes(episode(number) for number in range(300))
        assert len(store.search_episodes_by_text("episode", 300)) == 300


def test_what_goes_wrong_inside_is_what_is_told(store: EpisodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of closing does not hide the one that ended the block; without one it is raised."""

    def fail(_: object) -> None:
        raise EpisodeStoreError("no room", path="")

    monkeypatch.setattr(EpisodeStore, "_put_in_order", fail)
    with pytest.raises(ZeroDivisionError) as caught, EpisodeStore(store.folder):
        _ = 1 / 0
    assert "no room" in caught.value.__notes__[0]
    with pytest.raises(EpisodeStoreError, match="no room"), EpisodeStore(store.folder):
        pass


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """Closing twice is nothing; whatever is asked afterwards is refused."""
    store = EpisodeStore(tmp_path / "store")
    store.close()
    store.close()
    for act in (
        lambda: store.add_episode(episode(1)),
        lambda: len(store),
        lambda: store.search_episodes_by_text("a"),
    ):
        with pytest.raises(OSError, match="was closed"):
            act()
