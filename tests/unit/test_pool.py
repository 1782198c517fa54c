"""The pool of shared-memory blocks: what is given, given back, given again, and handed to the machine."""

from __future__ import annotations

import gc
import os
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.memory import register_sheddable, shed_all
from memguard.memory.pool import BlockPool, size_class
from tests.support.forks import FORKS_BESIDE_THREADS, in_child

KIB = 1024
MIB = 1024**2


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@given(st.integers(0, 1 << 40))
def test_a_class_holds_the_request_and_wastes_at_most_a_third(size: int) -> None:
    """Every request fits into its class, which is itself a class and a multiple of the page."""
    given_bytes = size_class(size)
    assert given_bytes >= size
    assert size_class(given_bytes) == given_bytes
    assert given_bytes % (16 * KIB) == 0
    assert size <= 64 * KIB or given_bytes - size <= given_bytes / 3


def test_no_block_is_negative() -> None:
    """A negative size is refused."""
    with pytest.raises(ValueError, match="cannot have -1"):
        BlockPool().take(-1)
    with pytest.raises(ValueError, match="negative"):
        BlockPool(idle_bytes=-1)


def test_what_is_given_back_is_given_again() -> None:
    """The second taker of a class gets the first one's block, and the rate of reuse says so."""
    pool = BlockPool(idle_bytes=MIB)
    first = pool.take(100 * KIB)
    first.memory[:4] = b"mine"
    pool.give_back(first)
    again = pool.take(128 * KIB)
    assert again is first
    assert again.memory[:4] == b"mine"
    told = pool.statistics()
    assert (told.taken, told.reused, told.reuse_rate) == (2, 1, 0.5)
    assert (told.in_use_blocks, told.idle_blocks) == (1, 0)
    pool.give_back(again)


def test_two_takers_have_two_blocks() -> None:
    """What one writes, the other does not see; giving back twice makes no second block of one."""
    pool = BlockPool(idle_bytes=MIB)
    one, two = pool.take(KIB), pool.take(KIB)
    one.memory[:3], two.memory[:3] = b"one", b"two"
    assert (one.memory[:3], two.memory[:3]) == (b"one", b"two")
    pool.give_back(one)
    pool.give_back(one)
    assert pool.statistics().idle_blocks == 1
    assert pool.take(KIB) is one
    assert pool.take(KIB) is not one


def test_fragmentation_is_told() -> None:
    """Bytes that nobody asked for and bytes that lie idle are shares of what there is."""
    pool = BlockPool(idle_bytes=MIB)
    kept, idle = pool.take(96 * KIB), pool.take(200 * KIB)
    pool.give_back(idle)
    told = pool.statistics()
    assert told.inner_fragmentation == 0.0
    assert told.outer_fragmentation == pytest.approx(256 / (256 + 96))
    tight = pool.take(65 * KIB)
    assert tight.size_bytes == 96 * KIB
    assert pool.statistics().inner_fragmentation == pytest.approx(1 - (96 + 65) / (96 + 96))
    assert pool.statistics().peak_bytes == (96 + 256 + 96) * KIB
    for block in (kept, tight):
        pool.give_back(block)
    assert BlockPool().statistics().reuse_rate == 0.0


def test_only_so_much_lies_idle() -> None:
    """Beyond the bound, what is given back goes to the machine, descriptor and all."""
    before = descriptors()
    pool = BlockPool(idle_bytes=128 * KIB)
    blocks = [pool.take(64 * KIB) for _ in range(5)]
    for block in blocks:
        pool.give_back(block)
    assert pool.held_bytes == 128 * KIB
    assert pool.shed(MIB) == 128 * KIB
    assert pool.held_bytes == 0
    del block, blocks
    assert descriptors() == before


def test_whoever_finds_memory_short_gets_the_idle_blocks() -> None:
    """Registered as one that can shed, it gives idle blocks, the largest first, and never one in use."""
    pool = BlockPool("blocks for a test", idle_bytes=4 * MIB)
    used = pool.take(MIB)
    for block in [pool.take(64 * KIB), pool.take(2 * MIB)]:
        pool.give_back(block)
    assert pool.shed(MIB) == 2 * MIB
    assert pool.held_bytes == 64 * KIB
    forget = register_sheddable(pool)
    try:
        # More than there is: other pools of this process are asked as well, and none of them has enough.
        results = {result.name: result for result in shed_all(1 << 50)}
    finally:
        forget()
    assert results["blocks for a test"].given_back_bytes == 64 * KIB
    assert pool.held_bytes == 0
    used.memory[:1] = b"x"
    pool.give_back(used)


def test_preallocated_blocks_have_their_pages() -> None:
    """What is preallocated is there before it is taken, and counts as reused when it is."""
    pool = BlockPool(idle_bytes=MIB)
    pool.preallocate(256 * KIB, 2)
    assert pool.held_bytes == 512 * KIB
    block = pool.take(256 * KIB)
    assert os.fstat(block.descriptor).st_blocks * 512 >= 256 * KIB
    assert pool.statistics().reuse_rate == 1.0
    with pytest.raises(ValueError, match="more than may lie idle"):
        pool.preallocate(MIB)
    pool.give_back(block)


def test_an_array_outlives_the_pools_interest() -> None:
    """Memory that an array looks at stays good when the block is given back beyond the bound, and goes with it."""
    gc.collect()
    before = descriptors()
    pool = BlockPool(idle_bytes=0)
    block = pool.take(64 * KIB)
    array = np.frombuffer(block.memory, dtype=np.uint8)
    array[:] = 7  # type: ignore[index]
    gone = weakref.finalize(array, pool.give_back, block)
    view = array[10:20]
    del array, block
    gc.collect()
    assert gone.alive
    assert view.tolist() == [7] * 10
    del view
    assert not gone.alive
    assert pool.statistics().in_use_blocks == 0
    assert descriptors() == before


@FORKS_BESIDE_THREADS
def test_a_forked_child_takes_none_of_its_parents_blocks() -> None:
    """Idle blocks are the parent's: a child that had one too would write into the parent's memory."""
    pool = BlockPool(idle_bytes=MIB)
    pool.preallocate(64 * KIB)

    def take_and_write() -> bool:
        block = pool.take(64 * KIB)
        block.memory[:5] = b"child"
        return pool.statistics().reused == 0

    assert in_child(take_and_write)
    assert pool.take(64 * KIB).memory[:5] == bytes(5)
