"""Leaks 200 bytes of malloc an iteration, which no Python object knows."""

import ctypes

TRUTH = {"leaks": True, "kind": "native", "bytes": 208, "names": []}
LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]


def iteration(number: int) -> None:
    """Allocate and forget."""
    ctypes.memset(LIBC.malloc(200), number % 256, 200)
