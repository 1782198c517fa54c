"""Leaks 3 MiB of malloc an iteration."""

import ctypes

TRUTH = {"leaks": True, "kind": "native", "bytes": 3_145_728, "names": []}
LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]


def iteration(number: int) -> None:
    """Allocate, use and forget."""
    ctypes.memset(LIBC.malloc(3 << 20), number % 256, 3 << 20)
