"""Formulas and their names: what sympy makes of a transformation or a combination, remembered for the process.

Comes in: formulas of parents. Goes out: a formula and its text, which is the new column's name. sympy simplifies while
it builds, so two ways to the same formula have one name; that is how a candidate that was there before is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import Any, Final

import sympy

__all__ = ["combine", "is_sum", "start_symbols", "transform"]

# One fit of ten columns in two steps makes 1800. Each is some kilobytes, most of which the fit's own formulas share.
_REMEMBERED: Final = 4096

_TRANSFORMATIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "exp": sympy.exp,
    "exp-": lambda x: sympy.exp(-x),
    "log": sympy.log,
    "abs": sympy.Abs,
    "sqrt": sympy.sqrt,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "2^": lambda x: 2**x,
    "^2": lambda x: x**2,
    "^3": lambda x: x**3,
    "1+": lambda x: 1 + x,
    "1-": lambda x: 1 - x,
    "1/": lambda x: 1 / x,
}
_COMBINATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "x+y": lambda x, y: x + y,
    "x*y": lambda x, y: x * y,
    "x-y": lambda x, y: x - y,
    "y-x": lambda x, y: y - x,
}


def start_symbols(labels: Iterable[Hashable]) -> dict[Any, sympy.Expr]:
    """Return a real symbol for each label, named by its letters, digits and underscores; two may share one."""
    return {label: sympy.Symbol(_cleaned(label, place), real=True) for place, label in enumerate(labels)}


def _cleaned(label: Hashable, place: int) -> str:
    name = re.sub(r"\W+", "", str(label))
    if not name:
        return f"x{place:03}"
    return f"x{name}" if name[0].isdigit() else name


@lru_cache(maxsize=_REMEMBERED)
def transform(operation: str, formula: sympy.Expr) -> tuple[sympy.Expr, str]:
    """Return a transformed formula and its text."""
    made = _TRANSFORMATIONS[operation](formula)
    return made, str(made)


@lru_cache(maxsize=_REMEMBERED)
def combine(operation: str, one: sympy.Expr, two: sympy.Expr) -> tuple[sympy.Expr, str]:
    """Return a combined formula and its text."""
    made = _COMBINATIONS[operation](one, two)
    return made, str(made)


def is_sum(formula: sympy.Expr) -> bool:
    """Return whether a formula is a sum at its highest level."""
    return bool(formula.func is sympy.Add)
