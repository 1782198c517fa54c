"""A store in a place that cannot be written to, that others own, that is full or that other machines write to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from memguard.episodes import EpisodeStore
from memguard.errors import EpisodeMissing, EpisodeStoreBusy, EpisodeStoreError
from memguard.host import file_systems
from tests.support.episodes import closed_store, episode

ROOT = Path(__file__).resolve().parents[2]
COUNT = 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed store of 50 episodes."""
    return closed_store(tmp_path / "store", COUNT)


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
