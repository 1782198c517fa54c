"""Leaks 64 KiB of mapped memory an iteration, past malloc."""

import ctypes

TRUTH = {"leaks": True, "kind": "mapping", "bytes": 65536, "names": []}
LIBC = ctypes.CDLL(None)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]


def iteration(number: int) -> None:
    """Map private anonymous memory (PROT 3, MAP_PRIVATE | MAP_ANONYMOUS), use and forget it."""
    ctypes.memset(LIBC.mmap(None, 65536, 3, 0x22, -1, 0), number % 256, 65536)
