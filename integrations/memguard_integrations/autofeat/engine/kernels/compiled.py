"""The arithmetic on whole columns, as numba compiles it. Only loaded where there is no machine code to be had yet.

Comes in: float32 columns. Goes out: the values of a candidate with the bits that autofeat's compiled formulas give it,
and the sums from which its variance and correlations follow. Values and sums are made block by block in one pass; the
values by code that may not be rearranged, the sums by code that may, since a guard band allows for any order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from memguard_integrations.autofeat.engine.columns import Floats
from memguard_integrations.autofeat.engine.kernels.operations import BLOCK_ROWS, FIRST_COMBINATION

__all__ = ["CompiledAtAddresses", "for_addresses", "for_arrays"]

_ZERO: Final = np.float32(0)
_ONE: Final = np.float32(1)
# Sums may be taken in any order and with fused multiplication; infinities and NaN keep their meaning.
_SUMMING: Final = {"reassoc", "contract", "nsz"}

# What is only read may also be a view that cannot be written to.
_CODE, _NUMBER = numba.types.int64, numba.types.float64
_READ = numba.types.Array(numba.types.float32, 1, "C", readonly=True)
_TABLE = numba.types.float32[:, ::1]
_WRITTEN, _CODES, _NUMBERS = numba.types.float32[::1], _CODE[::1], _NUMBER[::1]
_NOTHING, _FLOATS_AT, _CODES_AT, _NUMBERS_AT = (
    numba.types.void,
    *(numba.types.CPointer(each) for each in (numba.types.float32, _CODE, _NUMBER)),  # type: ignore[no-untyped-call]
)
_SETTINGS: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy"}

_Function = TypeVar("_Function", bound=Callable[..., Any])
Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]


def _part(**options: Any) -> Callable[[_Function], _Function]:
    """Compile as a part of others, when one of them is compiled."""

    def compiled(function: _Function) -> _Function:
        return numba.njit(**_SETTINGS, **options)(function)  # type: ignore[no-any-return]

    return compiled


@_part()
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


@_part(fastmath=_SUMMING)
def _mean(values: Floats) -> Any:
    total: Any = 0.0
    for i in range(len(values)):
        total += np.float64(values[i])
    return total / max(1, len(values))


@_part(fastmath=_SUMMING)
def _sums_with_one(values: Floats, x: Floats, shift: Any, mean_x: float) -> Any:
    first = second = with_x = 0.0
    for i in range(len(values)):
        value = np.float64(values[i]) - shift
        first += value
        second += value * value
        with_x += value * (np.float64(x[i]) - mean_x)
    return first, second, with_x


@_part(fastmath=_SUMMING)
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


@_part()
def _candidate(  # noqa: PLR0917
    operation: int, x: Floats, y: Floats, mean_x: float, mean_y: float, out: Floats, sums: Numbers
) -> None:
    rows = out.size
    shift = 0.0
    first = second = with_x = with_y = 0.0
    for start in range(0, rows, BLOCK_ROWS):
        stop = min(rows, start + BLOCK_ROWS)
        values, of_x, of_y = out[start:stop], x[start:stop], y[start:stop]
        _values(operation, of_x, of_y, values)
        if start == 0:
            shift = _mean(values)
        if operation < FIRST_COMBINATION:
            a, b, c = _sums_with_one(values, of_x, shift, mean_x)
        else:
            a, b, c, d = _sums_with_two(values, of_x, of_y, shift, mean_x, mean_y)
            with_y += d
        first += a
        second += b
        with_x += c
        if not np.isfinite(first):
            sums[5] = 0.0
            return
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = shift, first, second, with_x, with_y, 1.0


@_part(fastmath=_SUMMING)
def _product_with_one(block: Floats, other: Floats) -> Any:
    total: Any = _ZERO
    for i in range(len(block)):
        total += block[i] * other[i]
    return total


@_part(fastmath=_SUMMING)
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


@_part()
def _against(  # noqa: PLR0917
    values: Floats, chosen: Codes, shifts: Floats, references: Floats, products: Numbers, block: Floats
) -> None:
    rows, count = values.shape[1], references.shape[0]
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


@_part()
def _profile(values: Floats, told: Numbers) -> None:
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


@_part()
def _candidate_at(  # noqa: PLR0917
    operation: int, x: Any, y: Any, rows: int, mean_x: float, mean_y: float, out: Any, sums: Any
) -> None:
    values = carray(out, rows)
    _candidate(operation, carray(x, rows), carray(y, rows), mean_x, mean_y, values, carray(sums, 6))


@_part()
def _against_at(  # noqa: PLR0917
    values: Any, count: int, rows: int, chosen: Any, asked: int, shifts: Any, references: Any, others: int,
    products: Any, block: Any,
) -> None:  # fmt: skip
    _against(
        carray(values, (count, rows)),
        carray(chosen, asked),
        carray(shifts, count),
        carray(references, (others, rows)),
        carray(products, (count, others)),
        carray(block, BLOCK_ROWS),
    )


@_part()
def _profile_at(values: Any, rows: int, told: Any) -> None:
    _profile(carray(values, rows), carray(told, 5))


_ARRAYS: Final[dict[str, tuple[Any, Any]]] = {
    "candidate": (_candidate, _NOTHING(_CODE, _READ, _READ, _NUMBER, _NUMBER, _WRITTEN, _NUMBERS)),
    "against": (_against, _NOTHING(_TABLE, _CODES, _WRITTEN, _TABLE, _NUMBER[:, ::1], _WRITTEN)),
    "profile": (_profile, _NOTHING(_READ, _NUMBERS)),
}
_ADDRESSES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "candidate": (
        _candidate_at,
        (_CODE, _FLOATS_AT, _FLOATS_AT, _CODE, _NUMBER, _NUMBER, _FLOATS_AT, _NUMBERS_AT),
    ),
    "against": (
        _against_at,
        (_FLOATS_AT, _CODE, _CODE, _CODES_AT, _CODE, _FLOATS_AT, _FLOATS_AT, _CODE, _NUMBERS_AT, _FLOATS_AT),
    ),
    "profile": (_profile_at, (_FLOATS_AT, _CODE, _NUMBERS_AT)),
}


@dataclass(frozen=True, slots=True)
class CompiledAtAddresses:
    """A kernel that takes addresses.

    Attributes:
        symbol: its name in the module.
        library: numba's, which has the module.
    """

    symbol: str
    library: Any


def for_arrays() -> dict[str, Callable[..., None]]:
    """Return the kernels as functions of arrays, by name, compiled by numba or from numba's own files."""
    return {name: _of_arrays(part.py_func, signature) for name, (part, signature) in _ARRAYS.items()}


def _of_arrays(function: Callable[..., None], signature: Any) -> Callable[..., None]:
    try:
        return numba.njit(signature, cache=True, **_SETTINGS)(function)  # type: ignore[no-any-return]
    except (OSError, RuntimeError):
        # No directory for compiled code can be written to, or it is full: compile for this process alone.
        return numba.njit(signature, **_SETTINGS)(function)  # type: ignore[no-any-return]


def for_addresses() -> dict[str, CompiledAtAddresses]:
    """Return the kernels as functions of addresses and lengths, by name."""
    found = {}
    for name, (part, arguments) in _ADDRESSES.items():
        part.compile(arguments)
        result = part.overloads[arguments]
        found[name] = CompiledAtAddresses(result.fndesc.llvm_func_name, result.library)
    return found
