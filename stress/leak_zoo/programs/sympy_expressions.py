"""Simplifies ever new expressions; sympy's caches are bounded, and fill."""

import sympy

TRUTH = {"leaks": False, "slow": True}
X = sympy.Symbol("x")


def iteration(number: int) -> None:
    """Expand something new."""
    sympy.expand((X + number) ** 3 - X * number)
