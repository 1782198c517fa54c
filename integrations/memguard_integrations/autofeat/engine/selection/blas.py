"""Products of blocks added to sums in place, by BLAS and without the interpreter's lock.

SciPy's Python functions of the same names keep the lock while BLAS works, so threads would take turns. SciPy also
hands out the addresses of the routines, for compiled code; called through ctypes they leave the lock to others.
Where their arguments are of other types than here, as with a BLAS of 64-bit integers, SciPy's own functions are called.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_double, c_int, c_void_p
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, cython_blas

__all__ = ["add_cross", "add_own"]

Matrix = NDArray[np.float64]


# What each kind of argument is a pointer to, as SciPy writes it: Cython names its double "...cython_blas_d".
_WRITTEN: Final = {"c": ("char *",), "i": ("int *",), "d": ("double *", "cython_blas_d *")}


def _routine(name: str, kinds: str) -> Any:
    """Return a routine of BLAS, or ``None`` if its arguments are not what they are taken for."""
    # Handles of our own: the attributes of `ctypes.pythonapi` are everybody's.
    python = ctypes.PyDLL(None)
    name_of, address_of = python.PyCapsule_GetName, python.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    address_of.restype, address_of.argtypes = c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = cython_blas.__pyx_capi__[name]
    signature = name_of(capsule)
    if not _takes(signature.decode(), kinds):
        return None
    return ctypes.CFUNCTYPE(None, *[c_void_p] * len(kinds))(address_of(capsule, signature))


def _takes(signature: str, kinds: str) -> bool:
    result, _, arguments = signature.removesuffix(")").partition(" (")
    pointers = arguments.split(", ")
    return (
        result == "void"
        and len(pointers) == len(kinds)
        and all(_is_written(each, kind) for each, kind in zip(pointers, kinds, strict=True))
    )


def _is_written(pointer: str, kind: str) -> bool:
    return pointer.endswith(_WRITTEN[kind]) if kind == "d" else pointer in _WRITTEN[kind]


_dsyrk = _routine("dsyrk", "cciiddiddi")
_dgemm = _routine("dgemm", "cciiiddididdi")
_ONE = c_double(1.0)


def add_own(products: Matrix, values: Matrix) -> None:
    """Add values @ values.T to the upper triangle, in place.

    Args:
        products: shape (n, n), Fortran order.
        values: shape (n, rows), C order.

    Raises:
        ValueError: one of them is of another kind.
    """
    _require(products, (len(values), len(values)), values)
    if _dsyrk is None:
        if values.size:  # SciPy refuses matrices that are empty
            blas.dsyrk(1.0, values.T, beta=1.0, c=products, trans=1, overwrite_c=1)
        return
    size, rows = c_int(len(values)), c_int(values.shape[1])
    # To BLAS, which goes through columns, `values` is its own transpose.
    _dsyrk(
        b"U",
        b"T",
        *_at(size, rows, _ONE),
        _of(values),
        byref(_led(rows)),
        byref(_ONE),
        _of(products),
        byref(_led(size)),
    )


def add_cross(products: Matrix, left: Matrix, right: Matrix) -> None:
    """Add left @ right.T in place.

    Args:
        products: shape (n, m), Fortran order.
        left: shape (n, rows), C order.
        right: shape (m, rows), C order.

    Raises:
        ValueError: one of them is of another kind.
    """
    _require(products, (len(left), len(right)), left, right)
    if _dgemm is None:
        if left.size and right.size:
            blas.dgemm(1.0, left.T, right.T, beta=1.0, c=products, trans_a=1, overwrite_c=1)
        return
    n, m, rows = c_int(len(left)), c_int(len(right)), c_int(left.shape[1])
    _dgemm(
        b"T",
        b"N",
        *_at(n, m, rows, _ONE),
        _of(left),
        byref(_led(rows)),
        _of(right),
        byref(_led(rows)),
        byref(_ONE),
        _of(products),
        byref(_led(n)),
    )


def _require(products: Matrix, shape: tuple[int, int], *blocks: Matrix) -> None:
    """Raise for what BLAS would take for something else, or write beyond."""
    rows = blocks[0].shape[1]
    fits = products.shape == shape and products.flags.f_contiguous and products.flags.writeable
    alike = all(each.flags.c_contiguous and each.shape[1] == rows for each in blocks)
    if not (fits and alike and all(each.dtype == np.float64 for each in (products, *blocks))):
        raise ValueError("BLAS takes float64 blocks in C order and sums of their shape in Fortran order")


def _at(*values: Any) -> tuple[Any, ...]:
    return tuple(byref(value) for value in values)


def _led(size: c_int) -> c_int:
    """Return a distance between columns: BLAS wants 1 at least, also where there are none."""
    return c_int(max(1, size.value))


def _of(matrix: Matrix) -> int:
    return int(matrix.ctypes.data)
