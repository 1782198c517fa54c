"""Names in /dev/shm: what is there, what a name tells of its maker, and that nothing of anybody else's is removed."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memguard.host import TreeSampler, named_after, remove_abandoned, shared_memory_there, still_there
from memguard.host.shared_names import identity_of, maker_of

if TYPE_CHECKING:
    from conftest import Helper

Helpers = Callable[..., "Helper"]
SHARED = Path("/dev/shm")
# Each with the pid of its maker in the place of the braces.
NAMES = (
    "sem.loky-{}-ab_cd12",
    "joblib_memmapping_folder_{}_0a_1b",
    "torch_{}_123_0",
    "pym-{}-abc",
    "__KMP_REGISTERED_LIB_{}_0",
)
FOLDER = NAMES[1]


@pytest.fixture
def word() -> Iterator[str]:
    """Ends the names of this test, which are removed after it."""
    word = f"memguard-test-{secrets.token_hex(6)}"
    yield word
    for path in SHARED.glob(f"*{word}"):
        for inner in path.iterdir() if path.is_dir() else ():
            inner.unlink()
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    process.wait()
    return process.pid


def make(pid: int, word: str) -> list[Path]:
    """Make one entry of each kind, named after a process; the folder has something in it."""
    paths = [SHARED / f"{name.format(pid)}{word}" for name in NAMES]
    for path in paths:
        if "folder" in path.name:
            path.mkdir()
            (path / "array.pkl").write_bytes(b"x" * 5000)
        else:
            path.touch()
    return paths


@pytest.mark.parametrize("name", NAMES)
def test_a_name_tells_its_maker(name: str) -> None:
    """The pid in a library's name is found; a name that only looks alike tells nothing."""
    assert maker_of(f"/dev/shm/{name.format(4711)}") == 4711
    assert maker_of(f"/dev/shm/x{name.format(4711)}") is None
    assert maker_of(f"/dev/shm/{name.format('x')}") is None


@pytest.mark.requirement("R1.4")
def test_what_a_dead_process_named_is_removed(dead_pid: int, word: str) -> None:
    """All that was made in the name of a dead process of the tree goes, a folder with its content; each is told."""
    before, since_s = shared_memory_there(), time.time()
    paths = make(dead_pid, word)
    found = named_after({dead_pid}, before)
    assert {file.path for file in found} == set(map(str, paths))
    removed = remove_abandoned(found, since_s)
    assert {file.path for file in removed} == {*map(str, paths), *(f"{paths[1]}/array.pkl",)}
    assert [path for path in paths if path.exists()] == []
    assert still_there(found) == ()


@pytest.mark.requirement("R1.4")
def test_nothing_of_anybody_elses_is_removed(dead_pid: int, word: str) -> None:
    """The same names stay: of a process that lives, of one that was never the tree's, from before the tree."""
    old = make(dead_pid, word)
    before, since_s = shared_memory_there(), time.time()
    living, stranger = make(os.getpid(), word), make(dead_pid + 1, word)
    found = named_after({dead_pid, os.getpid()}, before)
    assert {file.path for file in found} == set(map(str, living))
    assert remove_abandoned(found, since_s) == ()
    assert still_there(found) == found
    assert all(path.exists() for path in (*old, *living, *stranger))


@pytest.mark.requirement("R1.4")
def test_another_users_entries_are_not_removed(dead_pid: int, word: str) -> None:
    """An entry that is another user's stays, and so does what another user put into a folder, and that folder."""
    before, since_s = shared_memory_there(), time.time()
    semaphore, folder, *_ = make(dead_pid, word)
    try:
        os.chown(semaphore, 65534, 65534)
    except PermissionError as error:
        pytest.skip(f"no file of another user can be made: {error}")
    os.chown(folder / "array.pkl", 65534, 65534)
    remove_abandoned(named_after({dead_pid}, before), since_s)
    assert sorted(SHARED.glob(f"*{word}")) == sorted([semaphore, folder])
    assert (folder / "array.pkl").exists()


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize(
    "hold", ["held = open({!r}, 'rb')", "file = open({!r}, 'rb'); held = mmap.mmap(file.fileno(), 0, prot=1)"]
)
def test_what_somebody_holds_is_not_removed(helper: Helper, dead_pid: int, word: str, hold: str) -> None:
    """A file that a living process has open or, its descriptor closed, mapped stays with its folder until it lets go."""
    before, since_s = shared_memory_there(), time.time()
    folder = make(dead_pid, word)[1]
    helper.do(f"{hold.format(str(folder / 'array.pkl'))}\nif 'file' in globals(): file.close()")
    found = named_after({dead_pid}, before)
    remove_abandoned(found, since_s)
    assert [file.path for file in still_there(found)] == [str(folder)]
    helper.do("held.close()")
    remove_abandoned(found, since_s)
    assert not folder.exists()


def test_a_link_is_not_followed(dead_pid: int, word: str, tmp_path: Path) -> None:
    """A link with such a name goes, and what it points to stays."""
    (tmp_path / "kept").touch()
    before, since_s = shared_memory_there(), time.time()
    link = SHARED / f"{FOLDER.format(dead_pid)}{word}"
    link.symlink_to(tmp_path)
    remove_abandoned(named_after({dead_pid}, before), since_s)
    assert not link.is_symlink()
    assert (tmp_path / "kept").exists()


def test_a_file_is_told_by_the_name_it_has(helper: Helper, word: str) -> None:
    """A piece keeps its identity: hard-linked and unlinked as semaphores are, or renamed, it is found by its name now."""
    sampler = TreeSampler(helper.pid)
    first, second, third = (str(SHARED / f"{n}-{word}") for n in "abc")
    helper.do(
        f"descriptor = os.open({first!r}, os.O_CREAT | os.O_RDWR); os.ftruncate(descriptor, 4096)\n"
        "mapped = mmap.mmap(descriptor, 4096); mapped[0] = 1; os.close(descriptor)\n"
        f"os.link({first!r}, {second!r}); os.unlink({first!r})"
    )
    assert sampler.sample(shared=True).shared_files == (identity_of(second),)
    helper.do(f"mapped.close(); os.rename({second!r}, {third!r})")
    assert sampler.sample(shared=True).shared_files == (identity_of(third),)
    os.unlink(third)
    assert sampler.sample(shared=True).shared_files == ()
