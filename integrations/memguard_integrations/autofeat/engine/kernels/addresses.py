"""Kernels that take addresses, as functions of arrays: each array is looked at first, for code at an address cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import byref, c_void_p
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.columns import Floats
from memguard_integrations.autofeat.engine.kernels.operations import BLOCK_ROWS

__all__ = ["SUMS", "of_addresses"]

# How many numbers a candidate is told by.
SUMS: Final = 6

Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]


def of_addresses(functions: dict[str, Callable[..., int]]) -> dict[str, Callable[..., None]]:
    """Return functions of arrays that call such of addresses and lengths."""

    def candidate(  # noqa: PLR0917
        operation: int, x: Floats, y: Floats, mean_x: float, mean_y: float, out: Floats, sums: Numbers
    ) -> None:
        at_x, at_y, at_out = _addresses((x, y, out), np.float32, x.shape)
        (at_sums,) = _addresses((sums,), np.float64, (SUMS,))
        _call(functions["candidate"], operation, at_x, at_y, len(x), mean_x, mean_y, at_out, at_sums)

    def against(  # noqa: PLR0917
        values: Floats, chosen: Codes, shifts: Floats, references: Floats, products: Numbers, block: Floats
    ) -> None:
        (count, rows), others = values.shape, len(references)
        (at_values,) = _addresses((values,), np.float32, (count, rows))
        (at_chosen,) = _addresses((chosen,), np.int64, chosen.shape)
        (at_shifts,) = _addresses((shifts,), np.float32, (count,))
        (at_references,) = _addresses((references,), np.float32, (others, rows))
        (at_products,) = _addresses((products,), np.float64, (count, others))
        (at_block,) = _addresses((block,), np.float32, (BLOCK_ROWS,))
        _call(
            functions["against"], at_values, count, rows, at_chosen, len(chosen), at_shifts, at_references, others,
            at_products, at_block,
        )  # fmt: skip

    def profile(values: Floats, told: Numbers) -> None:
        (at_values,) = _addresses((values,), np.float32, values.shape)
        (at_told,) = _addresses((told,), np.float64, (5,))
        _call(functions["profile"], at_values, len(values), at_told)

    return {"candidate": candidate, "against": against, "profile": profile}


def _addresses(arrays: Sequence[Any], kind: Any, shape: tuple[int, ...]) -> list[int]:
    """Return where arrays begin.

    Raises:
        TypeError: one is of another type or shape, or not in one piece: behind it would be read and written.
    """
    for each in arrays:
        if each.dtype != kind or each.shape != shape or not each.flags.c_contiguous:
            given = f"{each.dtype} of {each.shape}"
            raise TypeError(f"a kernel takes {np.dtype(kind)} of {shape} in one piece, and was given {given}")
    return [each.__array_interface__["data"][0] for each in arrays]


def _call(function: Callable[..., int], *arguments: float) -> None:
    """Call as numba does: a place for the result, which is none, and one for an error, which there cannot be."""
    nothing, error = c_void_p(), c_void_p()
    status = function(byref(nothing), byref(error), *arguments)
    if status:
        raise RuntimeError(f"a kernel ended with {status}")
