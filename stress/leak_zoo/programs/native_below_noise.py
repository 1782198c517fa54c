"""Leaks 40 KB of malloc an iteration beside temporary arrays of megabytes."""

import ctypes

import numpy as np

TRUTH = {"leaks": True, "kind": "native", "bytes": 40_000, "names": []}
LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]
CHANCE = np.random.default_rng(6)
LATEST: list[np.ndarray] = []


def iteration(number: int) -> None:
    """Keep the latest table, of a random size, and forget a buffer."""
    LATEST[:] = [CHANCE.random(int(CHANCE.integers(1_000, 60_000)))]
    ctypes.memset(LIBC.malloc(40_000), number % 256, 40_000)
