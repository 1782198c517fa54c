"""Float32 columns of equal length: how the engine's parts see them, and the store in which they are kept.

Comes in: columns, one after the other. Goes out: read-only views of them, and bounded copies of some of their rows.
A store keeps them in blocks of pooled shared memory as far as its budget goes, and in mapped scratch files beyond.
"""

from __future__ import annotations

import bisect
import contextlib
import mmap
import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from memguard.memory.pool import BlockPool, size_class
from memguard.units import MIB
from memguard_integrations.autofeat.engine.scratch import map_scratch

__all__ = ["Allowance", "ArrayColumns", "ColumnStore", "Columns", "Floats", "shared_pool"]

Floats = NDArray[np.float32]

_ITEM_BYTES: Final = 4
# A block is a quarter of what is there already, between these: few blocks for a large matrix, little waste in a small
# one. A mapping of a scratch file costs a descriptor, so those grow larger.
_SMALLEST_BLOCK_BYTES: Final = 256 * 1024
_LARGEST_BLOCK_BYTES: Final = 32 * MIB
_LARGEST_SCRATCH_BYTES: Final = 512 * MIB
# Written pages of a scratch file are this process's until it lets go of them.
_HELD_PAGES_BYTES: Final = 4 * MIB


class Columns(Protocol):
    """Read-only float32 columns of equal length; each is contiguous."""

    @property
    def n_rows(self) -> int:
        """Length of each."""

    def __len__(self) -> int:
        """How many there are."""

    def column(self, index: int, /) -> Floats:
        """Return one, shape (n_rows,), read-only."""

    def rows(self, indices: Sequence[int], start: int, stop: int, out: Floats | None = None) -> Floats:
        """Copy some rows of some columns, shape (len(indices), stop - start); ``out`` takes them if given."""

    def expect(self, indices: Sequence[int], start: int, stop: int) -> None:
        """Have some rows of some columns brought from where they are: they are about to be looked at."""

    def let_go_of_pages(self) -> None:
        """Keep nothing that only was brought: all that is looked at now has been."""


class ArrayColumns:
    """The rows of an array as columns, without a copy.

    Args:
        array: shape (columns, rows), float32, C order.

    Raises:
        ValueError: if it is of another kind.
    """

    def __init__(self, array: Floats) -> None:
        if array.ndim != 2 or array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError("columns are rows of a two-dimensional float32 array in C order")
        self._array = _read_only(array)

    @property
    def n_rows(self) -> int:
        """Length of each column."""
        return int(self._array.shape[1])

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def column(self, index: int, /) -> Floats:
        """Return one column, shape (n_rows,), read-only."""
        column: Floats = self._array[index]
        return column

    def rows(self, indices: Sequence[int], start: int, stop: int, out: Floats | None = None) -> Floats:
        """Copy some rows of some columns."""
        return _copy_rows(self, indices, start, stop, out)

    def expect(self, indices: Sequence[int], start: int, stop: int) -> None:
        """Do nothing: they are in memory."""

    def let_go_of_pages(self) -> None:
        """Do nothing: they stay in memory."""


@dataclass(slots=True, eq=False)
class _Block:
    """Some columns that follow each other.

    Attributes:
        array: shape (capacity, rows).
        first: index of its first column in the store.
        used: how many columns are in it.
        size_bytes: what it takes of the pool or of the disk.
        mapping: the scratch file's, or ``None`` for pooled memory.
        used: how many columns are in it.
    """

    array: Floats
    first: int
    size_bytes: int
    mapping: mmap.mmap | None = None
    used: int = 0


_pool: BlockPool | None = None


def shared_pool() -> BlockPool:
    """Return the pool of this process that stores take their blocks from; whoever finds memory short may ask it."""
    global _pool  # noqa: PLW0603 - one pool to a process, made when first needed
    if _pool is None:
        from memguard.memory.shedding import register_sheddable  # noqa: PLC0415 - only where a pool is used

        _pool = BlockPool("pool of engineered columns")
        register_sheddable(_pool)
    return _pool


