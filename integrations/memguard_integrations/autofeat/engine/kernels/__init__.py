"""The arithmetic on whole columns: compiled once for a machine, and never for a call.

Comes in: float32 columns. Goes out: the values of a candidate with the bits that autofeat's compiled formulas give it,
and the sums from which its variance and correlations follow. Values and sums are made block by block in one pass; the
values by code that may not be rearranged, the sums by code that may, since a guard band allows for any order. What is
computed stands in compiled.py, how its machine code is kept and found again in machine_code.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.columns import Floats
from memguard_integrations.autofeat.engine.kernels import machine_code
from memguard_integrations.autofeat.engine.kernels.addresses import SUMS, of_addresses
from memguard_integrations.autofeat.engine.kernels.operations import BLOCK_ROWS

__all__ = ["SUMS", "against", "candidate", "load", "profile"]

Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]


def candidate(  # noqa: PLR0917
    operation: int, x: Floats, y: Floats, mean_x: float, mean_y: float, out: Floats, sums: Numbers
) -> None:
    """Compute a candidate and its sums in one pass.

    Args:
        operation: its code in `operations.OPERATIONS`.
        x: first parent, shape (rows,).
        y: second parent; for a transformation the first again, and not looked at.
        mean_x: mean of ``x``.
        mean_y: mean of ``y``.
        out: gets the values, shape (rows,); undefined behind the first block that has one which is not finite.
        sums: gets, in double: a shift K near the mean, then the sums of v - K, (v - K)^2, (v - K)(x - mean_x) and
            (v - K)(y - mean_y); and 1 if all values are finite, else 0, and nothing else then. A double sum of finite
            floats is finite, so one sum tells.
    """
    _kernels()["candidate"](operation, x, y, mean_x, mean_y, out, sums)


def against(values: Floats, chosen: Codes, shifts: Floats, references: Floats, products: Numbers) -> None:
    """Sum the products of several candidates with all reference columns, block by block.

    A block's sums are taken in float32, which is twice as fast as in double, and added up in double.

    Args:
        values: candidates, shape (candidates, rows).
        chosen: which of them.
        shifts: what is taken off each candidate's values, shape (candidates,).
        references: shape (references, rows).
        products: gets the sums, shape (candidates, references).
    """
    block = np.empty(BLOCK_ROWS, dtype=np.float32)
    _kernels()["against"](values, chosen, shifts, references, products, block)


def profile(values: Floats, told: Numbers) -> None:
    """Look through a column once for what decides which transformations it may have.

    Args:
        values: shape (rows,).
        told: gets the number of different values (3 for three or more; zeros are one value, NaN are one), whether
            there is a NaN, whether there is a zero, the least and the greatest value (NaN aside; 0 if there is none).
    """
    _kernels()["profile"](values, told)


def load() -> None:
    """Load the machine code now, as the first use does."""
    _kernels()


@cache
def _kernels() -> dict[str, Callable[..., None]]:
    functions = machine_code.functions()
    if functions is not None:
        return of_addresses(functions)
    from memguard_integrations.autofeat.engine.kernels import compiled  # noqa: PLC0415 - loads numba

    return compiled.for_arrays()
