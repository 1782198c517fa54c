"""Mapping parts of a segment as memory, without keeping a descriptor for each part.

Comes in: the descriptor of a segment, an offset, a length. Goes out: a `memoryview` whose mapping ends with the last
object on it. A caller may hold thousands of results with arrays in them; Python's own mapping of a file keeps a
duplicate of its descriptor until 3.13, and a process has a thousand descriptors as a rule.
"""

from __future__ import annotations

import functools
import mmap
import os
import sys
from typing import Any, Final

__all__ = ["map_part"]

_PROTECTION: Final = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED: Final = 0x10


class _Slice(mmap.mmap):
    """A shared mapping that gives its pages back when the last array on it dies.

    Without this one small array kept from a large result would keep the whole segment. Only the process that
    mapped it gives pages back: a forked copy that dies must not empty its parent's array.
    """

    owner_pid = 0

    def __del__(self) -> None:
        if not self.closed and self.owner_pid == os.getpid():
            self.madvise(mmap.MADV_REMOVE)


def map_part(descriptor: int, offset: int, length: int, *, private: bool) -> memoryview:
    """Map a part of a segment.

    Args:
        descriptor: the segment; may be closed afterwards.
        offset: where the part begins; a multiple of the page size.
        length: bytes, more than 0.
        private: copy-on-write; else shared, and the part's pages are freed with the mapping.

    Raises:
        OSError: if the kernel refuses, for instance because the process has too many mappings.
    """
    if private:
        return memoryview(_mapped(mmap.mmap, descriptor, offset, length, mmap.MAP_PRIVATE))
    mapping = _mapped(_Slice, descriptor, offset, length, mmap.MAP_SHARED)
    mapping.owner_pid = os.getpid()
    return memoryview(mapping)


def _mapped(kind: Any, descriptor: int, offset: int, length: int, flags: int) -> Any:
    if sys.version_info >= (3, 13):
        return kind(descriptor, length, flags, _PROTECTION, offset=offset, trackfd=False)
    # Python owns an empty mapping, for which it keeps no descriptor, and the kernel puts the segment in its place.
    # A shared one: a private one would count against RLIMIT_DATA.
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
