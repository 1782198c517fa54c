"""A store whose files are damaged, of another version, on a full disk or out of reach says so, and serves the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from memguard.episodes import EpisodeStore
from memguard.errors import EpisodeMissing, EpisodeStoreError
from memguard.host import file_systems
from tests.support.episodes import episode, vectors

ROOT = Path(__file__).resolve().parents[2]
COUNT = 600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed store of 600 episodes, all of whose vectors lie in the files."""
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episodes(episode(number, id=str(number)) for number in range(COUNT))
        store.index()
    return tmp_path / "store"


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


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A file in its place, and a store to read that is not there, are refused with the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EpisodeStoreError, match="cannot be made: "):
        EpisodeStore(tmp_path / "file" / "store")
    with pytest.raises(EpisodeStoreError, match="there is no store in"):
        EpisodeStore(tmp_path / "nothing", read_only=True)
    assert not (tmp_path / "nothing").exists()


def test_what_is_read_only_stays_so(folder: Path) -> None:
    """Nothing can be added, and no file changes."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with EpisodeStore(folder, read_only=True) as store:
        assert len(store) == COUNT
        with pytest.raises(EpisodeStoreError, match="opened to be read only"):
            store.add_episode(episode(1))
        with pytest.raises(EpisodeMissing):
            store.get_episode("no such")
    for path, content in before.items():
        assert path.read_bytes() == content


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks do not hold there between machines; the folder and its kind are named."""
    kind = file_systems.file_system_of(tmp_path)
    assert kind
    monkeypatch.setattr(file_systems, "_NETWORK", frozenset({kind}))
    with pytest.raises(EpisodeStoreError, match=rf"network file system \({kind}\).*local disk"):
        EpisodeStore(tmp_path / "store")


def test_kinds_of_file_systems_are_read_from_the_kernels_table(tmp_path: Path) -> None:
    """What was mounted last counts; what is not in the table cannot be told."""
    assert file_systems.file_system_of("/proc") == "proc"
    device = os.stat(tmp_path).st_dev
    table = tmp_path / "mounts"
    line = f"1 2 {os.major(device)}:{os.minor(device)} / / rw - "
    table.write_text(f"{line}ext4 a b\n{line}nfs4 a b\n9 9 0:1 / / rw shared:1 - x y z\n")
    assert file_systems.is_network(file_systems.file_system_of(tmp_path, str(table)))
    table.write_text("")
    assert file_systems.file_system_of(tmp_path, str(table)) == ""
    assert file_systems.file_system_of(tmp_path, str(tmp_path / "nothing")) == ""


# In a mount namespace of its own, so that nothing stays mounted however it ends.
ON_A_SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
from memguard.episodes import EpisodeStore
from memguard.errors import EpisodeStoreError
from tests.support.episodes import episode

disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=True)
store, ids, full = EpisodeStore(disk / "store"), [], None
(disk / "filler").write_bytes(bytes(1 << 20))
while full is None:
    try:
        ids += store.add_episodes(episode(number) for number in range(100))
    except EpisodeStoreError as error:
        full = error
print(full)
assert len(store) == len(ids) and store.get_episode(ids[-1]).metadata["number"] == 99
assert not list(store.check())
(disk / "filler").unlink()
ids += store.add_episodes(episode(number) for number in range(100))
assert [each.id for each in store.episodes()] == ids
assert not list(store.check())
store.close()
(disk / "fixed").mkdir()
subprocess.run(["mount", "--bind", str(disk / "store"), str(disk / "fixed")], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", str(disk / "fixed")], check=True)
with EpisodeStore(disk / "fixed", read_only=True) as reader:
    assert len(reader) == len(ids) and reader.search_episodes_by_text("many")
try:
    EpisodeStore(disk / "fixed")
except EpisodeStoreError as error:
    print(error)
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """An add that does not fit is refused whole; what was acknowledged stays, and adds go on when there is room.

    What lies on a disk that cannot be written to can be read and searched, and nothing else.
    """
    command = ["unshare", "--mount", sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.stderr.startswith("unshare:") or "permission denied" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    full, read_only = done.stdout.splitlines()
    assert "No space left" in full or "the disk is full" in full
    assert "Read-only" in read_only or "cannot be written to" in read_only
