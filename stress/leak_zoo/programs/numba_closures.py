"""Leaks the machine code of a function that is compiled anew each time."""

import numba

TRUTH = {"leaks": True, "kind": "native", "bytes": 300_000, "names": [], "slow": True, "source": "numba"}


def iteration(number: int) -> None:
    """Compile for one call."""
    factor = number + 0.5

    def scale(value: float) -> float:
        return value * factor

    numba.njit(scale)(2.0)
