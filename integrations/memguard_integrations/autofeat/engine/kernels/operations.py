"""What the kernels can compute, by name and code, and in blocks of how many rows."""

from __future__ import annotations

from typing import Final

__all__ = ["BLOCK_ROWS", "COMBINATIONS", "FIRST_COMBINATION", "OPERATIONS", "TRANSFORMATIONS"]

# Names of operations, in the order of the branches in `compiled._values`.
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

FIRST_COMBINATION: Final = len(TRANSFORMATIONS)
# Rows to a block: a few columns of it stay in the first cache, and vector code has no remainder but in the last one. A
# block is handed on as slices, which are gone through from 0; any other index would be checked for being negative.
BLOCK_ROWS: Final = 1024
