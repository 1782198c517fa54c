"""Leaks a list an iteration as a faulty extension does: one reference is never given back."""

import ctypes

TRUTH = {"leaks": True, "kind": "python", "bytes": 4_100, "names": ["list", "Row"]}


class Row(list):  # type: ignore[type-arg]
    """A row of numbers."""


def iteration(number: int) -> None:
    """Count one reference too many."""
    row = Row([number] * 500)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(row))
