"""Exact memory: which private pages are a process's own, from recorded smaps."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.host._files import find_flat, parse_flat, parse_kilobytes
from memguard.host.smaps import ExactMemory, Inherited, private_anonymous_bytes, read_exact

KIB = 1024
MIB = 1024**2


def mapping(inode: int, clean: int, dirty: int, anonymous: int, path: str = "") -> str:
    return (
        f"7f00-7f01 rw-p 00000000 00:01 {inode} {path}\n"
        f"Size: 9 kB\nRss: 9 kB\nPrivate_Clean: {clean} kB\nPrivate_Dirty: {dirty} kB\n"
        f"Anonymous: {anonymous} kB\nVmFlags: rd wr mr\n"
    )


@pytest.mark.parametrize(
    ("text", "kilobytes"),
    [
        (mapping(0, 0, 100, 100, "[heap]"), 100),
        (mapping(0, 30, 70, 100), 100),  # clean anonymous pages: read back from swap
        (mapping(0, 0, 10, 100), 10),  # the rest is still shared with a parent
        (mapping(7, 500, 0, 0, "/usr/lib/libm.so"), 0),  # pages of a library
        (mapping(7, 500, 40, 40, "/usr/lib/libm.so"), 40),  # its relocated data
        (mapping(7, 0, 500, 0, "/data/written.bin"), 0),  # dirty pages of a file, not of the process
        (mapping(7, 0, 500, 0, "/dev/shm/segment"), 0),  # counted as a shared file
        (mapping(0, 0, 1, 1) + mapping(0, 0, 2, 2) + mapping(3, 9, 9, 4, "/a b"), 7),
        ("", 0),
    ],
)
def test_only_anonymous_pages_are_private(text: str, kilobytes: int) -> None:
    """Pages of files never count, however few processes map them; copies made on write do."""
    assert private_anonymous_bytes(text.encode()) == kilobytes * KIB


def exact(private: int, shared: int, share: int) -> ExactMemory:
    return ExactMemory(private * MIB, shared * MIB, share * MIB, 0, 0, 0)


def test_a_single_process_owns_nothing_that_it_shares() -> None:
    """A tree of one process shares with outsiders only, so its part of shared pages is nothing."""
    alone = exact(private=10, shared=200, share=100)
    assert Inherited.seen_alone(alone).share_of_tree(alone, 1) == 0


def test_a_pool_owns_what_its_members_share() -> None:
    """300 MiB shared by the three processes of a tree, and by nobody else, are 300 MiB of the tree."""
    nothing = Inherited.seen_alone(exact(private=300, shared=0, share=0))
    member = exact(private=0, shared=300, share=100)
    assert 3 * nothing.share_of_tree(member, 3) == 300 * MIB


def test_a_pool_does_not_own_what_its_template_has() -> None:
    """Pages of the template stay out of a tree that grows, those of the tree's first process stay in."""
    # One template and one job share 200 MiB; then the job takes 90 MiB and forks twice.
    inherited = Inherited.seen_alone(exact(private=0, shared=200, share=100))
    member = exact(private=0, shared=290, share=200 // 4 + 90 // 3)
    assert 3 * inherited.share_of_tree(member, 3) == 90 * MIB


def test_this_process_can_be_measured() -> None:
    """The parts of a real measurement fit together."""
    memory = read_exact(os.getpid())
    assert 0 < memory.private_bytes <= memory.rss_bytes
    assert memory.private_bytes <= memory.pss_bytes + memory.swap_bytes


def test_a_kernel_thread_or_missing_process_has_no_memory() -> None:
    """Processes without memory raise; they are not told as using nothing."""
    with pytest.raises(OSError, match="2"):
        read_exact(2**22 + 1)


@given(fields=st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.integers(0, 2**63)))
def test_flat_files_are_read_whole_or_line_by_line(fields: dict[str, int]) -> None:
    """Both readers of ``key number`` files agree, also where one key begins another."""
    text = "".join(f"{key} {value}\n" for key, value in fields.items()).encode()
    parsed = parse_flat(text)
    assert parsed == {key.encode(): value for key, value in fields.items()}
    assert {key: find_flat(text, key) for key in parsed} == parsed


def test_a_missing_key_is_an_error() -> None:
    """A key that is only the beginning or the end of another is not found."""
    with pytest.raises(ValueError, match="not found"):
        find_flat(b"total_cache 1\nshmem_x 2\n", b"cache")
    with pytest.raises(ValueError, match="not found"):
        find_flat(b"total_cache 1\nshmem_x 2\n", b"shmem")


def test_kilobyte_files_are_read_in_bytes() -> None:
    """Lines without a unit, such as counts of huge pages, are left out."""
    assert parse_kilobytes(b"MemTotal:  4 kB\nHugePages_Total: 7\n\n") == {b"MemTotal": 4096}
