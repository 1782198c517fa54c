"""Formulas as small programs for numpy: what a fitted model evaluates, pickles and loads without compiling.

AutoFeat's own ``transform`` hands each formula to numba, which compiles it anew in every process. A program is
the same expression in postfix form, evaluated by numpy one operation at a time in float64. It repeats the
operations that numba's code does, in the same order, so that the results are the same bits wherever numpy takes
``exp``, ``log``, ``sin``, ``cos`` and ``pow`` from the C library, as numba does; where numpy has its own code for
them (processors with AVX-512), each of these operations can differ in the last bit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Instruction", "Program"]

Values: TypeAlias = NDArray[np.float64]
Instruction: TypeAlias = tuple[str, float | int]
"""What to do and with what: ("load", argument), ("const", value), ("power", whole exponent), (function, 0)."""

_ONE: Final[dict[str, Callable[[Any], Any]]] = {
    "neg": np.negative,
    "abs": np.abs,
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
}
_TWO: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    # The operator and not np.power: it takes squares, roots and reciprocals as such.
    "pow": operator.pow,
}


@dataclass(frozen=True, slots=True)
class Program:
    """An expression in postfix form over some arguments.

    Attributes:
        code: the instructions in the order of their execution; they leave one value.
        arity: how many arguments the program takes, >= 1.
    """

    code: tuple[Instruction, ...]
    arity: int

    def __call__(self, *arguments: Values) -> Values:
        """Evaluate for arrays of equal shape; what is outside a function's domain is nan or infinite.

        Args:
            arguments: ``arity`` float64 arrays of shape (n_rows,).

        Returns:
            A new float64 array of shape (n_rows,).
        """
        stack: list[Any] = []
        with np.errstate(all="ignore"):
            for name, operand in self.code:
                _step(stack, name, operand, arguments)
        return np.array(np.broadcast_to(stack.pop(), arguments[0].shape), dtype=np.float64)


def _step(stack: list[Any], name: str, operand: float | int, arguments: tuple[Values, ...]) -> None:
    if name == "load":
        stack.append(arguments[int(operand)])
    elif name == "const":
        stack.append(operand)
    elif name == "power":
        stack.append(_whole_power(stack.pop(), int(operand)))
    elif name in _TWO:
        right = stack.pop()
        stack.append(_TWO[name](stack.pop(), right))
    else:
        stack.append(_ONE[name](stack.pop()))


def _whole_power(base: Any, exponent: int) -> Any:
    """Raise to a positive whole number by squaring, in the order of numba's code for a constant exponent."""
    result = None
    while True:
        if exponent & 1:
            result = base if result is None else result * base
        exponent >>= 1
        if not exponent:
            return result
        base = base * base
