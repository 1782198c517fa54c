"""Leaks nothing: pieces of random sizes from malloc, of which two hundred are held at a time."""

import ctypes
import random

TRUTH = {"leaks": False}

LIBC = ctypes.CDLL(None)
LIBC.malloc.argtypes, LIBC.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
LIBC.free.argtypes = [ctypes.c_void_p]
NUMBERS = random.Random(11)
HELD = [LIBC.malloc(100) for _ in range(200)]


def iteration(number: int) -> None:
    """Exchange forty of them."""
    for _ in range(40):
        place = NUMBERS.randrange(200)
        LIBC.free(HELD[place])
        HELD[place] = LIBC.malloc(NUMBERS.randint(16, 4000))
