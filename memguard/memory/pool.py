"""A pool of shared-memory blocks in size classes: taken, given back, taken again, and handed to the machine on request.

Comes in: how many bytes somebody needs. Goes out: a mapped block at least as large, whose pages may be there already
because another had them before. A block is shared memory without a name (memfd), so nothing of it outlives its
holders, however they die. The pool does not decide when memory is short; who does knows it by `register_sheddable`.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from memguard.units import MIB

__all__ = ["BlockPool", "PoolBlock", "PoolStatistics", "size_class"]

# Small enough that a table of a few rows does not look large, and a multiple of every page size in use.
_SMALLEST_BYTES: Final = 64 * 1024


def size_class(size_bytes: int) -> int:
    """Return the size of the block that is given for a request: the next of 64 KiB x 1, 1.5, 2, 3, 4, 6, 8, ...

    Two classes to a doubling waste at most a third of a block, and its pages that nobody touches are not there.

    Raises:
        ValueError: if the size is negative.
    """
    if size_bytes < 0:
        raise ValueError(f"a block cannot have {size_bytes} bytes")
    if size_bytes <= _SMALLEST_BYTES:
        return _SMALLEST_BYTES
    doubled = 1 << (size_bytes - 1).bit_length()
    between = doubled // 4 * 3
    return between if between >= size_bytes else doubled


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """How a pool stands.

    Attributes:
        in_use_blocks: blocks that are taken.
        in_use_bytes: their sizes together.
        asked_bytes: what was asked for when they were taken; never more than ``in_use_bytes``.
        idle_blocks: blocks that wait to be taken again.
        idle_bytes: their sizes together.
        taken: how often a block was taken so far.
        reused: how often it was one that had been there before.
        peak_bytes: the most there ever was, taken and idle.
    """

    in_use_blocks: int
    in_use_bytes: int
    asked_bytes: int
    idle_blocks: int
    idle_bytes: int
    taken: int
    reused: int
    peak_bytes: int

    @property
    def reuse_rate(self) -> float:
        """Share of takings that got a block which was there already, 0 to 1; 0 before the first."""
        return self.reused / self.taken if self.taken else 0.0

    @property
    def inner_fragmentation(self) -> float:
        """Share of the taken bytes that nobody asked for, 0 to 1: what the size classes cost."""
        return 1 - self.asked_bytes / self.in_use_bytes if self.in_use_bytes else 0.0

    @property
    def outer_fragmentation(self) -> float:
        """Share of all bytes that lie idle, 0 to 1: what keeping blocks for reuse costs."""
        total = self.in_use_bytes + self.idle_bytes
        return self.idle_bytes / total if total else 0.0


@dataclass(slots=True, eq=False)
class PoolBlock:
    """Shared memory, mapped for reading and writing.

    It says nothing of what is in it: a block that was used before holds what its last user left.

    Attributes:
        memory: the mapping, ``size_bytes`` long.
        descriptor: the memfd behind it, for another process to map; -1 where the system has none, and after the
            pool has let go of the block.
        size_bytes: its size class.
        asked_bytes: what its taker asked for.
    """

    memory: mmap.mmap
    descriptor: int
    size_bytes: int
    asked_bytes: int = 0


@dataclass(slots=True)
class _Counts:
    """What a pool has, by identity and by size."""

    in_use: dict[int, PoolBlock] = field(default_factory=dict)
    idle: dict[int, list[PoolBlock]] = field(default_factory=dict)
    taken: int = 0
    reused: int = 0
    peak_bytes: int = 0

    def in_use_bytes(self) -> int:
        return sum(block.size_bytes for block in self.in_use.values())

    def idle_bytes(self) -> int:
        return sum(size * len(blocks) for size, blocks in self.idle.items())


class BlockPool:
    """Blocks of shared memory for one process; thread safe.

    Does not promise that a block's pages are there when it is taken: the kernel gives them as they are touched, and
    `preallocate` asks for them beforehand. A block whose mapping is still looked at by an array when the pool lets go
    of it lives as long as the array.

    Args:
        name: what reports call it.
        idle_bytes: how much may lie idle; what is given back beyond that goes to the machine at once.
    """

    def __init__(self, name: str = "block pool", *, idle_bytes: int = 64 * MIB) -> None:
        if idle_bytes < 0:
            raise ValueError(f"idle_bytes is {idle_bytes}; it cannot be negative")
        self._name = name
        self._idle_limit_bytes = idle_bytes
        # Filled by `give_back` without the lock: a finalizer may run in the midst of any call, also of this pool's.
        self._returned: deque[PoolBlock] = deque()
        self._start_over()

    def _start_over(self) -> None:
        # Also in a forked child, where another thread may have held the lock for ever, and where the blocks that lie
        # idle are the parent's to give: the same pages would be two owners' at once.
        self._owner_pid = os.getpid()
        self._lock = threading.RLock()
        self._counts = _Counts()

    def _locked(self) -> threading.RLock:
        if self._owner_pid != os.getpid():
            self._start_over()
        return self._lock

    @property
    def name(self) -> str:
        """What reports call it."""
        return self._name

    @property
    def held_bytes(self) -> int:
        """What it could give to the machine now: its idle blocks."""
        return self.statistics().idle_bytes

    def take(self, size_bytes: int) -> PoolBlock:
        """Return a block of at least so many bytes, an idle one of its class where there is one.

        Raises:
            OSError: if the machine gives none (ENOMEM, EMFILE).
            ValueError: if the size is negative.
        """
        size = size_class(size_bytes)
        with self._locked():
            self._collect()
            waiting = self._counts.idle.get(size)
            self._counts.reused += bool(waiting)
            block = waiting.pop() if waiting else _new_block(size)
            block.asked_bytes = size_bytes
            self._counts.taken += 1
            self._counts.in_use[id(block)] = block
            self._note_peak()
            return block

    def preallocate(self, size_bytes: int, count: int = 1) -> None:
        """Put blocks of a size into the pool, their pages there already; they count against what may lie idle.

        Raises:
            OSError: if there is not so much memory (ENOMEM, ENOSPC).
            ValueError: if that would be more than may lie idle.
        """
        size = size_class(size_bytes)
        with self._locked():
            self._collect()
            if self._counts.idle_bytes() + size * count > self._idle_limit_bytes:
                raise ValueError(
                    f"{count} blocks of {size} bytes are more than may lie idle ({self._idle_limit_bytes} bytes)"
                )
            for _ in range(count):
                self._counts.idle.setdefault(size, []).append(_new_block(size, with_pages=True))
            self._note_peak()

    def give_back(self, block: PoolBlock) -> None:
        """Give a block back, from any thread and from a finalizer; its taker looks at it no more.

        Only what was taken and not yet given back has an effect.
        """
        self._returned.append(block)
        # Not waited for: who holds the lock, perhaps this very thread below its finalizer, collects when he is done
        # or the next time that the pool is asked anything.
        if self._owner_pid == os.getpid() and self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def shed(self, wanted_bytes: int, /) -> int:
        """Give idle blocks to the machine, the largest first, until there is enough; return the bytes given."""
        given_bytes = 0
        with self._locked():
            self._collect()
            for size in sorted(self._counts.idle, reverse=True):
                blocks = self._counts.idle[size]
                while blocks and given_bytes < wanted_bytes:
                    _let_go(blocks.pop())
                    given_bytes += size
        return given_bytes

    def statistics(self) -> PoolStatistics:
        """Return how the pool stands."""
        with self._locked():
            self._collect()
            counts = self._counts
            return PoolStatistics(
                in_use_blocks=len(counts.in_use),
                in_use_bytes=counts.in_use_bytes(),
                asked_bytes=sum(block.asked_bytes for block in counts.in_use.values()),
                idle_blocks=sum(len(blocks) for blocks in counts.idle.values()),
                idle_bytes=counts.idle_bytes(),
                taken=counts.taken,
                reused=counts.reused,
                peak_bytes=counts.peak_bytes,
            )

    def _note_peak(self) -> None:
        total_bytes = self._counts.in_use_bytes() + self._counts.idle_bytes()
        self._counts.peak_bytes = max(self._counts.peak_bytes, total_bytes)

    def _collect(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            if self._counts.in_use.pop(id(block), None) is None:
                continue
            if self._counts.idle_bytes() + block.size_bytes <= self._idle_limit_bytes:
                self._counts.idle.setdefault(block.size_bytes, []).append(block)
            else:
                _let_go(block)


def _new_block(size_bytes: int, *, with_pages: bool = False) -> PoolBlock:
    if not hasattr(os, "memfd_create"):
        return PoolBlock(mmap.mmap(-1, size_bytes), -1, size_bytes)
    descriptor = os.memfd_create("memguard-pool", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size_bytes)
        if with_pages:
            os.posix_fallocate(descriptor, 0, size_bytes)
        return PoolBlock(mmap.mmap(descriptor, size_bytes), descriptor, size_bytes)
    except BaseException:
        os.close(descriptor)
        raise


def _let_go(block: PoolBlock) -> None:
    # The mapping is not closed: an array that just now dies may still hold it. It goes with its last holder, at once
    # where that is the block.
    if block.descriptor >= 0:
        os.close(block.descriptor)
        block.descriptor = -1
    block.memory = None  # type: ignore[assignment]
