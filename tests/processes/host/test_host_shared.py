"""Shared memory that a tree created: found once, by what it really has, for as long as it exists."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memguard.host import TreeSampler
from memguard.host.readings import SharedFile
from memguard.units import MIB

if TYPE_CHECKING:
    from conftest import Helper

Helpers = Callable[..., "Helper"]


@pytest.fixture
def name() -> Iterator[str]:
    """A name in /dev/shm that is free before and after."""
    path = Path(f"/dev/shm/memguard-test-{os.getpid()}")
    yield str(path)
    path.unlink(missing_ok=True)


def shared(sampler: TreeSampler) -> tuple[SharedFile, ...]:
    return sampler.sample(shared=True).shared_files


def create(helper: Helper, path: str, mib: int = 8) -> None:
    helper.do(
        f"descriptor = os.open({path!r}, os.O_CREAT | os.O_RDWR)\nos.write(descriptor, bytes({mib} * MIB))"
    )


def test_a_file_in_shared_memory_counts_once(helper: Helper, name: str) -> None:
    """Open and mapped, in parent and child, it is one file with the pages that it really has."""
    sampler = TreeSampler(helper.pid)
    assert shared(sampler) == ()
    create(helper, name)
    helper.do("os.ftruncate(descriptor, 64 * MIB); mapped = mmap.mmap(descriptor, 64 * MIB)")
    child = helper.fork("mapped[:100] = bytes(100)\nready()\nsignal.pause()")
    (file,) = shared(sampler)
    assert (file.path, file.allocated_bytes) == (name, 8 * MIB)
    assert (file.device, file.inode) == (os.stat(name).st_dev, os.stat(name).st_ino)
    helper.do(f"os.kill({child}, signal.SIGKILL); os.waitpid({child}, 0)")


def test_shared_memory_is_not_private_as_well(helper: Helper, name: str) -> None:
    """Its pages are counted as shared only, in cheap and exact readings, though one process maps them."""
    sampler = TreeSampler(helper.pid)
    before = sampler.sample(exact=True, shared=True).used_bytes
    create(helper, name, mib=32)
    helper.do("mapped = mmap.mmap(descriptor, 32 * MIB); mapped[:] = bytes(32 * MIB)")
    for exact in (False, True):
        reading = sampler.sample(exact=exact, shared=True)
        assert reading.shared_bytes == 32 * MIB
        assert 31 * MIB < reading.used_bytes - before < 44 * MIB


def test_files_without_a_name_are_found(helper: Helper, name: str) -> None:
    """Unlinked files, memfds and anonymous shared mappings count, each by itself, also without descriptor."""
    sampler = TreeSampler(helper.pid)
    create(helper, name, mib=4)
    helper.do(
        f"os.unlink({name!r})\n"
        "memory = os.memfd_create('data'); os.write(memory, bytes(5 * MIB))\n"
        "other = os.memfd_create('mapped'); os.ftruncate(other, 6 * MIB)\n"
        "view = mmap.mmap(other, 6 * MIB); view[:] = bytes(6 * MIB); os.close(other)\n"
        "anonymous = mmap.mmap(-1, 7 * MIB); anonymous[:] = bytes(7 * MIB)"
    )
    found = {file.path: file.allocated_bytes // MIB for file in shared(sampler)}
    assert found == {
        f"{name} (deleted)": 4,
        "/memfd:data (deleted)": 5,
        "/memfd:mapped (deleted)": 6,
        "/dev/zero (deleted)": 7,
    }
    helper.do("os.close(descriptor); os.close(memory); view.close(); anonymous.close()")
    assert shared(sampler) == ()


def test_system_v_segments_count_until_they_are_removed(helper: Helper) -> None:
    """An attached segment is found; detached but not removed it still takes memory."""
    sampler = TreeSampler(helper.pid)
    segment = helper.do(
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "libc.shmat.restype = ctypes.c_void_p\n"
        "libc.shmdt.argtypes = [ctypes.c_void_p]\n"
        "answer = segment = libc.shmget(0, 3 * MIB, 0o1600)\n"
        "address = libc.shmat(segment, None, 0)\n"
        "_ = ctypes.memset(address, 1, 3 * MIB)"
    )
    if segment < 0:
        pytest.skip("System V shared memory is not available")
    try:
        (file,) = shared(sampler)
        assert file.path.startswith("/SYSV")
        assert file.allocated_bytes == 3 * MIB
        helper.do("libc.shmdt(address)")
        assert [each.allocated_bytes for each in shared(sampler)] == [3 * MIB]
    finally:
        helper.do("libc.shmctl(segment, 0, None)")
    assert shared(sampler) == ()


def test_what_nobody_holds_any_more_counts_while_it_exists(helper: Helper, name: str) -> None:
    """A file left behind in /dev/shm stays counted; removed, or replaced by another, it does not."""
    sampler = TreeSampler(helper.pid)
    create(helper, name)
    assert len(shared(sampler)) == 1
    helper.end()
    reading = sampler.sample(shared=True)
    assert reading.processes == ()
    assert reading.used_bytes == 8 * MIB
    replacement = Path(f"{name}.new")
    replacement.write_bytes(b"another file")
    replacement.rename(name)
    assert shared(sampler) == ()


def test_inherited_segments_are_ignored(helper: Helper, name: str) -> None:
    """What the caller made for the job does not count against the job, told at first or later."""
    create(helper, name)
    key = (os.stat(name).st_dev, os.stat(name).st_ino)
    assert shared(TreeSampler(helper.pid, ignore_shared=[key])) == ()
    sampler = TreeSampler(helper.pid)
    sampler.ignore_shared(key)
    assert shared(sampler) == ()
    assert len(shared(TreeSampler(helper.pid))) == 1


def test_data_that_is_only_read_belongs_to_others(helper: Helper, name: str) -> None:
    """A data set on a tmpfs, opened or mapped for reading, is not the job's memory."""
    Path(name).write_bytes(bytes(4 * MIB))
    sampler = TreeSampler(helper.pid)
    helper.do(
        f"file = open({name!r}, 'rb'); view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ); sum(view[::4096])"
    )
    assert shared(sampler) == ()


def test_python_shared_memory_is_found(helper: Helper) -> None:
    """The segments of multiprocessing.shared_memory are what a job most likely makes."""
    sampler = TreeSampler(helper.pid)
    helper.do(
        "from multiprocessing import shared_memory\n"
        "segment = shared_memory.SharedMemory(create=True, size=4 * MIB); segment.buf[:] = bytes(4 * MIB)"
    )
    (file,) = shared(sampler)
    assert file.allocated_bytes == 4 * MIB
    helper.do("segment.close(); segment.unlink()")
    assert shared(sampler) == ()


def test_without_privilege_mappings_are_still_measured(nobody: Helper) -> None:
    """A user who may not open another's mappings sees what is resident of them."""
    answer = nobody.do(
        "from memguard.host import TreeSampler\n"
        "anonymous = mmap.mmap(-1, 7 * MIB); anonymous[:] = bytes(7 * MIB)\n"
        "answer = [f.allocated_bytes for f in TreeSampler(os.getpid()).sample(shared=True).shared_files]"
    )
    assert answer == [7 * MIB]
