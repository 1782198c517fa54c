"""Kernel files read whole, and the two forms most of them have."""

from __future__ import annotations

import os

from memguard.host.descriptors import Descriptors

__all__ = ["find_flat", "parse_flat", "parse_kilobytes", "read_all", "read_int", "read_once"]

# A seq_file fills one page per read at least; 64 KiB takes every file read here in one call or a few.
_CHUNK = 65536


def read_once(path: str, size: int = 4096) -> bytes:
    """Read at most ``size`` bytes with a single read, for files that are shorter than a page.

    Raises:
        OSError: as `os.open` and `os.read` do; a process that is gone shows as ``ENOENT`` or ``ESRCH``.
    """
    opened = _open(path)
    try:
        return os.read(opened.fileno(), size)
    finally:
        opened.close()


def read_all(path: str) -> bytes:
    """Read a file to its end, however short the kernel's single reads are.

    Raises:
        OSError: as `read_once`.
    """
    opened = _open(path)
    try:
        chunks = []
        while chunk := os.read(opened.fileno(), _CHUNK):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        opened.close()


def _open(path: str) -> Descriptors:
    return Descriptors(map(os.open, [path], [os.O_RDONLY | os.O_CLOEXEC]))


def read_int(path: str) -> int | None:
    """Read a file that holds one number; ``None`` where it holds the word ``max``.

    Raises:
        OSError: as `read_once`.
        ValueError: for any other content.
    """
    text = read_once(path).strip()
    return None if text == b"max" else int(text)


def parse_flat(text: bytes) -> dict[bytes, int]:
    """Read lines of the form ``key number``, as in memory.stat; other lines are left out."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def find_flat(text: bytes, key: bytes) -> int:
    """Read one line of the form ``key number`` without taking the others apart.

    Raises:
        ValueError: when there is no such line.
    """
    start = 0 if text.startswith(key + b" ") else text.index(b"\n" + key + b" ") + 1
    end = text.find(b"\n", start)
    return int(text[start + len(key) + 1 : end if end >= 0 else None])


def parse_kilobytes(text: bytes) -> dict[bytes, int]:
    """Read lines of the form ``Key:  number kB``, as in meminfo and smaps_rollup; values in bytes."""
    parts = (line.split() for line in text.splitlines())
    return {each[0][:-1]: int(each[1]) * 1024 for each in parts if len(each) == 3 and each[2] == b"kB"}
