"""Mapping parts of a segment as memory, without keeping a descriptor for each part.

Comes in: the descriptor of a segment, an offset, a length. Goes out: a `memoryview` whose mapping ends with the last
object on it. What is written to it stays in this process and across a fork belongs to one side, as with any memory.
A caller may hold thousands of results with arrays in them; Python's own mapping of a file keeps a duplicate of its
descriptor until 3.13, and a process has a thousand descriptors as a rule.
"""

from __future__ import annotations

import functools
import mmap
import os
import sys
from typing import Any, Final

__all__ = ["PageReturn", "held_result_bytes", "map_part"]

_PROTECTION: Final = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED: Final = 0x10


class _Forks:
    """Counts the forks of this process, and knows whether one is under way in some thread."""

    begun = 0
    ended = 0

    @classmethod
    def begin(cls) -> None:
        cls.begun += 1

    @classmethod
    def end(cls) -> None:
        cls.ended += 1

    @classmethod
    def end_in_child(cls) -> None:
        cls.ended = cls.begun  # another thread's fork does not go on in the child


os.register_at_fork(before=_Forks.begin, after_in_parent=_Forks.end, after_in_child=_Forks.end_in_child)


class PageReturn:
    """Gives the pages of single parts of a segment back to the kernel, while other parts are still in use.

    Without it one small array kept from a large result would keep the whole segment. It sees the segment through a
    shared mapping of its own, which nobody reads or writes, so that it needs no descriptor. After a fork nothing is
    given back any more: the other process may still read these pages, and they go when the last mapping goes.
    A fork by foreign code that runs no hooks of Python's, and no exec either, is not noticed in the parent.
    """

    def __init__(self, descriptor: int) -> None:
        self._whole = _mapped(mmap.mmap, descriptor, 0, os.fstat(descriptor).st_size, mmap.MAP_SHARED)
        self._owner_pid = os.getpid()
        self._forks = _Forks.begun if _Forks.begun == _Forks.ended else None

    def give_back(self, offset: int, length: int) -> None:
        """Free the pages of a part, unless a fork may have left them to somebody else."""
        if self._forks == _Forks.begun and self._owner_pid == os.getpid():
            self._whole.madvise(mmap.MADV_REMOVE, offset, length)


# Lengths of the parts that something still uses. Each operation on it is one step of the interpreter: a part may die
# in any thread at any moment.
_held: Final[dict[int, int]] = {}


def held_result_bytes() -> int:
    """Return what this process keeps mapped of results (in a job: of its arguments too).

    Their pages are shared memory by kind, so that no figure of private memory has them.
    """
    return sum(list(_held.values()))


class _Part(mmap.mmap):
    """A mapping that gives the pages below it back when the last object on it dies."""

    pages: tuple[PageReturn, int, int] | None = None

    def __del__(self) -> None:
        _held.pop(id(self), None)
        if self.pages is not None:
            giver, offset, length = self.pages
            giver.give_back(offset, length)


def map_part(descriptor: int, offset: int, length: int, *, giver: PageReturn | None) -> memoryview:
    """Map a part of a segment copy-on-write.

    Args:
        descriptor: the segment; may be closed afterwards.
        offset: where the part begins; a multiple of the page size.
        length: bytes, more than 0.
        giver: gives back the part's pages when its mapping ends; ``None`` leaves them until the segment ends.

    Raises:
        OSError: if the kernel refuses, for instance because the process has too many mappings.
    """
    mapping = _mapped(_Part, descriptor, offset, length, mmap.MAP_PRIVATE)
    _held[id(mapping)] = length
    if giver is not None:
        mapping.pages = (giver, offset, length)
    return memoryview(mapping)


def _mapped(kind: Any, descriptor: int, offset: int, length: int, flags: int) -> Any:
    if sys.version_info >= (3, 13):
        return kind(descriptor, length, flags, _PROTECTION, offset=offset, trackfd=False)
    # Python owns an empty mapping, for which it keeps no descriptor, and the kernel puts the segment in its place.
    # A shared one: a private one would count against RLIMIT_DATA even where the segment's does not.
    mapping = kind(-1, length, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS, _PROTECTION)
    _map_over(mapping, descriptor, offset, length, flags)
    return mapping


def _map_over(mapping: mmap.mmap, descriptor: int, offset: int, length: int, flags: int) -> None:
    import ctypes  # noqa: PLC0415 - needed for large results only

    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    if _libc_mmap()(address, length, _PROTECTION, flags | _MAP_FIXED, descriptor, offset) != address:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap of {length} bytes: {os.strerror(number)}")


@functools.cache
def _libc_mmap() -> Any:
    import ctypes  # noqa: PLC0415 - see above

    function = ctypes.CDLL(None, use_errno=True).mmap
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    function.restype = ctypes.c_void_p
    return function
