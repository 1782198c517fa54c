"""The arithmetic on whole columns, compiled once and kept on disk: nothing is compiled for a call.

Comes in: float32 columns. Goes out: the values of a candidate with the bits that autofeat's compiled formulas give it,
and the sums from which its variance and correlations follow. Values and sums are made block by block in one pass; the
values by code that may not be rearranged, the sums by code that may, since a guard band allows for any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.columns import Floats

__all__ = ["BLOCK_ROWS", "COMBINATIONS", "OPERATIONS", "TRANSFORMATIONS", "against", "candidate", "profile"]

# Names of operations, in the order of the branches in `_values`.
TRANSFORMATIONS: Final = (
    "exp",
    "exp-",
    "log",
    "abs",
    "sqrt",
    "sin",
    "cos",
    "2^",
    "^2",
    "^3",
    "1+",
    "1-",
    "1/",
)
COMBINATIONS: Final = ("x+y", "x*y", "x-y", "y-x")
OPERATIONS: Final = {name: code for code, name in enumerate((*TRANSFORMATIONS, *COMBINATIONS))}

_FIRST_COMBINATION: Final = len(TRANSFORMATIONS)
# Rows to a block: a few columns of it stay in the first cache, and vector code has no remainder but in the last one. A
# block is handed on as slices, which are gone through from 0; any other index would be checked for being negative.
BLOCK_ROWS: Final = 1024
_ZERO: Final = np.float32(0)
_ONE: Final = np.float32(1)
# Sums may be taken in any order and with fused multiplication; infinities and NaN keep their meaning.
_SUMMING: Final = {"reassoc", "contract", "nsz"}

# What is only read may also be a view that cannot be written to.
_FLAG, _CODE, _NUMBER = numba.types.boolean, numba.types.int64, numba.types.float64
_READ = numba.types.Array(numba.types.float32, 1, "C", readonly=True)
_TABLE = numba.types.float32[:, ::1]
_WRITTEN, _CODES, _NUMBERS = numba.types.float32[::1], _CODE[::1], _NUMBER[::1]

_Function = TypeVar("_Function", bound=Callable[..., Any])
Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]


def _compiled(signature: Any, **options: Any) -> Callable[[_Function], _Function]:
    """Compile once for one signature, from the disk where that can be had; ``None`` for a part of others."""

    def compiled(function: _Function) -> _Function:
        settings = {"nogil": True, "error_model": "numpy", **options}
        if signature is None:
            return numba.njit(**settings)(function)  # type: ignore[no-any-return]
        try:
            return numba.njit(signature, cache=True, **settings)(function)  # type: ignore[no-any-return]
        except (OSError, RuntimeError):
            # No directory for compiled code can be written to, or it is full: compile for this process alone.
            return numba.njit(signature, **settings)(function)  # type: ignore[no-any-return]

    return compiled


@_compiled(None)
def _values(operation: int, x: Floats, y: Floats, out: Floats) -> None:  # noqa: C901, PLR0912
    """Compute rows of a candidate as autofeat's compiled formulas do: each step rounded to float32."""
    if operation == 0:
        for i in range(len(out)):
            out[i] = np.exp(x[i])
    elif operation == 1:
        for i in range(len(out)):
            out[i] = np.exp(-x[i])
    elif operation == 2:
        for i in range(len(out)):
            out[i] = np.log(x[i])
    elif operation == 3:
        for i in range(len(out)):
            out[i] = np.abs(x[i])
    elif operation == 4:
        for i in range(len(out)):
            out[i] = np.sqrt(x[i])
    elif operation == 5:
        for i in range(len(out)):
            out[i] = np.sin(x[i])
    elif operation == 6:
        for i in range(len(out)):
            out[i] = np.cos(x[i])
    elif operation == 7:
        for i in range(len(out)):
            # In double, and rounded once: the one of the transformations whose formula numba promotes.
            out[i] = np.float32(np.power(2.0, np.float64(x[i])))
    elif operation == 8:
        for i in range(len(out)):
            out[i] = x[i] * x[i]
    elif operation == 9:
        for i in range(len(out)):
            out[i] = (x[i] * x[i]) * x[i]
    elif operation == 10:
        for i in range(len(out)):
            out[i] = x[i] + _ONE
    elif operation == 11:
        for i in range(len(out)):
            out[i] = _ONE - x[i]
    elif operation == 12:
        for i in range(len(out)):
            # A double quotient of floats, rounded, is the float quotient: double has more than twice the digits.
            out[i] = np.float32(1.0 / np.float64(x[i]))
    elif operation == 13:
        for i in range(len(out)):
            out[i] = x[i] + y[i]
    elif operation == 14:
        for i in range(len(out)):
            out[i] = x[i] * y[i]
    elif operation == 15:
        for i in range(len(out)):
            out[i] = x[i] - y[i]
    else:
        for i in range(len(out)):
            out[i] = y[i] - x[i]


@_compiled(None, fastmath=_SUMMING)
def _mean(values: Floats) -> Any:
    total: Any = 0.0
    for i in range(len(values)):
        total += np.float64(values[i])
    return total / max(1, len(values))


@_compiled(None, fastmath=_SUMMING)
def _sums_with_one(values: Floats, x: Floats, shift: Any, mean_x: float) -> Any:
    first = second = with_x = 0.0
    for i in range(len(values)):
        value = np.float64(values[i]) - shift
        first += value
        second += value * value
        with_x += value * (np.float64(x[i]) - mean_x)
    return first, second, with_x


