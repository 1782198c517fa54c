"""A store whose files are damaged or of another version says so, and serves the rest."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw
import pytest

from memguard.episodes import EpisodeStore, database, schema
from memguard.errors import EpisodeStoreError
from tests.support.episodes import closed_store, episode, vectors

COUNT = 600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed store of 600 episodes, all of whose vectors lie in the files."""
    return closed_store(tmp_path / "store", COUNT)


def spoil(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


@pytest.mark.requirement("E14")
class TestDamage:
    """What `check` finds."""

    def test_a_whole_store_has_none(self, folder: Path) -> None:
        """Nothing is found where nothing is wrong, also without write access."""
        with EpisodeStore(folder, read_only=True) as store:
            assert list(store.check()) == []

    def test_a_flipped_bit_in_a_vector(self, folder: Path) -> None:
        """The episode is named, and every other one is had and found."""
        spoil(folder / "vectors" / "1.f32", 96 * 41 + 2)
        with EpisodeStore(folder) as store:
            found = list(store.check())
            assert [(each.episode_id, each.is_derived) for each in found] == [("41", False)]
            assert "1.f32" in found[0].where
            assert store.search_episodes_by_vector(vectors(1, seed=40)[0], 1)[0].id == "40"

    def test_a_flipped_bit_in_a_text(self, folder: Path) -> None:
        """The episode whose text it is is named."""
        place = (folder / "episodes.sqlite").read_bytes().index(b"episode 77 of many")
        spoil(folder / "episodes.sqlite", place + 3)
        with EpisodeStore(folder) as store:
            assert "77" in [each.episode_id for each in store.check()]
            assert store.get_episode("78").text == "episode 78 of many"

    def test_a_text_that_is_none_any_more(self, folder: Path) -> None:
        """Where a bit made bytes that are no text, and metadata that are no JSON, every other episode is served."""
        path = folder / "episodes.sqlite"
        content = path.read_bytes()
        content = content.replace(b"episode 77 of many", b"episode 7\xff of many", 1)
        content = content.replace(b'{"even":true,"number":78}', b'{"even":true,"number":78~', 1)
        path.write_bytes(content)
        with EpisodeStore(folder) as store:
            assert {each.episode_id for each in store.check() if each.episode_id} == {"77", "78"}
            for damaged in ("77", "78"):
                with pytest.raises(EpisodeStoreError, match=f"episode {damaged} is damaged"):
                    store.get_episode(damaged)
            assert len(list(store.episodes())) == COUNT - 2
            assert len(list(store.episodes(where={"even": True}))) == COUNT // 2 - 1
            store.rebuild()
            assert len(store.search_episodes_by_vector(vectors(1, seed=77)[0], 1000)) == COUNT - 2

    def test_a_vector_file_cut_short(self, folder: Path) -> None:
        """The file is named with what is lost; texts, and the vectors before it, are served."""
        os.truncate(folder / "vectors" / "1.f32", 96 * 500 + 50)
        with EpisodeStore(folder) as store:
            found = list(store.check())
            assert "from place 501 on are lost" in found[0].what
            lost = [each.episode_id for each in found[1:] if not each.is_derived]
            assert lost == [str(number) for number in range(500, COUNT)]
            assert store.get_episode("599").text == "episode 599 of many"
            assert store.search_episodes_by_vector(vectors(1, seed=40)[0], 1)[0].id == "40"

    def test_a_damaged_vector_is_not_given_as_if_it_were_whole(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whoever reads all episodes with their vectors gets one less, its text all the same, and is told which."""
        with (folder / "vectors" / "1.f32").open("r+b") as file:
            file.seek(96 * 40)
            file.write(b"\x00\x00\x80\x3f")
        with EpisodeStore(folder) as store:
            bare = [each for each in store.episodes(with_vectors=True) if each.vector is None]
            assert [each.text for each in bare] == ["episode 40 of many"]
            assert "40" in caplog.text
            assert {each.episode_id for each in store.check() if each.episode_id} == {"40"}
            assert len(list(store.episodes())) == COUNT

    def test_what_is_derived_is_built_again(self, folder: Path) -> None:
        """Bits that were lost are found to be derived; after a rebuild nothing is wrong, and words are found."""
        os.truncate(folder / "vectors" / "1.bits", 0)
        with apsw.Connection(str(folder / "episodes.sqlite")) as connection:
            connection.execute("DELETE FROM words WHERE rowid % 2")
        with EpisodeStore(folder) as store:
            assert any(each.is_derived for each in store.check())
            store.rebuild()
            assert list(store.check()) == []
            assert len(store.search_episodes_by_text("episode", 1000)) == COUNT

    def test_a_broken_page_of_the_database(self, folder: Path) -> None:
        """Where SQLite cannot read on, the finding is what it says; what does not need the page is served."""
        path = folder / "episodes.sqlite"
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(size // 2 // 8192 * 8192)
            file.write(b"\xff" * 8192)
        with EpisodeStore(folder, read_only=True) as store:
            found = list(store.check())
            assert found
            assert all("episodes.sqlite" in each.where for each in found)

    def test_a_torn_end(self, folder: Path) -> None:
        """Bytes behind the last committed vector are nobody's, and the next add writes over them."""
        with (folder / "vectors" / "1.f32").open("ab") as file:
            file.write(b"garbage" * 500)
        with EpisodeStore(folder) as store:
            store.add_episodes(episode(number, id=f"new {number}") for number in range(300))
            assert list(store.check()) == []
        assert (folder / "vectors" / "1.f32").stat().st_size == 96 * (COUNT + 300)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"no database at all" * 99, "is no database"), (b"", None), ("other", "and none of episodes")],
)
def test_a_file_of_somebody_else(tmp_path: Path, content: bytes | str, told: str | None) -> None:
    """It is refused and left as it is; an empty file becomes a store."""
    path = tmp_path / "episodes.sqlite"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with apsw.Connection(str(path)) as connection:
            connection.execute("CREATE TABLE theirs(a)")
        connection.close()
    before = path.read_bytes()
    if told is None:
        EpisodeStore(tmp_path).close()
        return
    with pytest.raises(EpisodeStoreError, match=told):
        EpisodeStore(tmp_path)
    assert path.read_bytes()[100:] == before[100:]


