"""Leaks 20 KB of malloc at every tenth iteration."""

import ctypes

TRUTH = {"leaks": True, "kind": "native", "bytes": 2_000, "names": []}
LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]


def iteration(number: int) -> None:
    """Forget a buffer now and then."""
    if number % 10 == 3:
        ctypes.memset(LIBC.malloc(20_000), 7, 20_000)