@_compiled(None, fastmath=_SUMMING)
def _sums_with_two(  # noqa: PLR0917
    values: Floats, x: Floats, y: Floats, shift: Any, mean_x: float, mean_y: float
) -> Any:
    first = second = with_x = with_y = 0.0
    for i in range(len(values)):
        value = np.float64(values[i]) - shift
        first += value
        second += value * value
        with_x += value * (np.float64(x[i]) - mean_x)
        with_y += value * (np.float64(y[i]) - mean_y)
    return first, second, with_x, with_y


@_compiled(_FLAG(_CODE, _READ, _READ, _NUMBER, _NUMBER, _WRITTEN, _NUMBERS))
def candidate(  # noqa: PLR0917
    operation: int, x: Floats, y: Floats, mean_x: float, mean_y: float, out: Floats, sums: Numbers
) -> bool:
    """Compute a candidate and its sums in one pass.

    Args:
        operation: its code in `OPERATIONS`.
        x: first parent, shape (rows,).
        y: second parent; for a transformation the first again, and not looked at.
        mean_x: mean of ``x``.
        mean_y: mean of ``y``.
        out: gets the values, shape (rows,); undefined behind the first block that has one which is not finite.
        sums: gets, in double: a shift K near the mean, then the sums of v - K, (v - K)^2, (v - K)(x - mean_x) and
            (v - K)(y - mean_y).

    Returns:
        Whether all values are finite. A double sum of finite floats is finite, so one sum tells.
    """
    rows = out.size
    shift = 0.0
    first = second = with_x = with_y = 0.0
    for start in range(0, rows, BLOCK_ROWS):
        stop = min(rows, start + BLOCK_ROWS)
        values, of_x, of_y = out[start:stop], x[start:stop], y[start:stop]
        _values(operation, of_x, of_y, values)
        if start == 0:
            shift = _mean(values)
        if operation < _FIRST_COMBINATION:
            a, b, c = _sums_with_one(values, of_x, shift, mean_x)
        else:
            a, b, c, d = _sums_with_two(values, of_x, of_y, shift, mean_x, mean_y)
            with_y += d
        first += a
        second += b
        with_x += c
        if not np.isfinite(first):
            return False
    sums[0], sums[1], sums[2], sums[3], sums[4] = shift, first, second, with_x, with_y
    return True


@_compiled(None, fastmath=_SUMMING)
def _product_with_one(block: Floats, other: Floats) -> Any:
    total: Any = _ZERO
    for i in range(len(block)):
        total += block[i] * other[i]
    return total


@_compiled(None, fastmath=_SUMMING)
def _product_with_four(block: Floats, one: Floats, two: Floats, three: Floats, four: Floats) -> Any:
    a: Any = _ZERO
    b: Any = _ZERO
    c: Any = _ZERO
    d: Any = _ZERO
    for i in range(len(block)):
        value = block[i]
        a += value * one[i]
        b += value * two[i]
        c += value * three[i]
        d += value * four[i]
    return a, b, c, d


@_compiled(numba.types.void(_TABLE, _CODES, _WRITTEN, _TABLE, _NUMBER[:, ::1]))
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
    rows, count = values.shape[1], references.shape[0]
    block = np.empty(BLOCK_ROWS, dtype=np.float32)
    for each in chosen:
        products[each, :] = 0.0
    for start in range(0, rows, BLOCK_ROWS):
        stop = min(rows, start + BLOCK_ROWS)
        part = block[: stop - start]
        for each in chosen:
            source, shift = values[each, start:stop], shifts[each]
            for i in range(len(part)):
                part[i] = source[i] - shift
            sums = products[each]
            j = 0
            while j + 4 <= count:
                a, b, c, d = _product_with_four(
                    part,
                    references[j, start:stop],
                    references[j + 1, start:stop],
                    references[j + 2, start:stop],
                    references[j + 3, start:stop],
                )
                sums[j] += np.float64(a)
                sums[j + 1] += np.float64(b)
                sums[j + 2] += np.float64(c)
                sums[j + 3] += np.float64(d)
                j += 4
            while j < count:
                sums[j] += np.float64(_product_with_one(part, references[j, start:stop]))
                j += 1


@_compiled(numba.types.void(_READ, _NUMBERS))
def profile(values: Floats, told: Numbers) -> None:
    """Look through a column once for what decides which transformations it may have.

    Args:
        values: shape (rows,).
        told: gets the number of different values (3 for three or more; zeros are one value, NaN are one), whether
            there is a NaN, whether there is a zero, the least and the greatest value (NaN aside; 0 if there is none).
    """
    different, has_nan, has_zero, has_number = 0, False, False, False
    one, two = _ZERO, _ZERO
    least, greatest = _ZERO, _ZERO
    for value in values:
        if np.isnan(value):
            has_nan = True
            continue
        if value == 0:
            has_zero = True
        if not has_number:
            has_number = True
            different, one, least, greatest = 1, value, value, value
            continue
        least = min(least, value)
        greatest = max(greatest, value)
        if different == 1 and value != one:
            different, two = 2, value
        elif different == 2 and value != one and value != two:  # noqa: PLR1714 - for the compiler
            different = 3
    told[0] = min(3, different + has_nan)
    told[1], told[2], told[3], told[4] = has_nan, has_zero, least, greatest
