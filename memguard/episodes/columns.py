"""Columns of a NumPy archive (``.npz``), a block of rows at a time: what an older store saved of its texts and vectors.

Comes in: a file. Goes out: rows as mappings. A column is read as it is unpacked, so none is ever in memory as a whole,
and one of Python objects, which would be a pickle, is refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "columns_of", "rows_of"]

_AT_ONCE: Final = 1000
# What each is called in an archive, one name a column, as its rows are called in other files.
_PLURALS: Final = {
    "texts": "text", "documents": "document", "contents": "content", "memories": "memory", "vectors": "vector",
    "embeddings": "embedding", "metadatas": "metadata", "payloads": "payload", "ids": "id", "kinds": "kind",
    "timestamps": "timestamp", "namespaces": "namespace",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that is being read.

    Attributes:
        name: what its rows are called.
        file: behind its header.
        dtype: of each value.
        shape: of a row.
        count: of the rows.
    """

    name: str
    file: IO[bytes]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    count: int

    def block(self, rows: int) -> NDArray[Any]:
        """Return the next rows."""
        size = self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64)) * rows
        content = self.file.read(size)
        if len(content) != size:
            raise ValueError(f"column {self.name!r} is cut off")
        return np.frombuffer(content, self.dtype).reshape(rows, *self.shape)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of an archive.

    Attributes:
        each: of them.
        count: of their rows.
    """

    each: tuple[_Column, ...]
    count: int


@contextmanager
def columns_of(path: Path) -> Iterator[Columns]:
    """Open an archive.

    Raises:
        ValueError: if it is none, or its columns are no columns of one table.
        OSError: if it cannot be read.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    with ExitStack() as opened:
        opened.enter_context(archive)
        try:
            found = tuple(
                _column(name, opened.enter_context(archive.open(name))) for name in archive.namelist()
            )
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise ValueError(str(error)) from error
        counts = {column.count for column in found}
        if len(counts) != 1:
            raise ValueError(f"the columns have different lengths: {sorted(counts)}")
        yield Columns(found, counts.pop())


def _column(name: str, file: IO[bytes]) -> _Column:
    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(file)  # type: ignore[no-untyped-call]
    plain = name.removesuffix(".npy")
    if dtype.hasobject:
        raise ValueError(f"column {plain!r} is of Python objects, which are a pickle and are never opened")
    if not shape or (by_columns and len(shape) > 1):
        raise ValueError(f"column {plain!r} does not lie row by row")
    return _Column(_PLURALS.get(plain, plain), file, dtype, tuple(shape[1:]), shape[0])


def rows_of(columns: Columns) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Give the rows, and the bytes of each.

    Raises:
        ValueError: where the archive is damaged.
    """
    left = columns.count
    while left:
        rows = min(_AT_ONCE, left)
        try:
            blocks = {column.name: column.block(rows) for column in columns.each}
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(str(error)) from error
        for at in range(rows):
            stored = b"\0".join(block[at].tobytes() for block in blocks.values())
            yield {name: _plain(block[at]) for name, block in blocks.items()}, stored
        left -= rows


def _plain(value: Any) -> Any:
    """Return a value as JSON would have it; a row of numbers stays one."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value
    plain = value.item()
    return plain.decode() if isinstance(plain, bytes) else plain
