"""A store whose files are damaged, of another version, on a full disk or out of reach says so, and serves the rest."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from memguard.episodes import EpisodeStore, database, schema
from memguard.errors import EpisodeMissing, EpisodeStoreBusy, EpisodeStoreError
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


def as_nobody(work: Callable[[], None]) -> int:
    """Do something in a copy that may write nowhere; returns its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - it is told, and the copy must not go on in the test
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_folder_that_others_own(folder: Path) -> None:
    """It is read without any right to write, its log too; a change meanwhile is seen, or told while it is read."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        path = Path(place) / "store"
        shutil.copytree(folder, path)
        writer_tells, reader_hears = os.pipe()[::-1], os.pipe()[::-1]

        def readable() -> None:
            for each in (path, *path.rglob("*")):
                each.chmod(0o555 if each.is_dir() else 0o444)

        def read() -> None:
            with EpisodeStore(path, read_only=True) as store:
                assert len(store) == COUNT
                assert store.search_episodes_by_text("episode", 5)
                with pytest.raises(EpisodeStoreBusy, match="was written to while it was read"), store._look():
                    os.write(reader_hears[0], b"r")
                    os.read(writer_tells[1], 1)
                assert len(store) == COUNT + 1
                with pytest.raises(EpisodeStoreError):
                    EpisodeStore(path)

        readable()
        writer = threading.Thread(
            target=add_meanwhile, args=(path, reader_hears[1], writer_tells[0], readable)
        )
        writer.start()
        assert as_nobody(read) == 0
        writer.join()
        for fd in (*writer_tells, *reader_hears):
            os.close(fd)


def add_meanwhile(path: Path, heard: int, told: int, readable: Callable[[], None]) -> None:
    os.read(heard, 1)
    if os.geteuid():
        for each in (path, *path.rglob("*")):
            each.chmod(0o755)
    with EpisodeStore(path) as store:
        store.add_episode(episode(1))
    readable()
    os.write(told, b"w")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_log_that_only_a_writer_can_read(folder: Path) -> None:
    """A copy with a log, where nothing can be written, says what to do instead of showing less than there is."""
    with tempfile.TemporaryDirectory() as place, EpisodeStore(folder) as store:
        os.chmod(place, 0o755)
        path = Path(place) / "store"
        store.add_episode(episode(1))
        shutil.copytree(folder, path, ignore=shutil.ignore_patterns("*-shm"))
        for each in (path, *path.rglob("*")):
            each.chmod(0o555 if each.is_dir() else 0o444)

        def read() -> None:
            with pytest.raises(EpisodeStoreError, match="copy the folder"):
                EpisodeStore(path, read_only=True)

        assert as_nobody(read) == 0


@pytest.mark.parametrize(
    ("kind", "is_refused"),
    [("ext4", False), ("xfs", False), ("btrfs", False), ("tmpfs", False), ("overlay", False), ("zfs", False),
     ("fuseblk", False), ("fuse.gocryptfs", False), ("nfs4", True), ("cifs", True), ("fuse.sshfs", True),
     ("virtiofs", True), ("vboxsf", True), ("gpfs", True), ("fuse.juicefs", True), ("davfs", True)],
)  # fmt: skip
def test_kinds_that_several_machines_write_to(kind: str, *, is_refused: bool) -> None:
    """Those are refused that a machine shares with others, or with its host; local ones are not."""
    assert file_systems.is_network(kind) is is_refused


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