@dataclass(slots=True, eq=False)
class Allowance:
    """How much pooled memory some stores may take together; one thread's.

    Attributes:
        limit_bytes: the bound; ``None`` for none.
        used_bytes: what they hold.
    """

    limit_bytes: int | None = None
    used_bytes: int = 0

    @property
    def room_bytes(self) -> int | None:
        """What may still be taken; ``None`` for whatever there is."""
        return None if self.limit_bytes is None else self.limit_bytes - self.used_bytes


class ColumnStore:
    """Columns that are appended one by one; closing it frees all that nobody looks at.

    A view of a column, and a frame made of views, stays good after closing: its block goes when the last view goes.
    Appending is one thread's; reading is any thread's.

    Args:
        n_rows: length of each column.
        memory: how much pooled memory it may take, in bytes or as something shared with other stores; ``None`` for
            no bound.
        scratch_dir: where the rest goes; ``None`` for the system's directory for temporary files.
        pool: where blocks come from; ``None`` for `shared_pool`.
    """

    def __init__(
        self,
        n_rows: int,
        *,
        memory: int | Allowance | None = None,
        scratch_dir: str | os.PathLike[str] | None = None,
        pool: BlockPool | None = None,
    ) -> None:
        self._n_rows = n_rows
        self._allowance = memory if isinstance(memory, Allowance) else Allowance(memory)
        self._scratch_dir = scratch_dir
        self._pool = pool if pool is not None else shared_pool()
        self._blocks: list[_Block] = []
        self._starts: list[int] = []
        self._length = 0
        self._pooled_bytes = 0
        self._spilled_bytes = 0
        self._held_bytes = 0

    @property
    def n_rows(self) -> int:
        """Length of each column."""
        return self._n_rows

    @property
    def pooled_bytes(self) -> int:
        """How much pooled memory it holds."""
        return self._pooled_bytes

    @property
    def spilled_bytes(self) -> int:
        """How much of the disk it holds."""
        return self._spilled_bytes

    def __len__(self) -> int:
        return self._length

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, values: Floats) -> int:
        """Copy a column to the end, shape (n_rows,); return its index.

        Raises:
            ScratchFull: if it needs the disk and that has no room.
            OSError: if the machine gives no block.
        """
        block = self._blocks[-1] if self._blocks else None
        if block is None or block.used == len(block.array):
            block = self._add_block()
        block.array[block.used] = values
        block.used += 1
        self._length += 1
        if block.mapping is not None:
            self._let_go_after(values.nbytes)
        return self._length - 1

    def column(self, index: int, /) -> Floats:
        """Return one column, shape (n_rows,), read-only.

        Raises:
            IndexError: if there is none, or no longer.
        """
        block = self._blocks[self._place(index)]
        return _read_only(block.array[index - block.first])

    def rows(self, indices: Sequence[int], start: int, stop: int, out: Floats | None = None) -> Floats:
        """Copy some rows of some columns; of the disk's pages none stay with this process."""
        self.expect(indices, start, stop)
        copied = _copy_rows(self, indices, start, stop, out)
        for place in {self._place(index) for index in indices}:
            _let_go_of_pages(self._blocks[place])
        return copied

    def expect(self, indices: Sequence[int], start: int, stop: int) -> None:
        """Have the kernel read rows that are on disk, all at once and no others.

        Left to itself it reads 128 KiB around each page that is missed: of columns that are read a few rows at a time
        that is many times what is wanted, and waited for page by page.
        """
        for index in indices:
            block = self._blocks[self._place(index)]
            if block.mapping is not None:
                first = ((index - block.first) * self._n_rows + start) * _ITEM_BYTES
                _read_ahead(block.mapping, first, first + (stop - start) * _ITEM_BYTES)

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """Yield each block's first index and its columns, shape (columns, n_rows), in order, writable."""
        for block in self._blocks:
            if block.used:
                yield block.first, block.array[: block.used]

    def forget_before(self, index: int) -> None:
        """Free the blocks all of whose columns stand before an index; they can be had no more."""
        while self._blocks and self._blocks[0].first + len(self._blocks[0].array) <= index:
            self._starts.pop(0)
            self._forget(self._blocks.pop(0))

    def let_go_of_pages(self) -> None:
        """Leave the pages of scratch files to the kernel, which may write them and drop them; nothing is lost."""
        self._held_bytes = 0
        for block in self._blocks:
            _let_go_of_pages(block)

    def close(self) -> None:
        """Free all that nobody looks at; again does nothing."""
        while self._blocks:
            self._forget(self._blocks.pop())
        self._starts.clear()
        self._length = 0

    def _place(self, index: int) -> int:
        place = bisect.bisect_right(self._starts, index) - 1
        if place < 0 or not 0 <= index < self._length:
            raise IndexError(f"no column {index} among {self._length}")
        return place

    def _add_block(self) -> _Block:
        column_bytes = max(1, self._n_rows * _ITEM_BYTES)
        block = self._pooled_block(column_bytes) or self._scratch_block(column_bytes)
        self._blocks.append(block)
        self._starts.append(block.first)
        return block

    def _pooled_block(self, column_bytes: int) -> _Block | None:
        room = self._allowance.room_bytes
        size = _wanted_bytes(self._pooled_bytes, column_bytes, _LARGEST_BLOCK_BYTES)
        while room is not None and size > room:
            # The last of the room is filled with small blocks down to a single column.
            if size <= size_class(column_bytes):
                return None
            size = max(size_class(column_bytes), size_class(size // 2))
        taken = self._pool.take(size)
        array = _as_columns(taken.memory, size // column_bytes, self._n_rows)
        returning = weakref.finalize(array, self._pool.give_back, taken)
        returning.atexit = False
        self._pooled_bytes += size
        self._allowance.used_bytes += size
        return _Block(array, self._length, size)

    def _scratch_block(self, column_bytes: int) -> _Block:
        size = _wanted_bytes(self._spilled_bytes, column_bytes, _LARGEST_SCRATCH_BYTES)
        size = size // column_bytes * column_bytes
        mapping = map_scratch(self._scratch_dir, size)
        self._spilled_bytes += size
        return _Block(_as_columns(mapping, size // column_bytes, self._n_rows), self._length, size, mapping)

    def _forget(self, block: _Block) -> None:
        if block.mapping is None:
            self._pooled_bytes -= block.size_bytes
            self._allowance.used_bytes -= block.size_bytes
        else:
            self._spilled_bytes -= block.size_bytes

    def _let_go_after(self, written_bytes: int) -> None:
        self._held_bytes += written_bytes
        if self._held_bytes >= _HELD_PAGES_BYTES:
            self.let_go_of_pages()


def _wanted_bytes(held_bytes: int, column_bytes: int, largest_bytes: int) -> int:
    wanted = min(largest_bytes, max(_SMALLEST_BLOCK_BYTES, held_bytes // 4))
    return size_class(max(column_bytes, wanted))


def _as_columns(memory: Any, capacity: int, n_rows: int) -> Floats:
    # An array over a mapping, not a slice of another array: views of it then keep it alive, and with it the mapping.
    return np.ndarray((capacity, n_rows), dtype=np.float32, buffer=memory)


def _let_go_of_pages(block: _Block) -> None:
    if block.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        # Of a shared mapping of a file this only drops this process's view of the pages; the file keeps them.
        with contextlib.suppress(OSError):
            block.mapping.madvise(mmap.MADV_DONTNEED)


def _read_ahead(mapping: mmap.mmap, first: int, stop: int) -> None:
    if hasattr(mmap, "MADV_WILLNEED") and first < stop:
        first -= first % mmap.PAGESIZE
        with contextlib.suppress(OSError):  # advice
            mapping.madvise(mmap.MADV_WILLNEED, first, stop - first)


def _read_only(array: Floats) -> Floats:
    view = array.view()
    view.flags.writeable = False
    return view


def _copy_rows(columns: Columns, indices: Sequence[int], start: int, stop: int, out: Floats | None) -> Floats:
    if not 0 <= start <= stop <= columns.n_rows:
        raise ValueError(f"no rows {start}:{stop} among {columns.n_rows}")
    if out is None:
        out = np.empty((len(indices), stop - start), dtype=np.float32)
    for position, index in enumerate(indices):
        out[position] = columns.column(index)[start:stop]
    return out
