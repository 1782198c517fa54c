"""Leaks 700 bytes of the interpreter's raw allocator, which nobody frees."""

import ctypes

TRUTH = {"leaks": True, "kind": "native", "bytes": 700, "names": []}

_take = ctypes.pythonapi.PyMem_RawMalloc
_take.argtypes, _take.restype = [ctypes.c_size_t], ctypes.c_void_p


def iteration(number: int) -> None:
    """Take and write."""
    place = _take(700)
    ctypes.memset(place, number % 251, 700)
