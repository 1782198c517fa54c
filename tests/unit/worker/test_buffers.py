"""Segments: what is packed is rebuilt, every layout of buffers lies apart from every other, nothing stays open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import TransferError
from memguard.worker.buffers import create_segment, pack, pickle_outside, unpack, write_packed
from memguard.worker.call import Surroundings, pack_call, unpack_call

PAGE = os.sysconf("SC_PAGE_SIZE")


@contextmanager
def segment_of(value: Any) -> Iterator[int]:
    packed = pack(value, what="a test's value")
    descriptor = create_segment("memguard-test", packed.total_bytes).give_away()[0]
    try:
        write_packed(packed, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def allocated(descriptor: int) -> int:
    return os.fstat(descriptor).st_blocks * 512


# Around the size below which a buffer stays inside the pickle, and around pages.
SIZES = st.lists(
    st.sampled_from([0, 1, 65_535, 65_536, 65_537, 20 * PAGE - 1, 20 * PAGE, 40 * PAGE]), max_size=150
)


@given(SIZES, st.booleans())
def test_arrays_of_any_sizes_come_back(sizes: list[int], give_back: bool) -> None:
    """However many buffers of whatever sizes: each has its own content, on its own pages."""
    arrays = [np.full(size, number % 251, dtype=np.uint8) for number, size in enumerate(sizes)]
    with segment_of(arrays) as descriptor:
        back = unpack(descriptor, give_back=give_back)
    assert [len(each) for each in back] == sizes
    assert all((each == number % 251).all() for number, each in enumerate(back))


@given(SIZES)
def test_buffers_lie_apart_and_the_largest_first(sizes: list[int]) -> None:
    """No two buffers share a page, none lies on the pickle, and they are in order of size: see `_map_buffers`."""
    packed = pack([np.zeros(size, dtype=np.uint8) for size in sizes], what="x")
    spans = sorted((offset, view.nbytes) for offset, view in zip(packed.offsets, packed.buffers, strict=True))
    assert all(offset % PAGE == 0 for offset, _ in spans)
    ends = [offset + length for offset, length in spans]
    assert all(end <= start for end, (start, _) in zip(ends, spans[1:], strict=False))
    lengths = [length for _, length in spans]
    assert lengths == sorted(lengths, reverse=True)
    if spans:
        assert 8 + len(packed.head) + len(packed.pickle) <= spans[0][0]
        assert ends[-1] <= packed.total_bytes


@given(st.permutations(range(90)))
def test_giving_pages_back_takes_nobody_elses(order: list[int]) -> None:
    """In whatever order the arrays of a result die, those that live keep their content."""
    sizes = [17 * PAGE + 8 * (number * 37 % 90) for number in range(90)]
    with segment_of(
        [np.full(size, number, dtype=np.uint8) for number, size in enumerate(sizes)]
    ) as descriptor:
        arrays: list[Any] = unpack(descriptor, give_back=True)
        for index in order[:60]:
            arrays[index] = None
        assert all(each is None or (each == number).all() for number, each in enumerate(arrays))


def test_pages_go_with_their_array() -> None:
    """An array's pages are given back when its last view dies, and not before; those of the pickle at once."""
    with segment_of([np.ones(100 * PAGE, dtype=np.uint8), np.ones(50 * PAGE, dtype=np.uint8)]) as descriptor:
        first, second = unpack(descriptor, give_back=True)
        full = allocated(descriptor)
        assert full == 150 * PAGE  # those of the pickle have been given back already
        view = first[10:20]
        del first
        assert allocated(descriptor) == full
        del view
        assert allocated(descriptor) == full - 100 * PAGE
        assert second.sum() == 50 * PAGE
        del second
        assert allocated(descriptor) == 0


def test_a_large_pickle_is_not_kept_by_an_array() -> None:
    """What travelled inside the pickle is not kept in the segment by the one array beside it."""
    with segment_of((b"x" * 60_000, [b"y" * 60_000], np.ones(30 * PAGE, dtype=np.uint8))) as descriptor:
        *_, array = unpack(descriptor, give_back=True)
        assert allocated(descriptor) == 30 * PAGE
        assert array.sum() == 30 * PAGE


def test_a_mapping_writes_to_nobody() -> None:
    """Copy-on-write: what one reader changes is neither in the segment nor in another's view."""
    with segment_of(np.zeros(30 * PAGE, dtype=np.uint8)) as descriptor:
        one, other = unpack(descriptor, give_back=False), unpack(descriptor, give_back=False)
        one += 1
        assert (one.sum(), other.sum()) == (30 * PAGE, 0)
        del one
        assert unpack(descriptor, give_back=False).sum() == 0


def test_no_descriptor_stays_open() -> None:
    """Neither packing nor a mapping that lives holds a descriptor; the segment's own is the caller's."""
    before = len(os.listdir("/proc/self/fd"))
    with segment_of([np.ones(20 * PAGE) for _ in range(80)]) as descriptor:
        back = unpack(descriptor, give_back=True)
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before
    assert back[0].sum() == 20 * PAGE


def test_packing_copies_no_large_buffer() -> None:
    """The views of a packed array are the array's own memory."""
    array = np.zeros(30 * PAGE, dtype=np.uint8)
    _, (view,) = pickle_outside(array, what="x")
    array[5] = 7
    assert view[5] == 7
    assert view.nbytes == array.nbytes


class Refuses:
    def __reduce__(self) -> Any:
        raise LookupError("not me")


class Exhausted:
    def __reduce__(self) -> Any:
        raise MemoryError("no room to pickle")


def test_what_cannot_be_pickled_is_named() -> None:
    """The error says what, why and what to do; want of memory stays a MemoryError."""
    told = r"the thing cannot cross to another process: LookupError: not me; pass plain data"
    with pytest.raises(TransferError, match=told) as caught:
        pack(Refuses(), what="the thing")
    assert isinstance(caught.value.__cause__, LookupError)
    with pytest.raises(MemoryError, match="no room to pickle"):
        pack(Exhausted(), what="the thing")
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TransferError, match="excessively deep recursion"):
        pack(deep, what="the thing")
    while deep:
        deep = deep[0]


def test_a_segment_that_was_cut_is_an_error() -> None:
    """A segment shorter than its header says is refused, not read as zeros."""
    packed = pack(b"x" * 50_000, what="x")
    descriptor = create_segment("memguard-test", packed.total_bytes).give_away()[0]
    try:
        write_packed(packed, descriptor)
        os.ftruncate(descriptor, 20_000)
        with pytest.raises(EOFError, match="shorter than its header"):
            unpack(descriptor, give_back=False)
    finally:
        os.close(descriptor)


def test_a_call_crosses_with_its_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Function, arguments, directory, environment and import path; the function is unpickled only when asked."""
    monkeypatch.setenv("COLOUR", "blue")
    packed = pack_call(sorted, ([3, 1, 2],), {"reverse": True})
    descriptor = create_segment("memguard-test", packed.total_bytes).give_away()[0]
    try:
        write_packed(packed, descriptor)
        call = unpack_call(descriptor)
    finally:
        os.close(descriptor)
    assert call.surroundings == Surroundings.here()
    assert call.surroundings.environment["COLOUR"] == "blue"
    assert call.load()() == [3, 2, 1]


def test_a_large_call_is_not_copied_twice() -> None:
    """What is pickled in-band lies once in the segment, as a buffer of its own."""
    packed = pack_call(len, (b"x" * 1_000_000,), {})
    assert len(packed.pickle) < 50_000
    assert packed.total_bytes < 1_000_000 + 20 * PAGE
