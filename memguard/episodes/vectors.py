"""Vectors of a namespace in two files: float32 values, and beside them one bit of each, for the first look of a search.

Comes in: vectors with their places. Goes out: vectors by place, and blocks of them or of their bits in order. The place
of a vector tells where it lies, so nothing need be looked up; a place without a vector is zeros, as a file system makes
them where nothing was written. The bits are derived, and can be made again.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memguard.episodes.syncing import sync_folder

__all__ = ["VectorFiles", "codes_of"]

# What is read at once, of the values or of the bits, into one buffer that is used again. The bits are read by two
# threads, which hinder each other where both want Python's lock: blocks of 1 MiB took a quarter less time, and 3 MiB
# more memory.
_AT_ONCE: Final = 384 << 10
# To have pages of its own costs more than to fill a buffer as small as this.
_LITTLE: Final = 64 << 10


def codes_of(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return one bit for each value, set where it is above zero; shape (n, code_bytes), filled up with zeros."""
    bits = np.packbits(vectors > 0, axis=1)
    return np.pad(bits, ((0, 0), (0, _code_bytes(vectors.shape[1]) - bits.shape[1])))


def _code_bytes(dimension: int) -> int:
    """Return the bytes of a code: whole words of 64 bits, so that bits can be counted by the word."""
    return (dimension + 63) // 64 * 8


class VectorFiles:
    """The files of one namespace. Threads may read at once; one writes.

    Args:
        folder: where they are; made if it is not there.
        number: of the namespace.
        dimension: of each vector.
        read_only: whether a file that is not there stays so.
    """

    def __init__(self, folder: Path, number: int, dimension: int, *, read_only: bool) -> None:
        self._fds: list[int] = []
        self.dimension = dimension
        self.code_bytes = _code_bytes(dimension)
        self.value_bytes = 4 * dimension
        self.values_path, self.codes_path = folder / f"{number}.f32", folder / f"{number}.bits"
        if not read_only:
            folder.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT)
        self._fds.append(os.open(self.values_path, flags, 0o600))
        self._fds.append(os.open(self.codes_path, flags, 0o600))
        self._values, self._codes = self._fds

    def write(self, places: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Write vectors, shape (n, dimension), to rising places."""
        codes = codes_of(vectors)
        for first, last in _runs(places):
            start = places[first] - 1
            _write(self._values, _bytes_of(vectors[first:last]), start * self.value_bytes)
            _write(self._codes, _bytes_of(codes[first:last]), start * self.code_bytes)

    def write_codes(self, place: int, codes: NDArray[np.uint8]) -> None:
        """Write bits again, from a place on."""
        _write(self._codes, _bytes_of(np.ascontiguousarray(codes)), (place - 1) * self.code_bytes)

    def blank(self, place: int) -> None:
        """Overwrite a vector with zeros, on the disk too."""
        self.write([place], np.zeros((1, self.dimension), np.float32))
        self.sync()

    def sync(self, *, names: bool = False) -> None:
        """Return when what was written is on the disk, with the names of the files and of their folder if asked."""
        os.fdatasync(self._values)
        os.fdatasync(self._codes)
        if names:
            folder = self.values_path.parent
            sync_folder(folder)
            sync_folder(folder.parent)

    def cut(self, places: int) -> None:
        """Cut both files off behind a place, or lengthen them with zeros."""
        os.ftruncate(self._values, places * self.value_bytes)
        os.ftruncate(self._codes, places * self.code_bytes)

    @property
    def places(self) -> int:
        """How many places both files have."""
        values = os.fstat(self._values).st_size // self.value_bytes
        return min(values, os.fstat(self._codes).st_size // self.code_bytes)

    @property
    def disk_bytes(self) -> int:
        """What they take of the disk; holes take nothing."""
        return 512 * (os.fstat(self._values).st_blocks + os.fstat(self._codes).st_blocks)

    def read(self, places: Sequence[int], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return vectors by place, shape (n, dimension); of places behind the end zeros."""
        made = np.zeros((len(places), self.dimension), np.float32) if out is None else out
        size, rows, fd = self.value_bytes, _bytes_of(made), self._values
        for start, place in zip(range(0, len(rows), size), places, strict=True):
            row = rows[start : start + size]
            if os.preadv(fd, [row], (place - 1) * size) != size:
                row[:] = bytes(size)
        return made

    def read_codes(self, places: Sequence[int]) -> NDArray[np.uint8]:
        """Return the bits of vectors by place, shape (n, code_bytes); of places behind the end zeros."""
        size, made = self.code_bytes, bytearray(self.code_bytes * len(places))
        for number, place in enumerate(places):
            read = os.pread(self._codes, size, (place - 1) * size)
            made[number * size : number * size + len(read)] = read
        return np.frombuffer(made, np.uint8).reshape(len(places), size)

    def value_blocks(self, last_place: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Give all vectors up to a place in blocks, each with its first place; a block is overwritten by the next."""
        buffer = _buffer(self.value_bytes, last_place).view(np.float32)
        yield from _blocks(self._values, buffer, last_place)

    def code_blocks(self, last_place: int, after: int = 0) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Give the bits of all vectors behind a place up to one in the same way; a block is (n, code_bytes)."""
        yield from _blocks(self._codes, _buffer(self.code_bytes, last_place - after), last_place, after)

    def close(self) -> None:
        """Close the files; what happens by itself when nobody has this object any more.

        A store that is closed leaves it to that: another thread may still read, and would read some other file that has
        got the same number.
        """
        while self._fds:
            os.close(self._fds.pop())

    def __del__(self) -> None:
        self.close()


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return memoryview(array).cast("B")  # type: ignore[arg-type] # numpy 1's stubs do not know that it is a buffer


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Give the stretches of places without a gap, as positions (first, behind the last)."""
    first = 0
    for position in range(1, len(places) + 1):
        if position == len(places) or places[position] != places[position - 1] + 1:
            yield first, position
            first = position


def _write(fd: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _buffer(width: int, wanted: int) -> NDArray[np.uint8]:
    """Return rows of bytes, no more than wanted; many in pages of their own, which the heap would keep after use."""
    rows = max(1, min(wanted, _AT_ONCE // width))
    if rows * width <= _LITTLE:
        return np.empty((rows, width), np.uint8)
    try:
        pages = mmap.mmap(-1, rows * width, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        if error.errno == errno.ENOMEM:  # as any other allocation tells it
            raise MemoryError(f"no {rows * width} bytes to read vectors into") from error
        raise
    return np.frombuffer(pages, np.uint8).reshape(rows, width)


def _blocks(
    fd: int, buffer: NDArray[Any], last_place: int, after: int = 0
) -> Iterator[tuple[int, NDArray[Any]]]:
    at_once, size = len(buffer), buffer.nbytes // len(buffer)
    rows = _bytes_of(buffer)
    for start in range(after, last_place, at_once):
        count = min(at_once, last_place - start)
        read = os.preadv(fd, [rows[: count * size]], start * size)
        if read < count * size:  # a file that was cut short: what is missing is zeros
            rows[read : count * size] = bytes(count * size - read)
        yield start + 1, buffer[:count]