def test_a_newer_store_is_refused_untouched(folder: Path) -> None:
    """It says which versions there are; reading is refused as well."""
    path = folder / "episodes.sqlite"
    with apsw.Connection(str(path)) as connection:
        connection.pragma("user_version", 99)
    connection.close()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(EpisodeStoreError, match=r"newer memguard \(its tables have version 99"):
            EpisodeStore(folder, read_only=read_only)
    assert path.read_bytes() == before


def test_an_older_store_is_brought_up_to_date(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one transaction: one that fails leaves the store as it was; to read it alone is refused until it is done."""

    def fails(connection: apsw.Connection) -> None:
        connection.execute("CREATE TABLE half(a)")
        raise apsw.FullError("no room")

    def succeeds(connection: apsw.Connection) -> None:
        connection.execute("ALTER TABLE mark ADD COLUMN noted_us INTEGER NOT NULL DEFAULT 0")

    newer = schema.VERSION + 1
    for module in (schema, database):
        monkeypatch.setattr(module, "VERSION", newer)
    with pytest.raises(EpisodeStoreError, match="written by an older memguard"):
        EpisodeStore(folder, read_only=True)
    for migration, error in ((fails, "the disk is full"), (succeeds, None)):
        monkeypatch.setitem(schema._MIGRATIONS, newer - 1, migration)
        with contextlib.nullcontext() if error is None else pytest.raises(EpisodeStoreError, match=error):
            EpisodeStore(folder).close()
        with apsw.Connection(str(folder / "episodes.sqlite")) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
            assert connection.pragma("user_version") == newer - (error is not None)
            assert "half" not in tables
        connection.close()
    with EpisodeStore(folder, read_only=True) as store:
        assert len(store) == COUNT


def test_names_of_new_files_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of each new file and folder is synced before what is in it is acknowledged; later adds sync none."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    place = tmp_path / "a" / "store"
    with EpisodeStore(place) as store:
        assert {str(tmp_path), str(place.parent), str(place)} <= {*synced}
        synced.clear()
        store.add_episodes(episode(number) for number in range(300))
        assert {*synced} == {str(place), str(place / "vectors")}
        synced.clear()
        store.add_episodes(episode(number) for number in range(300))
        assert synced == []


def test_a_long_log_is_cut_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that grew while somebody read takes no more than its bound once he is gone."""
    monkeypatch.setattr(database, "_LOG_BYTES", 16 * 8192)
    with EpisodeStore(tmp_path / "store") as store, EpisodeStore(tmp_path / "store") as other:
        log = tmp_path / "store" / "episodes.sqlite-wal"
        with other._look() as (connection, _):
            connection.execute("SELECT * FROM episode").fetchall()
            store.add_episodes(episode(number, text="x" * 2000) for number in range(600))
            assert log.stat().st_size > 4 * database._LOG_BYTES
        for number in range(3):
            store.add_episode(episode(number))
        assert log.stat().st_size <= database._LOG_BYTES + 64 * 1024
